package verify

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"secureconnect/cmd/deploy/internal/remote"
)

//go:embed trap.py
var trapSource string

// trapLife bounds the trap where nobody is left to stop it.
const trapLife = 60 * time.Second

// trap counts what reaches the port beside an app host's media port.
type trap struct {
	host  string
	at    *net.UDPAddr
	nonce []byte

	input *os.File      // its standard input, which ends it when it is closed
	done  chan struct{} // closed when it has ended; out and err are set before
	out   []byte
	err   error
}

// setTrap sets one on a host of the group app. It stands until stop, until ssh goes away, or trapLife.
func (s *site) setTrap(ctx context.Context, host string) (*trap, error) {
	at, err := s.media(host)
	if err != nil {
		return nil, err
	}
	// A pipe of the system's: with one of Go's own, the end of a program that never reads is not noticed.
	input, keep, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	t := &trap{host: host, at: &net.UDPAddr{IP: at.IP, Port: at.Port + 1}, nonce: make([]byte, 16), input: keep, done: make(chan struct{})}
	_, _ = rand.Read(t.nonce) // never errs
	go func() {
		defer close(t.done)
		defer func() { _ = input.Close() }()
		t.out, t.err = s.shell.Run(ctx, host, input, "python3", "-c", trapSource, at.IP.String(), strconv.Itoa(t.at.Port),
			hex.EncodeToString(t.nonce), fmt.Sprintf("%.0f", trapLife.Seconds()))
	}()
	return t, nil
}

// stop takes the trap away and tells how much was in it.
func (t *trap) stop() (int, error) {
	_ = t.input.Close() // it is closed the second time
	<-t.done
	if t.err != nil {
		return 0, t.explain()
	}
	var count struct{ Trapped int }
	if err := json.Unmarshal(t.out, &count); err != nil {
		return 0, fmt.Errorf("read the trap's count on %s: %w", t.host, err)
	}
	return count.Trapped, nil
}

// explain names the usual cause: the port has a tenant.
func (t *trap) explain() error {
	var ended *remote.Error
	if errors.As(t.err, &ended) && !ended.Unreachable {
		return fail("ss -lunp on "+t.host, "a trap could not be set on %s: %s", t.at, ended.Stderr)
	}
	return fmt.Errorf("trap on %s: %w", t.host, t.err)
}
