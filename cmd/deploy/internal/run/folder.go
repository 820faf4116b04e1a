package run

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Folder keeps what a run left to read: events.jsonl, ansible.log and result.json, for its owner
// only. Folders stay until somebody removes them.
type Folder struct {
	Path string
	ID   string // the folder's name, which also names the run in the lock
}

// NewFolder makes .build/runs/<utc time>-<verb>-<inventory>.
func NewFolder(root, verb, inventory string, now time.Time) (*Folder, error) {
	runs := filepath.Join(root, ".build", "runs")
	if err := os.MkdirAll(runs, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder for runs: %w", err)
	}
	stem := fmt.Sprintf("%s-%s-%s", now.UTC().Format("20060102T150405Z"), verb, filepath.Base(inventory))
	for n := 1; ; n++ {
		id := stem
		if n > 1 {
			id = fmt.Sprintf("%s-%d", stem, n)
		}
		path := filepath.Join(runs, id)
		err := os.Mkdir(path, 0o700)
		if errors.Is(err, os.ErrExist) {
			continue // another run began in the same second
		}
		if err != nil {
			return nil, fmt.Errorf("make the run's folder: %w", err)
		}
		return &Folder{Path: path, ID: id}, nil
	}
}

// Events is where the events plugin writes.
func (f *Folder) Events() string { return filepath.Join(f.Path, "events.jsonl") }

// LogPath is Ansible's own output.
func (f *Folder) LogPath() string { return filepath.Join(f.Path, "ansible.log") }

// Log opens Ansible's output for appending.
func (f *Folder) Log() (*os.File, error) {
	return os.OpenFile(f.LogPath(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600) // #nosec G304 -- our own folder
}

// WriteResult writes how the run ended.
func (f *Folder) WriteResult(result any) error {
	raw, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(f.Path, "result.json"), append(raw, '\n'), 0o600)
}

// Tail is the end of what Ansible printed, for a failure that came before any task.
func Tail(log string) string {
	const enough = 2000
	said, err := os.ReadFile(log) // #nosec G304 -- our own log
	if err != nil {
		return ""
	}
	said = bytes.TrimSpace(said)
	return string(said[max(0, len(said)-enough):])
}
