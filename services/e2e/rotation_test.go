//go:build lab

package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"secureconnect/services/client/calls"
)

// While a rotation is under way both secrets open the relay, and afterwards the old one does not; with it the TURN server gets a new
// certificate. Nothing is started anew, and what was relayed before goes on being relayed.
func rotatesTURNSecret(t *testing.T, s *system) {
	file := filepath.Join(s.inventory(), "secrets.yml")
	copied, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	old, before := s.turnSecret(t), s.containers(t)
	call := dialTURN(t, s, "udp", old, "rotation")
	call.mustAllocate(t)

	linh, mai := s.newCaller(t, "", calls.OverUDP), s.newCaller(t, "", calls.OverTLS)
	id := linh.begin(group(t, linh, mai))
	linh.join(id)
	mai.join(id)
	linh.hears(20*time.Second, mai)
	mai.hears(20*time.Second, linh)
	for _, c := range []*caller{linh, mai} {
		c.reset()
	}
	s.mustDeploy(t, "secrets", "rotate", "turn", "-i", s.name)
	s.mustDeploy(t, "apply", "-i", s.name, "--no-images", "--no-verify")
	linh.hears(5*time.Second, mai)
	mai.hears(5*time.Second, linh)
	check(t, "the secret rotated, seconds without sound or picture", max(linh.longest(), mai.longest()).Seconds(), 3)
	if err := errors.Join(linh.call.Leave(t.Context()), mai.call.Leave(t.Context())); err != nil {
		t.Error(err)
	}
	current, during := s.turnSecret(t), s.containers(t)
	if current == old {
		t.Fatal("the secret is the old one")
	}
	s.relayKnows(t, old, true)
	s.relayKnows(t, current, true)
	call.goesOn(t)
	if restarted := sortedDifference(before, during); len(restarted) > 0 {
		t.Errorf("a rotation starts something anew:\n%s", strings.Join(restarted, "\n"))
	}
	changesNothing(t, s)
	leaksNoSecret(t, s)

	if r := s.deploy(t, "secrets", "retire", "turn", "-i", s.name); r.code != 3 || !strings.Contains(r.stdout, "are good for") {
		t.Errorf("retired although credentials of the old secret are good: exit %d\n%s", r.code, tail(r.stdout, 20))
	}
	s.mustDeploy(t, "secrets", "retire", "turn", "--at-once", "-i", s.name)
	served := s.turnCertificate(t)
	if err := os.Remove(filepath.Join(s.inventory(), "pki/turn.crt")); err != nil {
		t.Fatal(err)
	}
	s.mustDeploy(t, "apply", "-i", s.name, "--no-images", "--no-verify")
	s.relayKnows(t, old, false)
	s.relayKnows(t, current, true)
	call.goesOn(t)
	if s.turnCertificate(t).Equal(served) {
		t.Error("the TURN server serves its old certificate")
	}
	if restarted := sortedDifference(during, s.containers(t)); len(restarted) > 0 {
		t.Errorf("the end of a rotation starts something anew:\n%s", strings.Join(restarted, "\n"))
	}
	changesNothing(t, s)
	s.refusesSecretsOf(t, copied)
}

// relayKnows wants the TURN server to take credentials of a secret, or to refuse them.
func (s *system) relayKnows(t *testing.T, secret string, yes bool) {
	t.Helper()
	want := 0
	if !yes {
		want = int(stun.CodeUnauthorized)
	}
	if code, err := dialTURN(t, s, "udp", secret, "rotation").allocate(protoUDP, 0); err != nil || code != want {
		t.Errorf("the TURN server answers %d %v, want %d", code, err, want)
	}
}

// turnCertificate is what the TURN server shows to a client that trusts the system's CA.
func (s *system) turnCertificate(t *testing.T) *x509.Certificate {
	t.Helper()
	conn, err := tls.Dial("tcp", s.turnAddress()+":5349", &tls.Config{RootCAs: s.roots(t), ServerName: "turn.secureconnect.com"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	return conn.ConnectionState().PeerCertificates[0]
}

// goesOn prolongs the allocation, which is no longer there where the server was started anew.
func (c *turnClient) goesOn(t *testing.T) {
	t.Helper()
	if code, err := c.ask(stun.MethodRefresh, attribute(stun.AttrLifetime, 0, 0, 2, 88)); code != 0 || err != nil {
		t.Errorf("what was allocated before is not prolonged: %d %v", code, err)
	}
}

// refusesSecretsOf looks what becomes of another operator, who has an older copy of the file.
func (s *system) refusesSecretsOf(t *testing.T, copied []byte) {
	t.Helper()
	file := filepath.Join(s.inventory(), "secrets.yml")
	current, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.WriteFile(file, current, 0o600); err != nil {
			t.Fatal(err)
		}
	}()
	if err := os.WriteFile(file, copied, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := s.deploy(t, "preflight", "-i", s.name); r.code != 3 || !strings.Contains(r.stdout, "is older than what these hosts run") {
		t.Errorf("an older file: exit %d\n%s", r.code, tail(r.stdout, 20))
	}
}
