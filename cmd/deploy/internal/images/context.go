package images

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// buildContext is the folder and the ingredients as the tar stream that docker build reads:
// nothing is copied on disk, and nothing else of the repository reaches the engine.
func buildContext(folder string, ingredients []ingredient) io.ReadCloser {
	read, write := io.Pipe()
	go func() { write.CloseWithError(writeContext(write, folder, ingredients)) }()
	return read
}

func writeContext(w io.Writer, folder string, ingredients []ingredient) error {
	out := tar.NewWriter(w)
	files, err := contextFiles(folder)
	if err != nil {
		return err
	}
	for _, path := range files {
		mode, content, err := contextFile(filepath.Join(folder, path))
		if err != nil {
			return err
		}
		if err := addFile(out, path, mode, content); err != nil {
			return err
		}
	}
	for _, i := range ingredients {
		if err := addIngredient(out, i); err != nil {
			return err
		}
	}
	return out.Close()
}

func addIngredient(out *tar.Writer, i ingredient) error {
	path, err := i.file()
	if err != nil {
		return err
	}
	content, err := os.ReadFile(path) // #nosec G304 -- a program this run has built
	if err != nil {
		return fmt.Errorf("read %s: %w", i.name, err)
	}
	return addFile(out, i.name, i.mode, content)
}

// addFile leaves the time at zero, so that the builder's cache sees equal files as equal.
func addFile(out *tar.Writer, name string, mode fs.FileMode, content []byte) error {
	head := &tar.Header{Name: name, Mode: int64(mode), Size: int64(len(content)), Typeflag: tar.TypeReg}
	if err := out.WriteHeader(head); err != nil {
		return fmt.Errorf("pack %s: %w", name, err)
	}
	if _, err := out.Write(content); err != nil {
		return fmt.Errorf("pack %s: %w", name, err)
	}
	return nil
}
