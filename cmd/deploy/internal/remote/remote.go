// Package remote runs commands on the inventory's hosts as root, through the ssh client and the
// inventory's own key and arguments. One connection a host is kept until Close.
package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"secureconnect/cmd/deploy/internal/inventory"
)

// ssh's own status for "no connection"; a remote command that ends so is indistinguishable.
const sshFailed = 255

// Error is a command that did not end well.
type Error struct {
	Host        string
	Command     string // the program's name only: arguments may be long and are the caller's
	Code        int
	Unreachable bool
	Stderr      string
}

func (e *Error) Error() string {
	if e.Unreachable {
		return fmt.Sprintf("%s cannot be reached: %s", e.Host, e.Stderr)
	}
	if e.Stderr == "" {
		return fmt.Sprintf("%s on %s ended with status %d", e.Command, e.Host, e.Code)
	}
	return fmt.Sprintf("%s on %s ended with status %d: %s", e.Command, e.Host, e.Code, e.Stderr)
}

// Remote reaches the hosts of one inventory.
type Remote struct {
	hosts   map[string]inventory.Host
	program string // "ssh"; tests put a program of their own here
	sockets string

	mu      sync.Mutex
	masters map[string]*master
}

// master is the kept connection to one host.
type master struct {
	mu sync.Mutex
	up bool
}

// New prepares connections to the described hosts; none is opened before the first Run.
func New(description *inventory.Description) (*Remote, error) {
	// Short, since the path of a Unix socket ends at 108 bytes, and readable by nobody else.
	sockets, err := os.MkdirTemp("", "deploy-ssh-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for ssh's sockets: %w", err)
	}
	return &Remote{
		hosts:   description.Hosts,
		program: "ssh",
		sockets: sockets,
		masters: make(map[string]*master),
	}, nil
}

// Close ends the kept connections.
func (r *Remote) Close() error {
	ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
	defer stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, m := range r.masters {
		if !m.up {
			continue
		}
		bye := r.command(ctx, name, "-O", "exit")
		_ = bye.Run() // the connection may be gone already; ControlPersist ends it anyway
	}
	return os.RemoveAll(r.sockets)
}

// asRoot runs its arguments as root whoever logged in, without a second round trip.
const asRoot = `[ "$(id -u)" = 0 ] && exec "$@"; exec sudo -n -- "$@"`

// Run runs argv as root on the host and gives back its standard output. stdin may be nil.
// The error is an *Error when the host or the command is to blame.
func (r *Remote) Run(ctx context.Context, host string, stdin io.Reader, argv ...string) ([]byte, error) {
	if _, ok := r.hosts[host]; !ok {
		return nil, fmt.Errorf("the inventory has no host %q", host)
	}
	if len(argv) == 0 {
		return nil, errors.New("no command to run")
	}
	if err := r.connect(ctx, host); err != nil {
		return nil, err
	}
	line := Quote(append([]string{"sh", "-c", asRoot, "sh"}, argv...)...)
	cmd := r.command(ctx, host, "-o", "ControlMaster=no", "-T")
	cmd.Args = append(cmd.Args, "--", line)
	cmd.Stdin = stdin
	return output(cmd, host, argv[0])
}

// connect opens the kept connection once, however many callers wait for it; a failure is not
// remembered, so that a host that comes back is found.
func (r *Remote) connect(ctx context.Context, host string) error {
	r.mu.Lock()
	m, ok := r.masters[host]
	if !ok {
		m = &master{}
		r.masters[host] = m
	}
	r.mu.Unlock()

	m.mu.Lock()
	defer m.mu.Unlock()
	if m.up {
		return nil
	}
	// -f: in the background once authenticated, in a session of its own.
	cmd := r.command(ctx, host, "-M", "-N", "-f", "-o", "ControlPersist=60")
	if _, err := output(cmd, host, "ssh"); err != nil {
		return err
	}
	m.up = true
	return nil
}

// command is ssh to the host with our options first, so that they win over the inventory's.
func (r *Remote) command(ctx context.Context, name string, options ...string) *exec.Cmd {
	host := r.hosts[name]
	args := []string{
		"-o", "BatchMode=yes",
		"-o", "ConnectTimeout=8",
		"-o", "ServerAliveInterval=10",
		"-o", "ServerAliveCountMax=3",
		"-o", "LogLevel=ERROR",
		"-o", "ControlPath=" + filepath.Join(r.sockets, "%C"),
	}
	args = append(args, options...)
	if host.Key != "" {
		args = append(args, "-i", host.Key, "-o", "IdentitiesOnly=yes")
	}
	if host.Port != 0 {
		args = append(args, "-p", strconv.Itoa(host.Port))
	}
	if host.User != "" {
		args = append(args, "-l", host.User)
	}
	args = append(args, split(host.SSHArgs)...)
	address := host.Address
	if address == "" {
		address = name
	}
	cmd := exec.CommandContext(ctx, r.program, append(args, address)...) // #nosec G204 -- the operator's own inventory
	// A group of its own: Ctrl-C at the terminal is for us to handle, not for ssh to die of.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// Older clients leave standard error open in the background process.
	cmd.WaitDelay = time.Second
	return cmd
}

func output(cmd *exec.Cmd, host, program string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return stdout.Bytes(), nil
	}
	if ended := new(exec.ExitError); errors.As(err, &ended) && ended.ExitCode() >= 0 {
		return stdout.Bytes(), &Error{
			Host:        host,
			Command:     program,
			Code:        ended.ExitCode(),
			Unreachable: ended.ExitCode() == sshFailed,
			Stderr:      strings.TrimSpace(stderr.String()),
		}
	}
	return stdout.Bytes(), fmt.Errorf("run %s on %s: %w", program, host, err)
}
