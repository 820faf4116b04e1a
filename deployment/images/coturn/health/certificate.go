package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// lookAgain is how often coturn is asked whether it has read its certificate.
const lookAgain = 50 * time.Millisecond

// renewCertificate has coturn read its certificate again where it serves another one than the file
// has. What is connected stays so.
func renewCertificate(ctx context.Context, s settings, tell func() error) error {
	wanted, err := leafOf(s.certificate)
	if err != nil {
		return err
	}
	served, err := servedAt(ctx, s.tlsAddress)
	if err != nil {
		return err
	}
	if bytes.Equal(served, wanted) {
		return nil
	}
	if err := tell(); err != nil {
		return fmt.Errorf("tell coturn of its new certificate: %w", err)
	}
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("coturn serves another certificate than %s: %w", s.certificate, ctx.Err())
		case <-tick.C:
		}
		// While it changes over, a handshake may fail.
		if served, err := servedAt(ctx, s.tlsAddress); err == nil && bytes.Equal(served, wanted) {
			return nil
		}
	}
}

// readAgain gives the sign that coturn, the container's first process, waits for.
func readAgain() error { return syscall.Kill(1, syscall.SIGUSR2) }

func leafOf(path string) ([]byte, error) {
	text, err := os.ReadFile(path) // #nosec G304 -- the file coturn reads
	if err != nil {
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			return block.Bytes, nil
		}
	}
	return nil, fmt.Errorf("%s has no certificate", path)
}

func servedAt(ctx context.Context, address string) ([]byte, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("ask %s for its certificate: %w", address, err)
	}
	defer func() { _ = conn.Close() }()                                // nothing was written
	secured := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) // #nosec G402 -- compared byte by byte instead
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("ask %s for its certificate: %w", address, err)
	}
	return secured.ConnectionState().PeerCertificates[0].Raw, nil // a server without one does not get this far
}
