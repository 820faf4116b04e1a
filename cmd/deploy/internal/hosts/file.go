package hosts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Write puts the lines into the hosts file, or removes them when there are none, and says whether
// the file changed.
func Write(path, domain string, lines []string) (changed bool, err error) {
	before, err := os.ReadFile(path) // #nosec G304 -- the operator names it
	if err != nil {
		return false, fmt.Errorf("read the hosts file: %w", err)
	}
	after := Edit(string(before), domain, lines)
	if after == string(before) {
		return false, nil
	}
	if err := replace(path, []byte(after)); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return false, fmt.Errorf("write %s: not allowed; run this once more with sudo: %w", path, err)
		}
		return false, fmt.Errorf("write the hosts file: %w", err)
	}
	return true, nil
}

// replace swaps the content in one step, with owner and mode as before. A file that is a mount of
// its own (in containers) cannot be swapped, so there it is written in place.
func replace(path string, content []byte) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	draft, err := os.CreateTemp(filepath.Dir(target), ".hosts-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(draft.Name()) }()
	if err := fill(draft, content, info); err != nil {
		return err
	}
	err = os.Rename(draft.Name(), target)
	if errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EXDEV) {
		return os.WriteFile(target, content, info.Mode().Perm()) // #nosec G703 -- the operator names it
	}
	return err
}

func fill(draft *os.File, content []byte, like fs.FileInfo) (err error) {
	defer func() { err = errors.Join(err, draft.Close()) }()
	if _, err := draft.Write(content); err != nil {
		return err
	}
	if err := draft.Chmod(like.Mode().Perm()); err != nil {
		return err
	}
	if owner, ok := like.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		if err := draft.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	return draft.Sync()
}
