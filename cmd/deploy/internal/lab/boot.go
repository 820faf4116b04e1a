package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"secureconnect/cmd/deploy/internal/images/docker"
)

// step is how often a server that starts is looked at.
const step = 250 * time.Millisecond

// waitBooted returns when systemd has started everything it is going to start: a server that
// answers is not one that has booted.
func (l *lab) waitBooted(ctx context.Context, n node) error {
	return poll(ctx, func() error {
		state, err := docker.Run(ctx, nil, "exec", l.container(n), "systemctl", "is-system-running", "--wait")
		if state == "running" || state == "degraded" {
			return nil
		}
		return errors.Join(fmt.Errorf("systemd says %q", state), err)
	})
}

// waitSSH returns when sshd greets, which it does once it has its keys.
func waitSSH(ctx context.Context, address string) error {
	return poll(ctx, func() error {
		dialer := net.Dialer{Timeout: time.Second}
		conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(address, "22"))
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return err
		}
		greeting, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil {
			return err
		}
		if !strings.HasPrefix(greeting, "SSH-2.0-") {
			return fmt.Errorf("port 22 greets with %q", greeting)
		}
		return nil
	})
}

// poll asks until the answer is nil; when ctx ends first, the error holds the last answer.
func poll(ctx context.Context, ask func() error) error {
	tick := time.NewTicker(step)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}
