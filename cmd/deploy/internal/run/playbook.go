// Package run carries out one ansible-playbook: it starts it, follows its events, stops it whole,
// and tells how it ended. What to run is decided in package plan.
package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/apenella/go-ansible/v2/pkg/execute"
)

// Playbook is one run of ansible-playbook. Unlike the library's own executor it owns the whole
// process group, never reads the terminal, keeps the exit code, and puts nothing of the command
// line or the environment into its errors.
type Playbook struct {
	Command execute.Commander
	Root    string   // the repository: working directory and home of ansible.cfg
	Log     *os.File // everything Ansible prints; a file, so that no process can hold up Wait
	Events  string   // where the events plugin writes its lines; empty: it stays silent
	Stop    Stop
}

var _ execute.Executor = (*Playbook)(nil)

// ExitError is ansible-playbook's own exit code.
type ExitError struct{ Code int }

func (e *ExitError) Error() string {
	return fmt.Sprintf("ansible-playbook ended with status %d", e.Code)
}

// Execute runs the playbook to its end. When ctx ends first, the run is stopped and the error is
// ctx's; a run that ended by itself with a status other than 0 is an *ExitError.
func (p *Playbook) Execute(ctx context.Context) error {
	argv, err := p.Command.Command()
	if err != nil {
		return fmt.Errorf("put the ansible-playbook command together: %w", err)
	}
	// A folder of its own for the connections, so that they can be ended without touching those
	// of another run. Short, since the path of a Unix socket ends at 108 bytes.
	sockets, err := os.MkdirTemp("", "deploy-cp-")
	if err != nil {
		return fmt.Errorf("make a folder for the connections: %w", err)
	}
	defer func() { _ = os.RemoveAll(sockets) }()

	cmd := exec.Command(program(p.Root, argv[0]), argv[1:]...) // #nosec G204 -- argv comes from the plan
	cmd.Dir = p.Root
	cmd.Env = p.environment(sockets)
	cmd.Stdout, cmd.Stderr = p.Log, p.Log
	// Stdin stays nil, which is /dev/null: Ansible must never wait for somebody to type.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGINT}
	defer sweep(sockets)
	return p.finish(ctx, cmd)
}

func (p *Playbook) finish(ctx context.Context, cmd *exec.Cmd) error {
	pid, ended := make(chan int, 1), make(chan error, 1)
	go func() {
		// The signal for "the parent died" follows the thread that started the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			close(pid)
			ended <- err
			return
		}
		pid <- cmd.Process.Pid
		ended <- cmd.Wait()
	}()
	group, started := <-pid
	if !started {
		return fmt.Errorf("start ansible-playbook: %w", <-ended)
	}
	select {
	case err := <-ended:
		return outcome(ctx, err)
	case <-ctx.Done():
		_ = p.Stop.group(group, ended) // cancelled is the answer, however it ended
		return ctx.Err()
	}
}

func outcome(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if ended := new(exec.ExitError); errors.As(err, &ended) {
		return &ExitError{Code: ended.ExitCode()}
	}
	return fmt.Errorf("wait for ansible-playbook: %w", err)
}

func (p *Playbook) environment(sockets string) []string {
	env := append(os.Environ(),
		"ANSIBLE_CONFIG="+filepath.Join(p.Root, "ansible.cfg"),
		"ANSIBLE_SSH_CONTROL_PATH_DIR="+sockets,
		"ANSIBLE_STDOUT_CALLBACK=discreet",
		"ANSIBLE_FORCE_COLOR=0",
		"ANSIBLE_NOCOLOR=1",
		"PYTHONUNBUFFERED=1",
		marker(sockets),
	)
	if p.Events != "" {
		env = append(env, "SECURECONNECT_EVENTS="+p.Events)
	}
	return env
}

// program prefers the Ansible that the Makefile installed into the repository.
func program(root, name string) string {
	own := filepath.Join(root, ".venv", "bin", name)
	if info, err := os.Stat(own); err == nil && info.Mode().Perm()&0o111 != 0 {
		return own
	}
	return name
}

// Stop is how patiently a run is ended: SIGINT at once, SIGTERM after Interrupt, SIGKILL after Kill.
type Stop struct {
	Terminate time.Duration // after SIGINT; zero: 10 s
	Kill      time.Duration // after SIGINT; zero: 20 s
}

func (s Stop) group(pid int, ended <-chan error) error {
	terminate, kill := s.Terminate, s.Kill
	if terminate == 0 {
		terminate = 10 * time.Second
	}
	if kill == 0 {
		kill = 20 * time.Second
	}
	signalGroup(pid, syscall.SIGINT)
	for _, next := range []struct {
		after  time.Duration
		signal syscall.Signal
	}{{terminate, syscall.SIGTERM}, {kill - terminate, syscall.SIGKILL}} {
		patience := time.NewTimer(next.after)
		select {
		case err := <-ended:
			patience.Stop()
			return err
		case <-patience.C:
			signalGroup(pid, next.signal)
		}
	}
	return <-ended
}

func signalGroup(pid int, signal syscall.Signal) {
	_ = syscall.Kill(-pid, signal) // gone already is what we want
}
