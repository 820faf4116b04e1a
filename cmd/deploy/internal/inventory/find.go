package inventory

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Root is the repository: the nearest folder holding site.yml above the working directory,
// or else above the executable.
func Root() (string, error) {
	var starts []string
	if dir, err := os.Getwd(); err == nil {
		starts = append(starts, dir)
	}
	if exe, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(exe))
	}
	for _, start := range starts {
		if root, ok := rootAbove(start); ok {
			return root, nil
		}
	}
	return "", errors.New("no site.yml in this folder or above it: run deploy inside the repository")
}

func rootAbove(dir string) (string, bool) {
	for {
		if info, err := os.Stat(filepath.Join(dir, "site.yml")); err == nil && info.Mode().IsRegular() {
			return dir, true
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", false
		}
		dir = parent
	}
}

// Path turns what the operator wrote after -i into a folder or file Ansible can read:
// a path, a name below inventories/, or the name of a lab made by `deploy lab up --name`.
func Path(root, name string) (string, error) {
	tried := candidates(root, name)
	for _, path := range tried {
		if _, err := os.Stat(path); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", fmt.Errorf("no inventory %q: there are %s", name, strings.Join(known(root), ", "))
}

func candidates(root, name string) []string {
	if strings.ContainsRune(name, filepath.Separator) {
		return []string{name}
	}
	return []string{
		filepath.Join(root, "inventories", name),
		filepath.Join(root, ".build", "lab", name, "inventory"),
	}
}

func known(root string) []string {
	var names []string
	for _, pattern := range []string{"inventories/*/hosts.yml", ".build/lab/*/inventory/hosts.yml"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			continue
		}
		for _, path := range found {
			names = append(names, ShortName(filepath.Dir(path)))
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) == 0 {
		return []string{"none below inventories/"}
	}
	return names
}

// ShortName is how people call an inventory: the folder's name, and for a generated one the lab's.
func ShortName(path string) string {
	if name := filepath.Base(path); name != "inventory" {
		return name
	}
	return filepath.Base(filepath.Dir(path))
}
