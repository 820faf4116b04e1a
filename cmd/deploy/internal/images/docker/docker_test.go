package docker

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
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
	defer cancel()
	// The child would keep the output open for a minute if it outlived its parent.
	cmd := exec.CommandContext(ctx, "sh", "-c", "sleep 60 & echo $!; wait")
	Group(cmd)
	child, started := io.Pipe()
	cmd.Stdout = started
	done := make(chan error, 1)
	go func() { done <- Finish(ctx, cmd) }()
	line, err := bufio.NewReader(child).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want %v", err, context.Canceled)
		}
	case <-time.After(cmd.WaitDelay / 2):
		t.Fatal("the group lives on")
	}
	// An orphan's entry stays until init collects it, and is a zombie until then: no command line.
	if argv, err := os.ReadFile("/proc/" + strings.TrimSpace(line) + "/cmdline"); err == nil && strings.HasPrefix(string(argv), "sleep") {
		t.Errorf("still there after a cancel: %q", argv)
	}
}
