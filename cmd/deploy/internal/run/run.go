package run

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/apenella/go-ansible/v2/pkg/execute"

	"secureconnect/cmd/deploy/internal/exit"
)

// What our own roles and plugins put before a message that has an exit code of its own.
const (
	preflightPrefix = "PREFLIGHT:"
	lockedPrefix    = "LOCKED:"
)

// Run executes the playbook, tells hear about every event from one goroutine, and returns an
// error with the exit code that the events and ansible-playbook's status call for.
func Run(ctx context.Context, folder *Folder, root string, command execute.Commander, hear func(Event)) error {
	log, err := folder.Log()
	if err != nil {
		return fmt.Errorf("open the run's log: %w", err)
	}
	defer func() { _ = log.Close() }()

	var seen failures
	var following sync.WaitGroup
	var followErr error
	ended := make(chan struct{})
	following.Go(func() {
		followErr = Follow(folder.Events(), ended, func(event Event) {
			seen.note(event)
			hear(event)
		})
	})
	err = (&Playbook{Command: command, Root: root, Log: log, Events: folder.Events()}).Execute(ctx)
	close(ended)
	following.Wait()
	if err == nil {
		return followErr
	}
	return exit.With(seen.code(ctx), err)
}

// failures is what of the events decides about the exit code.
type failures struct {
	locked, preflight, failed, unreachable bool
}

func (f *failures) note(event Event) {
	switch {
	case event.Status == "unreachable":
		f.unreachable = true
	case event.Status != "failed":
	case strings.HasPrefix(event.Msg, lockedPrefix):
		f.locked = true
	case strings.HasPrefix(event.Msg, preflightPrefix):
		f.preflight = true
	default:
		f.failed = true
	}
}

// code never asks ansible-playbook's status: its 4 is an unreachable host as well as a playbook that
// cannot be parsed.
func (f *failures) code(ctx context.Context) exit.Code {
	switch {
	case ctx.Err() != nil:
		return exit.Cancelled
	case f.locked:
		return exit.Locked
	case f.preflight:
		return exit.Preflight
	case f.unreachable && !f.failed:
		return exit.Unreachable
	}
	return exit.Failed
}
