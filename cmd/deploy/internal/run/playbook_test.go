package run

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// fake is a child that is a shell script.
type fake []string

func (f fake) Command() ([]string, error) { return f, nil }

func (f fake) String() string { return strings.Join(f, " ") }

func script(t *testing.T, text string) *Playbook {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "child")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil { // #nosec G306 -- a program
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	return &Playbook{Command: fake{path}, Root: dir, Log: log}
}

func printed(t *testing.T, p *Playbook) string {
	t.Helper()
	text, err := os.ReadFile(p.Log.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestExecute(t *testing.T) {
	t.Run("the exit code is kept", func(t *testing.T) {
		err := script(t, "exit 42").Execute(t.Context())
		if ended := new(ExitError); !errors.As(err, &ended) || ended.Code != 42 {
			t.Errorf("got %v", err)
		}
	})

	t.Run("a child that cannot start is an error", func(t *testing.T) {
		p := script(t, "")
		p.Command = fake{"/nonexistent/ansible-playbook"}
		if err := p.Execute(t.Context()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("got %v", err)
		}
	})

	t.Run("the child has the repository's configuration and folder, and nobody at the keyboard", func(t *testing.T) {
		p := script(t, `pwd; echo "$ANSIBLE_CONFIG"; readlink /proc/self/fd/0; echo "$SECURECONNECT_EVENTS"`)
		p.Events = "/there/events"
		if err := p.Execute(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := strings.Join([]string{p.Root, filepath.Join(p.Root, "ansible.cfg"), "/dev/null", "/there/events", ""}, "\n")
		if got := printed(t, p); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})

	t.Run("the repository's own Ansible is preferred", func(t *testing.T) {
		p := script(t, "")
		bin := filepath.Join(p.Root, ".venv", "bin")
		if err := os.MkdirAll(bin, 0o700); err != nil {
			t.Fatal(err)
		}
		own := filepath.Join(bin, "ansible-playbook")
		if err := os.WriteFile(own, []byte("#!/bin/sh\nexit 7"), 0o700); err != nil { // #nosec G306 -- a program
			t.Fatal(err)
		}
		p.Command = fake{"ansible-playbook"}
		err := p.Execute(t.Context())
		if ended := new(ExitError); !errors.As(err, &ended) || ended.Code != 7 {
			t.Errorf("got %v", err)
		}
	})
}

func TestKeptConnectionsEndWithTheRun(t *testing.T) {
	// As ssh does it: in a session of its own, nothing of the environment left, a title.
	p := script(t, `setsid env -i bash -c 'echo $$ > connection; exec -a "ssh: $1/5dc62c [mux]" sleep 600' - "$ANSIBLE_SSH_CONTROL_PATH_DIR" &
while [ ! -s connection ]; do sleep 0.01; done`)
	if err := p.Execute(t.Context()); err != nil {
		t.Fatal(err)
	}
	if pid := pidIn(t, filepath.Join(p.Root, "connection")); alive(pid) {
		t.Errorf("the connection (pid %d) is still there", pid)
	}
}

// stubborn writes its process id, ignores the polite signals, and has a grandchild that left the
// process group, as Ansible's workers do.
const stubborn = `
trap '' INT TERM
setsid sh -c 'trap "" INT TERM; echo $$ > grandchild; while :; do sleep 1; done' &
while [ ! -s grandchild ]; do sleep 0.01; done
echo $$ > ready.new && mv ready.new ready
while :; do sleep 1; done
`

func TestCancel(t *testing.T) {
	t.Run("a stubborn child and a grandchild outside the group are killed", func(t *testing.T) {
		p := script(t, stubborn)
		p.Stop = Stop{Terminate: 50 * time.Millisecond, Kill: 100 * time.Millisecond}
		err := cancelled(t, p)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		for _, name := range []string{"ready", "grandchild"} {
			if pid := pidIn(t, filepath.Join(p.Root, name)); alive(pid) {
				t.Errorf("%s (pid %d) is still there", name, pid)
			}
		}
	})

	t.Run("a child that obeys SIGINT is not killed", func(t *testing.T) {
		p := script(t, `trap 'echo goodbye; exit 99' INT
echo $$ > ready.new && mv ready.new ready
while :; do sleep 0.05; done`)
		if err := cancelled(t, p); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if got := printed(t, p); got != "goodbye\n" {
			t.Errorf("it said %q", got)
		}
	})
}

// cancelled executes until the child says that it is ready, and cancels.
func cancelled(t *testing.T, p *Playbook) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		defer cancel()
		for ctx.Err() == nil {
			if _, err := os.Stat(filepath.Join(p.Root, "ready")); err == nil {
				return
			}
			wait(nil)
		}
	}()
	return p.Execute(ctx)
}

func pidIn(t *testing.T, path string) int {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// alive is false for a zombie: it does nothing any more.
func alive(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z")
}
