package run_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"secureconnect/cmd/deploy/internal/ansibletest"
	"secureconnect/cmd/deploy/internal/exit"
	"secureconnect/cmd/deploy/internal/run"
)

// play runs a playbook of testdata and gives back its events, its folder and its error.
func play(ctx context.Context, t *testing.T, name string, vars map[string]any, hear func(run.Event)) ([]run.Event, *run.Folder, error) {
	t.Helper()
	root := ansibletest.Root(t)
	folder, err := run.NewFolder(t.TempDir(), "test", "here", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var events []run.Event
	err = run.Run(ctx, folder, root, ansibletest.Playbook(t, name, false, vars), func(event run.Event) {
		events = append(events, event)
		hear(event)
	})
	return events, folder, err
}

func deaf(run.Event) {}

func result(events []run.Event, task string) (run.Event, bool) {
	for _, event := range events {
		if event.Event == "result" && event.Task == task {
			return event, true
		}
	}
	return run.Event{}, false
}

func TestRun(t *testing.T) {
	t.Run("success tells every task, and what changed", func(t *testing.T) {
		events, folder, err := play(t.Context(), t, "success.yml", nil, deaf)
		if err != nil {
			t.Fatal(err)
		}
		for task, status := range map[string]string{
			"Nothing is asked":      "ok",
			"Something is changed":  "changed",
			"Something is left out": "skipped",
			"The attempt":           "failed",
			"The rescue":            "ok",
		} {
			if got, ok := result(events, task); !ok || got.Status != status || got.Host != "here" {
				t.Errorf("%s: %+v, want status %s", task, got, status)
			}
		}
		if last := events[len(events)-1]; last.Event != "end" {
			t.Errorf("the last event is %q", last.Event)
		}
		at := slices.IndexFunc(events, func(e run.Event) bool { return e.Stats != nil })
		if at < 0 || events[at].Stats.Changed != 1 || events[at].Stats.Rescued != 1 {
			t.Errorf("stats: %+v", events)
		}
		if info, err := os.Stat(folder.LogPath()); err != nil || info.Size() == 0 || info.Mode().Perm() != 0o600 {
			t.Errorf("the log: %v %v", info, err)
		}
	})

	for why, code := range map[string]exit.Code{
		"no luck":                             exit.Failed,
		"PREFLIGHT: edge_tls: must be chosen": exit.Preflight,
		"LOCKED: held by somebody":            exit.Locked,
	} {
		t.Run("a failure with the message "+why, func(t *testing.T) {
			events, _, err := play(t.Context(), t, "failure.yml", map[string]any{"why": why}, deaf)
			if exit.Of(err) != code {
				t.Errorf("code %d (%v), want %d", exit.Of(err), err, code)
			}
			if got, _ := result(events, "It is refused"); got.Msg != why || got.Status != "failed" {
				t.Errorf("event %+v", got)
			}
			if ended := new(run.ExitError); !errors.As(err, &ended) || ended.Code == 0 {
				t.Errorf("ansible-playbook's own status is lost in %v", err)
			}
		})
	}

	t.Run("a failed command's last words are told", func(t *testing.T) {
		events, _, err := play(t.Context(), t, "printed.yml", nil, deaf)
		if got, _ := result(events, "It prints and fails"); exit.Of(err) != exit.Failed || got.Detail != "the reason" {
			t.Errorf("%v, event %+v", err, got)
		}
	})

	t.Run("a playbook that cannot be parsed is not a host that is away", func(t *testing.T) {
		_, folder, err := play(t.Context(), t, "broken.yml", nil, deaf)
		if exit.Of(err) != exit.Failed || !strings.Contains(run.Tail(folder.LogPath()), "there_is_no_such_module") {
			t.Errorf("code %d: %v", exit.Of(err), err)
		}
	})

	t.Run("a host that is away", func(t *testing.T) {
		events, _, err := play(t.Context(), t, "unreachable.yml", nil, deaf)
		if exit.Of(err) != exit.Unreachable {
			t.Errorf("code %d: %v", exit.Of(err), err)
		}
		if got, _ := result(events, "It answers"); got.Status != "unreachable" || got.Host != "nowhere" {
			t.Errorf("event %+v", got)
		}
	})
}

func TestCancelLeavesNoProcess(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seconds := fmt.Sprintf("86%06d", os.Getpid()) // a length nobody else sleeps
	began := time.Now()
	_, _, err := play(ctx, t, "sleep.yml", map[string]any{"seconds": seconds}, func(event run.Event) {
		if event.Event == "start" && event.Task == "It sleeps" {
			go func() {
				await(t, func() bool { return len(sleepers(t, seconds)) > 0 })
				cancel()
			}()
		}
	})
	if !errors.Is(err, context.Canceled) || exit.Of(err) != exit.Cancelled {
		t.Errorf("code %d: %v", exit.Of(err), err)
	}
	if left := sleepers(t, seconds); len(left) > 0 {
		t.Errorf("still there after a cancel: %v", left)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
}

// sleepers are the processes with the argument in their command line.
func sleepers(t *testing.T, argument string) []string {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, path := range found {
		line, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(line), argument) {
			lines = append(lines, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return lines
}

func await(t *testing.T, happened func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !happened() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Error("waited for 30 s in vain")
			return
		}
	}
}

func TestSecretsStayOut(t *testing.T) {
	const canary = "canary-7b1e94c0ffee"
	file := filepath.Join(t.TempDir(), "secret.yml")
	if err := os.WriteFile(file, []byte("canary: "+canary+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	events, folder, err := play(t.Context(), t, "secret.yml", map[string]any{"secret_file": file}, func(event run.Event) {
		if event.Event != "start" {
			return
		}
		once.Do(func() {
			if seen := sleepers(t, canary); len(seen) > 0 {
				t.Errorf("in an argument list: %v", seen)
			}
		})
	})
	if exit.Of(err) != exit.Failed {
		t.Fatalf("code %d: %v", exit.Of(err), err)
	}
	// What failed is told all the same, or the search below would find nothing in nothing.
	if got, _ := result(events, "It fails with it"); got.Status != "failed" || got.Msg != "censored" {
		t.Errorf("event %+v", got)
	}
	for _, path := range []string{folder.Events(), folder.LogPath()} {
		text, readErr := os.ReadFile(path)
		if readErr != nil || len(text) == 0 {
			t.Fatalf("%s: %v", path, readErr)
		}
		if strings.Contains(string(text), canary) {
			t.Errorf("%s holds the secret", path)
		}
	}
	if strings.Contains(err.Error(), file) {
		t.Errorf("the error repeats the command line: %v", err)
	}
}
