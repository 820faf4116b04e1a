package remote

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"secureconnect/cmd/deploy/internal/inventory"
)

// fakeSSH notes its arguments, and runs the last one as a login shell at the other end would. It
// stands for the client only: that a real sshd is reached is the lab's to show.
const fakeSSH = `#!/bin/sh
dir=$(dirname "$0")
printf '%s\n' "$*" >> "$dir/calls"
[ -e "$dir/away" ] && { echo "Connection refused" >&2; exit 255; }
for last; do case $last in -M|-O) exit 0;; esac; done
# The command stands after --.
while [ "$1" != -- ]; do shift; done
exec sh -c "$2"
`

func testRemote(t *testing.T, host inventory.Host) (*Remote, string) {
	t.Helper()
	dir := t.TempDir()
	r, err := New(&inventory.Description{Hosts: map[string]inventory.Host{"app-01": host}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	r.program = filepath.Join(dir, "ssh")
	if err := os.WriteFile(r.program, []byte(fakeSSH), 0o700); err != nil { // #nosec G306 -- a program
		t.Fatal(err)
	}
	return r, dir
}

func calls(t *testing.T, dir string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "calls"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

func TestRun(t *testing.T) {
	t.Run("arguments and input arrive as they were given", func(t *testing.T) {
		r, _ := testRemote(t, inventory.Host{Address: "10.0.0.11"})
		argv := []string{"sh", "-c", `for a; do printf '<%s>' "$a"; done; cat`, "sh",
			"two words", "it's", `"quoted"`, "$HOME", "a;b", "", "line\nbreak", "*"}
		got, err := r.Run(t.Context(), "app-01", strings.NewReader("from stdin"), argv...)
		want := "<two words><it's><\"quoted\"><$HOME><a;b><><line\nbreak><*>from stdin"
		if err != nil || string(got) != want {
			t.Errorf("got %q, %v", got, err)
		}
	})

	t.Run("one connection for many commands, with the inventory's way in, ended by Close", func(t *testing.T) {
		r, dir := testRemote(t, inventory.Host{
			Address: "10.0.0.11", User: "operator", Port: 2222, Key: "/keys/id",
			SSHArgs: `-o UserKnownHostsFile="/with space/known" -J jump`,
		})
		for range 3 {
			if _, err := r.Run(t.Context(), "app-01", nil, "true"); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		made := calls(t, dir)
		masters := slices.DeleteFunc(slices.Clone(made), func(c string) bool { return !strings.Contains(c, " -M ") })
		if len(masters) != 1 || !strings.Contains(made[len(made)-1], "-O exit") {
			t.Errorf("calls:\n%s", strings.Join(made, "\n"))
		}
		for _, part := range []string{
			"-o BatchMode=yes", "-o ConnectTimeout=", "-l operator", "-p 2222", "-i /keys/id",
			"-o UserKnownHostsFile=/with space/known -J jump", "10.0.0.11",
		} {
			if !strings.Contains(made[0], part) {
				t.Errorf("%q is not in %s", part, made[0])
			}
		}
		if _, err := os.Stat(r.sockets); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the sockets' folder is still there: %v", err)
		}
	})

	t.Run("a command's failure has its status, its words and what it printed", func(t *testing.T) {
		r, _ := testRemote(t, inventory.Host{})
		out, err := r.Run(t.Context(), "app-01", nil, "sh", "-c", "echo some; echo why >&2; exit 7")
		failed := new(Error)
		if !errors.As(err, &failed) || failed.Code != 7 || failed.Unreachable || failed.Stderr != "why" || string(out) != "some\n" {
			t.Errorf("%q, %+v", out, err)
		}
	})

	t.Run("a host that is away is told apart, and found when it is back", func(t *testing.T) {
		r, dir := testRemote(t, inventory.Host{})
		away := filepath.Join(dir, "away")
		if err := os.WriteFile(away, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := r.Run(t.Context(), "app-01", nil, "true")
		if failed := new(Error); !errors.As(err, &failed) || !failed.Unreachable || failed.Stderr != "Connection refused" {
			t.Errorf("%+v", err)
		}
		if err := os.Remove(away); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Run(t.Context(), "app-01", nil, "true"); err != nil {
			t.Errorf("back again: %v", err)
		}
	})

	t.Run("a cancel ends it", func(t *testing.T) {
		r, _ := testRemote(t, inventory.Host{})
		if _, err := r.Run(t.Context(), "app-01", nil, "true"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = write.WriteString("go\n") // the command reads it, so it runs by then
			cancel()
		}()
		_, err = r.Run(ctx, "app-01", read, "sh", "-c", "read x; exec sleep 600")
		if failed := new(exec.ExitError); !errors.Is(err, context.Canceled) && !errors.As(err, &failed) {
			t.Errorf("got %v", err)
		}
		_ = read.Close()
		_ = write.Close()
	})

	t.Run("a host nobody knows is refused", func(t *testing.T) {
		r, _ := testRemote(t, inventory.Host{})
		if _, err := r.Run(t.Context(), "app-09", nil, "true"); err == nil {
			t.Error("no error")
		}
	})
}

func TestSplit(t *testing.T) {
	for line, want := range map[string][]string{
		"":                     nil,
		"  -o A=b   -v ":       {"-o", "A=b", "-v"},
		`-o "A=b c" 'd e'f`:    {"-o", "A=b c", "d ef"},
		`-o ProxyCommand=a\ b`: {"-o", "ProxyCommand=a b"},
		`''`:                   {""},
		`'it'\''s'`:            {"it's"},
		`"a\"b" '\n'`:          {`a"b`, `\n`},
	} {
		if got := split(line); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
}

func TestReadable(t *testing.T) {
	if got := Readable("ssh", "a b", "--x={}", "plain/path", ""); got != `ssh 'a b' '--x={}' plain/path ''` {
		t.Errorf("got %s", got)
	}
}
