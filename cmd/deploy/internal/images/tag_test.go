package images

import (
	"os"
	"path/filepath"
	"testing"
)

// write makes files in a new folder; a name that ends in * gets the executable bit.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		mode := os.FileMode(0o644)
		if name[len(name)-1] == '*' {
			name, mode = name[:len(name)-1], 0o755
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func tag(t *testing.T, folder, base string, ingredients ...ingredient) string {
	t.Helper()
	got, err := contentTag(folder, base, ingredients)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestContentTag(t *testing.T) {
	folder := write(t, map[string]string{"Dockerfile": "FROM x", "config/a": "1", "run*": "#!/bin/sh"})
	program := ingredient{name: "program", identity: "sum1"}
	want := tag(t, folder, "base:1", program)

	same := map[string]string{
		"equal folder elsewhere": tag(t, write(t, map[string]string{
			"Dockerfile": "FROM x", "config/a": "1", "run*": "#!/bin/sh"}), "base:1", program),
		"Go source beside it": tag(t, write(t, map[string]string{
			"Dockerfile": "FROM x", "config/a": "1", "run*": "#!/bin/sh", "setup/main.go": "package main"}), "base:1", program),
	}
	for name, got := range same {
		t.Run(name+" is the same image", func(t *testing.T) {
			if got != want {
				t.Errorf("tag %s, want %s", got, want)
			}
		})
	}

	others := map[string]string{
		"base":       tag(t, folder, "base:2", program),
		"program":    tag(t, folder, "base:1", ingredient{name: "program", identity: "sum2"}),
		"no program": tag(t, folder, "base:1"),
		"content": tag(t, write(t, map[string]string{
			"Dockerfile": "FROM x", "config/a": "2", "run*": "#!/bin/sh"}), "base:1", program),
		"name": tag(t, write(t, map[string]string{
			"Dockerfile": "FROM x", "config/b": "1", "run*": "#!/bin/sh"}), "base:1", program),
		"executable bit": tag(t, write(t, map[string]string{
			"Dockerfile": "FROM x", "config/a": "1", "run": "#!/bin/sh"}), "base:1", program),
	}
	for name, got := range others {
		t.Run("another "+name+" is another image", func(t *testing.T) {
			if got == want {
				t.Error("same tag")
			}
		})
	}
}

func TestContentTagIgnoresTheUmaskOfACheckout(t *testing.T) {
	folder := write(t, map[string]string{"Dockerfile": "FROM x"})
	want := tag(t, folder, "base")
	if err := os.Chmod(filepath.Join(folder, "Dockerfile"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := tag(t, folder, "base"); got != want {
		t.Errorf("tag %s, want %s", got, want)
	}
}
