package docker

import (
	"context"
	"errors"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

func TestFinishTellsTheEndOfTheOutput(t *testing.T) {
	cmd := exec.Command("sh", "-c", "yes line | head -n 3000; echo the cause >&2; exit 3")
	err := Finish(context.Background(), cmd)
	var failed *Error
	if !errors.As(err, &failed) {
		t.Fatalf("error %v, want an *Error", err)
	}
	if failed.Code != 3 || len(failed.Output) > tailSize || failed.Output[len(failed.Output)-len("the cause"):] != "the cause" {
		t.Errorf("code %d, output ends with %q", failed.Code, failed.Output[len(failed.Output)-20:])
	}
}

func TestCancelEndsTheWholeGroup(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	// The child would keep the output open for a minute if it outlived its parent.
	cmd := exec.CommandContext(ctx, "sh", "-c", "sleep 60 & wait")
	Group(cmd)
	done := make(chan error, 1)
	go func() { done <- Finish(ctx, cmd) }()
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want %v", err, context.Canceled)
		}
	case <-time.After(cmd.WaitDelay / 2):
		t.Error("the group lives on")
	}
	if cmd.Process != nil && !errors.Is(syscall.Kill(-cmd.Process.Pid, 0), syscall.ESRCH) {
		t.Error("somebody of the group is left")
	}
}
