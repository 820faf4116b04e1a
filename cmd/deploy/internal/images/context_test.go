package images

import (
	"archive/tar"
	"errors"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"testing"
)

func TestBuildContextHoldsTheFolderAndTheIngredients(t *testing.T) {
	folder := write(t, map[string]string{"Dockerfile": "FROM x", "run*": "#!/bin/sh", "setup/main.go": "package main"})
	built := filepath.Join(write(t, map[string]string{"out": "ELF"}), "out")
	program := ingredient{name: "bin/program", mode: 0o755, file: func() (string, error) { return built, nil }}

	got := map[string]string{}
	modes := map[string]int64{}
	files := tar.NewReader(buildContext(folder, []ingredient{program}))
	for {
		head, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(files)
		if err != nil {
			t.Fatal(err)
		}
		got[head.Name], modes[head.Name] = string(content), head.Mode
	}
	want := map[string]string{"Dockerfile": "FROM x", "run": "#!/bin/sh", "bin/program": "ELF"}
	if !maps.Equal(got, want) {
		t.Errorf("context %v, want %v", got, want)
	}
	wantModes := map[string]int64{"Dockerfile": 0o644, "run": 0o755, "bin/program": 0o755}
	if !maps.Equal(modes, wantModes) {
		t.Errorf("modes %v, want %v", modes, wantModes)
	}
}

func TestBuildContextTellsWhyAnIngredientIsMissing(t *testing.T) {
	cause := errors.New("no compiler")
	broken := ingredient{name: "program", file: func() (string, error) { return "", cause }}
	_, err := io.ReadAll(buildContext(write(t, map[string]string{"Dockerfile": "FROM x"}), []ingredient{broken}))
	if !errors.Is(err, cause) {
		t.Errorf("error %v, want %v", err, cause)
	}
}

func TestEveryRecipeHasAFolderWithADockerfile(t *testing.T) {
	b := &builder{root: repository}
	for _, r := range recipes {
		files, err := contextFiles(b.folder(r))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(files, "Dockerfile") {
			t.Errorf("%s has %v and no Dockerfile", r.name, files)
		}
	}
}

const repository = "../../../.."
