package images

import (
	"context"
	"errors"
	"testing"
)

func TestLock(t *testing.T) {
	root := t.TempDir()
	told := make(chan string, 1)
	s := newSteps(func(line string) { told <- line })
	unlock, err := lock(context.Background(), root, "images", s)
	if err != nil {
		t.Fatal(err)
	}

	second := make(chan error, 1)
	go func() {
		free, err := lock(context.Background(), root, "images", s)
		if err == nil {
			free()
		}
		second <- err
	}()
	<-told // the second says that it waits: it did not get the lock
	unlock()
	if err := <-second; err != nil {
		t.Errorf("second process after the first: %v", err)
	}
}

func TestLockEndsItsWaitWithItsContext(t *testing.T) {
	root := t.TempDir()
	unlock, err := lock(context.Background(), root, "images", newSteps(func(string) {}))
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithCancel(context.Background())
	s := newSteps(func(string) { cancel() })
	if _, err := lock(ctx, root, "images", s); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}
