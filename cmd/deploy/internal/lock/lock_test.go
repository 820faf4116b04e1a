package lock

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"secureconnect/cmd/deploy/internal/ansibletest"
	"secureconnect/cmd/deploy/internal/exit"
	"secureconnect/cmd/deploy/internal/run"
)

// here is a shell on this machine.
type here struct{}

func (here) Run(ctx context.Context, _ string, stdin io.Reader, argv ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) // #nosec G204 -- the test's own
	cmd.Stdin = stdin
	return cmd.Output()
}

// testLock is a lock in a folder of the test's own.
func testLock(t *testing.T) *Lock {
	t.Helper()
	l, err := New(ansibletest.Root(t), here{}, "here")
	if err != nil {
		t.Fatal(err)
	}
	l.path = filepath.Join(t.TempDir(), "lock")
	return l
}

// contender is a run with the process that keeps it alive; without an ID Ansible itself is that.
type contender struct {
	id  string
	pid int
}

func (c contender) vars(l *Lock) map[string]any {
	vars := map[string]any{"lock_path": l.path}
	if c.id != "" {
		vars["deploy_run_id"], vars["deploy_pid"], vars["deploy_what"] = c.id, c.pid, "test"
	}
	return vars
}

// play runs a playbook and gives back what the lock's task said.
func (c contender) play(t *testing.T, l *Lock, playbook string, check bool) (said run.Event, err error) {
	t.Helper()
	folder, err := run.NewFolder(t.TempDir(), "test", "here", time.Now())
	if err != nil {
		t.Error(err)
		return said, err
	}
	command := ansibletest.Playbook(t, playbook, check, c.vars(l))
	err = run.Run(t.Context(), folder, ansibletest.Root(t), command, func(event run.Event) {
		if event.Event == "result" {
			said = event
		}
	})
	return said, err
}

func show(t *testing.T, l *Lock) State {
	t.Helper()
	state, err := l.Show(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func TestOneOfTwoContendersWins(t *testing.T) {
	l := testLock(t)
	outcomes := make(map[string]error)
	var mu sync.Mutex
	var running sync.WaitGroup
	for _, id := range []string{"one", "two"} {
		running.Go(func() {
			said, err := contender{id, os.Getpid()}.play(t, l, "hold.yml", false)
			mu.Lock()
			defer mu.Unlock()
			outcomes[id] = err
			if err == nil && said.Status != "ok" {
				t.Errorf("taking the lock counts as %s", said.Status)
			}
		})
	}
	running.Wait()
	state := show(t, l)
	winner := state.Owner.RunID
	if !state.Held || outcomes[winner] != nil {
		t.Fatalf("%+v, outcomes %v", state, outcomes)
	}
	delete(outcomes, winner)
	for id, err := range outcomes {
		if exit.Of(err) != exit.Locked {
			t.Errorf("%s: code %d, want %d (%v)", id, exit.Of(err), exit.Locked, err)
		}
	}
	if alive, why := state.Owner.Alive(); !alive {
		t.Errorf("this very process counts as dead: %s", why)
	}
}

func TestTheDeadAreTakenOver(t *testing.T) {
	t.Run("a process of this machine that is gone", func(t *testing.T) {
		l := testLock(t)
		child := exec.Command("cat")
		if _, err := child.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := (contender{"dead", child.Process.Pid}).play(t, l, "hold.yml", false); err != nil {
			t.Fatal(err)
		}
		if _, err := (contender{"early", os.Getpid()}).play(t, l, "hold.yml", false); exit.Of(err) != exit.Locked {
			t.Errorf("taken from the living: %v", err)
		}
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait() // it was killed, and says so
		if alive, why := show(t, l).Owner.Alive(); alive {
			t.Errorf("counts as alive: %s", why)
		}
		said, err := contender{"heir", os.Getpid()}.play(t, l, "hold.yml", false)
		if err != nil || !strings.Contains(said.Msg, "taken over") {
			t.Errorf("%v, said %q", err, said.Msg)
		}
		if owner := show(t, l).Owner.RunID; owner != "heir" {
			t.Errorf("%s holds it", owner)
		}
	})

	t.Run("ansible-playbook alone, after it ended", func(t *testing.T) {
		l := testLock(t)
		if _, err := (contender{}).play(t, l, "hold.yml", false); err != nil {
			t.Fatal(err)
		}
		if _, err := (contender{}).play(t, l, "hold.yml", false); err != nil {
			t.Errorf("a second run: %v", err)
		}
	})

	for name, c := range map[string]struct {
		silent int
		code   exit.Code
	}{
		"another machine, silent for eleven minutes": {660, exit.OK},
		"another machine, silent for nine minutes":   {540, exit.Locked},
	} {
		t.Run(name, func(t *testing.T) {
			l := testLock(t)
			plant(t, l, map[string]any{
				"run_id": "far", "owner": "somebody@far", "pid": 1, "controller": "far", "patience": 600,
				"started": time.Now().Unix() - 1000, "heartbeat": time.Now().Unix() - int64(c.silent),
			})
			if alive, why := show(t, l).Owner.Alive(); alive == (c.code == exit.OK) {
				t.Errorf("alive: %v, %s", alive, why)
			}
			if _, err := (contender{"me", os.Getpid()}).play(t, l, "hold.yml", false); exit.Of(err) != c.code {
				t.Errorf("code %d, want %d (%v)", exit.Of(err), c.code, err)
			}
		})
	}
}

func plant(t *testing.T, l *Lock, owner map[string]any) {
	t.Helper()
	raw, err := json.Marshal(owner)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(l.path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(l.path, "owner.json"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCheckModeTakesNothing(t *testing.T) {
	l := testLock(t)
	me := contender{"me", os.Getpid()}
	said, err := me.play(t, l, "hold.yml", true)
	if err != nil || said.Status != "ok" || said.Msg == "" {
		t.Errorf("%v, %+v", err, said)
	}
	if show(t, l).Held {
		t.Error("check mode took the lock")
	}
	if _, err := (contender{"other", os.Getpid()}).play(t, l, "hold.yml", false); err != nil {
		t.Fatal(err)
	}
	said, err = me.play(t, l, "hold.yml", true)
	if err != nil || !strings.Contains(said.Msg, "held by") {
		t.Errorf("%v, %+v", err, said)
	}
	if _, err := me.play(t, l, "release.yml", true); err != nil || !show(t, l).Held {
		t.Errorf("check mode released the lock: %v", err)
	}
}

func TestRelease(t *testing.T) {
	l := testLock(t)
	owner, other := contender{"owner", os.Getpid()}, contender{"other", os.Getpid()}
	if _, err := owner.play(t, l, "hold.yml", false); err != nil {
		t.Fatal(err)
	}
	if _, err := owner.play(t, l, "hold.yml", false); err != nil {
		t.Errorf("holding it twice: %v", err)
	}
	if _, err := other.play(t, l, "release.yml", false); err != nil || !show(t, l).Held {
		t.Errorf("somebody else released it: %v", err)
	}
	if state, err := l.Release(t.Context(), "other"); err != nil || !state.Held {
		t.Errorf("somebody else released it over ssh: %+v, %v", state, err)
	}
	if said, err := owner.play(t, l, "release.yml", false); err != nil || said.Status != "ok" || show(t, l).Held {
		t.Errorf("the owner could not release it: %v, %+v", err, said)
	}
}

func TestKeepAlive(t *testing.T) {
	l := testLock(t)
	old := time.Now().Unix() - 300
	plant(t, l, map[string]any{"run_id": "me", "started": old, "heartbeat": old, "pid": 1, "controller": "x"})
	ctx, stop := context.WithCancel(t.Context())
	beat, done := make(chan time.Time), make(chan struct{})
	go func() {
		l.KeepAlive(ctx, "me", beat)
		close(done)
	}()
	beat <- time.Time{}
	beat <- time.Time{} // taken when the first was dealt with
	if state := show(t, l); state.Owner.Silent > 60 || state.Owner.Age < 300 {
		t.Errorf("after a beat: %+v", state.Owner)
	}
	stop()
	<-done

	if _, err := l.Break(t.Context()); err != nil || show(t, l).Held {
		t.Errorf("it could not be broken: %v", err)
	}
	left, err := os.ReadDir(filepath.Dir(l.path))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range left {
		if !bytes.HasSuffix([]byte(entry.Name()), []byte(".guard")) {
			t.Errorf("left behind: %s", entry.Name())
		}
	}
}
