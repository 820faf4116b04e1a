// Package lock looks after the deployment's lock from the command line: it keeps it alive during
// a run, gives it back, and shows whose it is. Taking it is the playbook's act.
package lock

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Path is the lock's folder on the host that keeps it.
const Path = "/run/secureconnect-lock"

// Beat is how often a run says that it lives.
const Beat = 15 * time.Second

// Shell runs a command on a host of the inventory.
type Shell interface {
	Run(ctx context.Context, host string, stdin io.Reader, argv ...string) ([]byte, error)
}

// State is who holds the lock.
type State struct {
	Held  bool  `json:"held"`
	Mine  bool  `json:"mine"`
	Owner Owner `json:"owner"`
}

// Owner is the run that holds it, as it described itself.
type Owner struct {
	RunID      string `json:"run_id"`
	Owner      string `json:"owner"` // user@host
	PID        int    `json:"pid"`
	Birth      int64  `json:"birth"`
	Controller string `json:"controller"`
	What       string `json:"what"`
	Patience   int    `json:"patience"` // seconds of silence after which it counts as dead
	Age        int    `json:"age"`      // seconds since it began
	Silent     int    `json:"silent"`   // seconds since its last sign of life
}

// Lock is the lock of one inventory.
type Lock struct {
	shell  Shell
	host   string
	script []byte
	path   string
}

// New reads the module that the playbook uses as well: there is one implementation of the lock.
func New(root string, shell Shell, host string) (*Lock, error) {
	script, err := os.ReadFile(filepath.Join(root, "deployment", "plugins", "modules", "lock.py")) // #nosec G304 -- in the repository
	if err != nil {
		return nil, fmt.Errorf("read the lock's module: %w", err)
	}
	return &Lock{shell: shell, host: host, script: script, path: Path}, nil
}

// Show says who holds the lock.
func (l *Lock) Show(ctx context.Context) (State, error) { return l.act(ctx, "shown", "") }

// Release gives the lock back if the run holds it.
func (l *Lock) Release(ctx context.Context, runID string) (State, error) {
	return l.act(ctx, "released", runID)
}

// Break removes the lock, whoever holds it.
func (l *Lock) Break(ctx context.Context) (State, error) { return l.act(ctx, "broken", "") }

// KeepAlive gives a sign of life until ctx ends. A sign that does not arrive is not worth stopping
// a run for: the next one may, and minutes of silence are needed before anybody takes over.
func (l *Lock) KeepAlive(ctx context.Context, runID string, beat <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat:
			_, _ = l.act(ctx, "beat", runID)
		}
	}
}

func (l *Lock) act(ctx context.Context, state, runID string) (State, error) {
	asked, err := json.Marshal(map[string]any{
		"state": state,
		"path":  l.path,
		"owner": map[string]string{"run_id": runID},
	})
	if err != nil {
		return State{}, err
	}
	raw, err := l.shell.Run(ctx, l.host, bytes.NewReader(l.script), "python3", "-", string(asked))
	if err != nil {
		return State{}, fmt.Errorf("ask for the lock: %w", err)
	}
	answer := State{}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return State{}, fmt.Errorf("read the lock's answer: %w", err)
	}
	return answer, nil
}
