package images

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// lock takes a named lock of this checkout, and waits for whoever holds it. The kernel frees it
// when the process ends, however it ends.
func lock(ctx context.Context, root, name string, s *steps) (unlock func(), err error) {
	dir := filepath.Join(root, ".build", "locks")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("make the folder of locks: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_RDWR, 0o600) // #nosec G304 -- a name of ours
	if err != nil {
		return nil, fmt.Errorf("open lock %s: %w", name, err)
	}
	if err := waitForLock(ctx, file, name, s); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() { _ = file.Close() }, nil // closing frees the lock, and nothing was written
}

func waitForLock(ctx context.Context, file *os.File, name string, s *steps) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for told := false; ; told = true {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		if !told {
			s.line("waiting for another process that makes %s", name)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
