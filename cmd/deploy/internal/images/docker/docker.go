// Package docker calls the docker client of this machine.
// It knows commands and their output, and nothing of images or labs.
package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const socket = "/var/run/docker.sock"

// Error is a command that ran and said no: what it was, and the end of what it printed.
type Error struct {
	Command string
	Code    int
	Output  string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: exit status %d\n%s", e.Command, e.Code, e.Output)
}

// Command is a docker client in a process group of its own, so that cancelling ctx ends
// whatever it started. Whoever may not use the engine's socket asks sudo.
func Command(ctx context.Context, args ...string) *exec.Cmd {
	argv := append(client(), args...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) // #nosec G204 -- argv is built here, no shell reads it
	Group(cmd)
	return cmd
}

var client = sync.OnceValue(func() []string {
	argv := []string{"docker"}
	if os.Getenv("DOCKER_HOST") != "" || os.Geteuid() == 0 || unix.Access(socket, unix.W_OK) == nil {
		return argv
	}
	return append([]string{"sudo", "--preserve-env=DOCKER_BUILDKIT,BUILDX_BUILDER"}, argv...)
})

// Group puts cmd in a process group of its own: cancelled, the whole group is asked to end and
// after ten seconds made to.
func Group(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
}

// Run runs a docker command and returns what it wrote to its standard output.
func Run(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	cmd := Command(ctx, args...)
	cmd.Stdin = stdin
	var out strings.Builder
	cmd.Stdout = &out
	err := Finish(ctx, cmd)
	return strings.TrimSpace(out.String()), err
}

// Finish runs cmd to its end; when it fails the error carries the end of its output.
func Finish(ctx context.Context, cmd *exec.Cmd) error {
	var end tail
	cmd.Stderr = &end
	if cmd.Stdout == nil {
		cmd.Stdout = &end
	}
	err := cmd.Run()
	switch exit := new(exec.ExitError); {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("no %s on this machine: apt-get install %s", cmd.Args[0], packageOf(cmd.Args[0]))
	case errors.As(err, &exit):
		return &Error{Command: summary(cmd.Args), Code: exit.ExitCode(), Output: end.String()}
	case err != nil:
		return fmt.Errorf("%s: %w", summary(cmd.Args), err)
	}
	return nil
}

func packageOf(tool string) string {
	if tool == "docker" {
		return "docker.io"
	}
	return tool
}

// summary is enough of a command to know it again: its arguments may fill a screen.
func summary(argv []string) string {
	return strings.Join(argv[:min(4, len(argv))], " ")
}

// HasImage says whether the engine holds ref.
func HasImage(ctx context.Context, ref string) (bool, error) {
	ids, err := Run(ctx, nil, "image", "ls", "--quiet", "--no-trunc", ref)
	return ids != "", err
}

// Build makes ref from a context given as a tar stream. The legacy builder is named where
// buildx is not installed; where it is, its default builder sees the engine's own images.
func Build(ctx context.Context, ref string, tar io.Reader, args map[string]string) error {
	argv := []string{"build", "--force-rm", "--tag", ref}
	for _, name := range sortedKeys(args) {
		argv = append(argv, "--build-arg", name+"="+args[name])
	}
	cmd := Command(ctx, append(argv, "-")...)
	cmd.Stdin = tar
	cmd.Env = append(os.Environ(), builder(ctx)...)
	return Finish(ctx, cmd)
}

func builder(ctx context.Context) []string {
	if Command(ctx, "buildx", "version").Run() != nil {
		return []string{"DOCKER_BUILDKIT=0"}
	}
	return []string{"DOCKER_BUILDKIT=1", "BUILDX_BUILDER=default"}
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// tail keeps the last 4 KiB written to it: where a failed command says why.
type tail struct{ kept []byte }

const tailSize = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if excess := len(t.kept) - tailSize; excess > 0 {
		t.kept = t.kept[excess:]
	}
	return len(p), nil
}

func (t *tail) String() string { return string(bytes.TrimSpace(t.kept)) }
