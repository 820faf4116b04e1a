package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v5"
)

// serve runs a TURN server that knows REST credentials of secret, and returns its address.
func serve(t *testing.T, secret string) string {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	logs := logging.NewDefaultLoggerFactory()
	logs.DefaultLogLevel = logging.LogLevelDisabled
	server, err := turn.NewServer(turn.ServerConfig{
		Realm:         "test",
		LoggerFactory: logs,
		AuthHandler:   turn.LongTermTURNRESTAuthHandler(secret, logs.NewLogger("auth")),
		PacketConnConfigs: []turn.PacketConnConfig{{
			PacketConn: conn,
			RelayAddressGenerator: &turn.RelayAddressGeneratorStatic{
				RelayAddress: net.IPv4(127, 0, 0, 1), Address: "127.0.0.1",
			},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return conn.LocalAddr().String()
}

// configuration writes turnserver.conf and the secrets beside it.
func configuration(t *testing.T, text, secrets string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "turnserver.conf")
	err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.WriteFile(filepath.Join(filepath.Dir(path), "secrets"), []byte(secrets), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCheck(t *testing.T) {
	address := serve(t, "right")
	for secret, healthy := range map[string]bool{"right": true, "wrong": false} {
		if err := check(t.Context(), settings{address: address, secret: secret}, time.Now()); (err == nil) != healthy {
			t.Errorf("with the %s secret: %v", secret, err)
		}
	}
}

func TestReadConfig(t *testing.T) {
	got, err := readConfig(configuration(t,
		"# x\nlistening-ip=10.0.0.1\nlistening-ip=fd00::1\nlistening-port=3479\ntls-listening-port=5350\ncert=/a/turn.pem\n", "new=1\nold\n"))
	want := settings{address: "10.0.0.1:3479", tlsAddress: "10.0.0.1:5350", certificate: "/a/turn.pem", secret: "new=1"}
	if err != nil || got != want {
		t.Errorf("settings %+v, error %v, want %+v", got, err, want)
	}
	if _, err := readConfig(configuration(t, "listening-ip=10.0.0.1\n", "")); err == nil {
		t.Error("no secret is enough")
	}
}

// newCertificate writes a key and its certificate into one file, as the deployment does.
func newCertificate(t *testing.T, path string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	leaf, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf})...)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	certificate, err := tls.X509KeyPair(text, text)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func TestRenewCertificate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "turn.pem")
	var served atomic.Pointer[tls.Certificate]
	first := newCertificate(t, path)
	served.Store(&first)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return served.Load(), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			_ = conn.(*tls.Conn).Handshake() // the client judges
			_ = conn.Close()
		}
	}()
	s := settings{tlsAddress: listener.Addr().String(), certificate: path}

	told := 0
	if err := renewCertificate(t.Context(), s, func() error { told++; return nil }); err != nil || told != 0 {
		t.Errorf("the certificate that is served: %v, told %d times", err, told)
	}
	second := newCertificate(t, path)
	err = renewCertificate(t.Context(), s, func() error { told++; served.Store(&second); return nil })
	if err != nil || told != 1 {
		t.Errorf("a new certificate: %v, told %d times", err, told)
	}
	newCertificate(t, path)
	ctx, cancel := context.WithTimeout(t.Context(), 3*lookAgain)
	defer cancel()
	if err := renewCertificate(ctx, s, func() error { return nil }); err == nil {
		t.Error("a server that goes on with its old certificate is healthy")
	}
}
