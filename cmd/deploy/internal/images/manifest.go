package images

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Manifest says what was built and where it lies; the images role reads it.
type Manifest struct {
	Images        map[string]Image `json:"images"`
	ComposePlugin ComposePlugin    `json:"compose_plugin"`
}

// Image is one built image and its archive for `docker load`.
type Image struct {
	Ref     string `json:"ref"`
	Archive string `json:"archive"`
	Bytes   int64  `json:"bytes"`
}

// ComposePlugin is Docker Compose for hosts whose distribution has none.
type ComposePlugin struct {
	Path    string `json:"path"`
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
}

const manifestName = "manifest.json"

// ReadManifest reads what the last Build in root wrote.
func ReadManifest(root string) (Manifest, error) {
	var m Manifest
	text, err := os.ReadFile(filepath.Join(root, ".build/images", manifestName)) // #nosec G304 -- a file of ours
	if errors.Is(err, os.ErrNotExist) {
		return m, errors.New("no images yet: run `deploy images build`")
	}
	if err != nil {
		return m, fmt.Errorf("read manifest: %w", err)
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("read manifest: %w", err)
	}
	return m, nil
}

// write leaves the file alone when it would say the same, so that its time tells of a change.
func (m Manifest) write(dir string) error {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	path := filepath.Join(dir, manifestName)
	text = append(text, '\n')
	if old, err := os.ReadFile(path); err == nil && string(old) == string(text) { // #nosec G304 -- a file of ours
		return nil
	}
	return replaceFile(path, text, 0o644)
}

// prune removes archives that m does not name, and what interrupted runs left.
func (m Manifest) prune(dir string) error {
	named := map[string]bool{}
	for _, img := range m.Images {
		named[img.Archive] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("prune archives: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		archive := strings.HasSuffix(path, archiveSuffix) || strings.HasSuffix(path, partialSuffix)
		if !archive || named[path] {
			continue
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("prune archives: %w", err)
		}
	}
	return nil
}

const partialSuffix = ".partial"

// replaceFile never leaves half a file: readers see the old one or the new one.
func replaceFile(path string, content []byte, mode os.FileMode) error {
	partial := path + partialSuffix
	if err := os.WriteFile(partial, content, mode); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	if err := os.Rename(partial, path); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}
