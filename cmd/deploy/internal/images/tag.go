package images

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ingredient is a file of a build context that is not in the image's folder: a program built on
// this machine, or a download. Its identity stands for its bytes in the content tag.
type ingredient struct {
	name     string // in the build context
	mode     fs.FileMode
	identity string
	file     func() (string, error) // makes it where it is missing, and says where it lies
}

// contentTag names what goes into an image: its folder, the image below, its ingredients. The
// versions of Debian packages are whatever the archive has, so the tag names inputs, not bytes.
func contentTag(folder, base string, ingredients []ingredient) (string, error) {
	sum := sha256.New()
	say(sum, "base", base)
	files, err := contextFiles(folder)
	if err != nil {
		return "", err
	}
	for _, path := range files {
		if err := sayFile(sum, folder, path); err != nil {
			return "", err
		}
	}
	for _, i := range ingredients {
		say(sum, "ingredient", i.name, i.identity)
	}
	return hex.EncodeToString(sum.Sum(nil))[:12], nil
}

// say writes each word with its length, so that no two lists of words read the same.
func say(sum hash.Hash, words ...string) {
	for _, w := range words {
		_, _ = fmt.Fprintf(sum, "%d:%s", len(w), w) // a hash never fails to be written to
	}
}

func sayFile(sum hash.Hash, folder, path string) error {
	mode, content, err := contextFile(filepath.Join(folder, path))
	if err != nil {
		return err
	}
	say(sum, "file", path, fmt.Sprintf("%o", mode), string(content))
	return nil
}

// contextFiles are the files of an image's folder, sorted. Go sources are left out: they become
// ingredients.
func contextFiles(folder string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, ".go") {
			return err
		}
		rel, err := filepath.Rel(folder, path)
		files = append(files, filepath.ToSlash(rel))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read image folder: %w", err)
	}
	return files, nil // WalkDir goes in lexical order
}

// contextFile reads a file and gives it one of two modes, whatever the umask of the checkout.
func contextFile(path string) (fs.FileMode, []byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, nil, fmt.Errorf("read image folder: %w", err)
	}
	content, err := os.ReadFile(path) // #nosec G304 -- a file of the repository
	if err != nil {
		return 0, nil, fmt.Errorf("read image folder: %w", err)
	}
	if info.Mode()&0o111 != 0 {
		return 0o755, content, nil
	}
	return 0o644, content, nil
}
