// Package migration reads numbered files of schema changes. It applies none: the stores do.
package migration

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
)

// Step is one file: 0001_name and its one statement, which may be run again.
type Step struct {
	Version   int
	Name      string
	Statement string
	Checksum  string
}

func (s Step) String() string { return fmt.Sprintf("%04d_%s", s.Version, s.Name) }

// Pending gives the steps of a folder, in order, that applied, checksums by version, has not. It fails where applied has another one under
// a step's number.
func Pending(files fs.FS, extension string, applied map[int]string) ([]Step, error) {
	all, err := read(files, extension)
	if err != nil {
		return nil, err
	}
	var pending []Step
	for _, step := range all {
		switch checksum, done := applied[step.Version]; {
		case !done:
			pending = append(pending, step)
		case checksum != step.Checksum:
			return nil, fmt.Errorf("migration %s is not the one that was applied: a migration never changes", step)
		}
	}
	return pending, nil
}

var namePattern = regexp.MustCompile(`^(\d{4})_([a-z0-9_]+)(\.[a-z]+)$`)

// read gives the steps of a folder in order, and refuses a gap, a twin or a stray file. The extension is that of the
// store's language, with its dot.
func read(files fs.FS, extension string) ([]Step, error) {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	var found []Step
	for _, entry := range entries {
		parts := namePattern.FindStringSubmatch(entry.Name())
		if parts == nil || parts[3] != extension {
			return nil, fmt.Errorf("%s is not called like a migration (0001_name%s)", entry.Name(), extension)
		}
		content, err := fs.ReadFile(files, entry.Name())
		if err != nil {
			return nil, fmt.Errorf("read migration: %w", err)
		}
		version, err := strconv.Atoi(parts[1])
		if err != nil {
			return nil, fmt.Errorf("read migration %s: %w", entry.Name(), err)
		}
		sum := sha256.Sum256(content)
		found = append(found, Step{Version: version, Name: parts[2], Statement: string(content), Checksum: hex.EncodeToString(sum[:])})
	}
	slices.SortFunc(found, func(a, b Step) int { return cmp.Compare(a.Version, b.Version) })
	for i, s := range found {
		if s.Version != i+1 {
			return nil, fmt.Errorf("migration %04d is missing or there twice", i+1)
		}
	}
	return found, nil
}
