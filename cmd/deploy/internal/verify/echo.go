package verify

import (
	"context"
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

//go:embed echo.py
var echoSource string

// echoLife bounds the echo where nobody is left to stop it.
const echoLife = 30 * time.Second

// echo answers packets on an app host's media port, and counts what reaches the port beside it, the trap.
type echo struct {
	host  string
	media *net.UDPAddr
	trap  *net.UDPAddr
	nonce []byte

	input *os.File      // its standard input, which ends it when it is closed
	done  chan struct{} // closed when it has ended; out and err are set before
	out   []byte
	err   error
}

// echoCount is what an echo saw of packets with its nonce.
type echoCount struct {
	Echoed  int      `json:"echoed"`
	Trapped int      `json:"trapped"`
	Senders []string `json:"senders"`
}

// startEcho starts one on a host of the group app. It runs until stop, until ssh goes away, or echoLife.
func (s *site) startEcho(ctx context.Context, host string, nonce []byte) (*echo, error) {
	ip := net.ParseIP(s.Hosts[host].Address)
	if ip == nil {
		return nil, fail("addresses", "the address of %s is no IP address", host)
	}
	// A pipe of the system's: with one of Go's own, the end of a program that never reads is not noticed.
	input, keep, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	e := &echo{
		host:  host,
		media: &net.UDPAddr{IP: ip, Port: s.MediaPort},
		trap:  &net.UDPAddr{IP: ip, Port: s.MediaPort + 1},
		nonce: nonce,
		input: keep,
		done:  make(chan struct{}),
	}
	go func() {
		defer close(e.done)
		defer func() { _ = input.Close() }()
		e.out, e.err = s.shell.Run(ctx, host, input, "python3", "-c", echoSource, ip.String(), strconv.Itoa(e.media.Port),
			strconv.Itoa(e.trap.Port), hex.EncodeToString(nonce), fmt.Sprintf("%.0f", echoLife.Seconds()))
	}()
	return e, nil
}

// stop ends the echo and returns what it saw.
func (e *echo) stop() (echoCount, error) {
	_ = e.input.Close()
	<-e.done
	if e.err != nil {
		return echoCount{}, e.explain()
	}
	var count echoCount
	if err := json.Unmarshal(e.out, &count); err != nil {
		return echoCount{}, fmt.Errorf("read the echo's count on %s: %w", e.host, err)
	}
	return count, nil
}

// explain names the usual cause: the port has a tenant.
func (e *echo) explain() error {
	var ended *remote.Error
	if errors.As(e.err, &ended) && !ended.Unreachable {
		return fail("media_port, and ss -lunp on "+e.host, "an echo could not listen on %s and port %d: %s", e.media, e.trap.Port, ended.Stderr)
	}
	return fmt.Errorf("echo on %s: %w", e.host, e.err)
}
