package testkit

import (
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Coturn is the deployment's own TURN server, in a container on a network of its own with this machine.
type Coturn struct {
	Address netip.Addr // its own
	Here    netip.Addr // this machine's on that network: the only peer it relays to, unless Settings say otherwise
	Secret  string

	name string
	root string
}

// Settings change a line of a Coturn's configuration: by its name, to other values, or to none. Nothing given is nothing changed.
type Settings map[string][]string

// TURN ports, and the range it relays from, which is small: it must come back soon.
const (
	TURNPort    = 3478
	TURNTLSPort = 5349
	turnRealm   = "turn.test"
	turnUID     = 9005
)

// networks are those this process has made: a container chooses its address only where its network's was chosen.
var networks atomic.Uint32

// StartCoturn runs one that goes with the test. Certificate is its certificate and key in PEM.
func StartCoturn(t testing.TB, certificate []*pem.Block, settings Settings) *Coturn {
	t.Helper()
	root, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	ref, err := imageRef(root, "coturn")
	if err != nil {
		t.Fatalf("No coturn for the tests: %v. Run `make images`.", err)
	}
	place := [4]byte{10, 98, byte(os.Getpid() & 0xff), byte(networks.Add(1) << 4)} //nolint:gosec // what does not fit is not needed
	subnet := netip.PrefixFrom(netip.AddrFrom4(place), 28)
	c := &Coturn{Here: subnet.Addr().Next(), Secret: rand.Text(), name: "secureconnect-testkit-coturn-" + strings.ToLower(rand.Text()[:8]), root: root}
	c.Address = c.Here.Next()
	config := c.configure(t, certificate, settings)
	must(t, "network", "create", "--label", "secureconnect.testkit="+root, "--subnet", subnet.String(), "--gateway", c.Here.String(), c.name)
	t.Cleanup(func() {
		if t.Failed() {
			said, _ := docker("logs", "--tail", "20", c.name)
			t.Logf("coturn said:\n%s", said)
		}
		must(t, "rm", "--force", c.name)
		must(t, "network", "rm", c.name)
	})
	must(t, "run", "--detach", "--name", c.name, "--label", "secureconnect.testkit="+root, "--network", c.name, "--ip", c.Address.String(),
		"--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true", "--tmpfs", "/tmp",
		"--tmpfs", fmt.Sprintf("/run/coturn:uid=%d,mode=0700", turnUID), "--volume", config+":/etc/secureconnect/coturn:ro", ref)
	c.Await(t)
	return c
}

func must(t testing.TB, arguments ...string) {
	t.Helper()
	if _, err := docker(arguments...); err != nil {
		t.Fatal(err)
	}
}

// configure writes what the container reads, in lines as the role does.
func (c *Coturn) configure(t testing.TB, certificate []*pem.Block, settings Settings) string {
	t.Helper()
	lines := map[string][]string{
		"listening-ip": {c.Address.String()}, "listening-port": {fmt.Sprint(TURNPort)}, "tls-listening-port": {fmt.Sprint(TURNTLSPort)},
		"relay-ip": {c.Address.String()}, "external-ip": {c.Address.String()}, "min-port": {"49152"}, "max-port": {"49407"},
		"use-auth-secret": {""}, "userdb": {"/run/coturn/turndb"}, "realm": {turnRealm}, "fingerprint": {""},
		"no-tcp-relay": {""}, "denied-peer-ip": {"0.0.0.0-255.255.255.255"}, "allowed-peer-ip": {c.Here.String()},
		"cert": {"/etc/secureconnect/coturn/turn.pem"}, "pkey": {"/etc/secureconnect/coturn/turn.pem"},
		"no-cli": {""}, "no-dtls": {""}, "pidfile": {"/run/coturn/turnserver.pid"}, "log-file": {"stdout"}, "simple-log": {""},
	}
	for name, values := range settings {
		lines[name] = values
	}
	var text strings.Builder
	for name, values := range lines {
		for _, value := range values {
			if value == "" {
				text.WriteString(name + "\n")
			} else {
				text.WriteString(name + "=" + value + "\n")
			}
		}
	}
	var keys strings.Builder
	for _, block := range certificate {
		_ = pem.Encode(&keys, block) // a builder takes everything
	}
	folder := t.TempDir()
	for up := folder; up != os.TempDir(); up = filepath.Dir(up) { // the container's user looks in
		if err := os.Chmod(up, 0o755); err != nil { //nolint:gosec // see above
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{"turnserver.conf": text.String(), "secrets": c.Secret + "\n", "turn.pem": keys.String()} {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(content), 0o444); err != nil { //nolint:gosec // a test server's, for a moment
			t.Fatal(err)
		}
	}
	return folder
}

// Await returns when it answers on its port.
func (c *Coturn) Await(t testing.TB) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		_, err := docker("exec", c.name, "coturn-health")
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			logs, _ := docker("logs", "--tail", "20", c.name)
			t.Fatal(errors.Join(err, errors.New(logs)))
		}
		<-time.After(100 * time.Millisecond)
	}
}

// Stop ends it as a crash does, with all that it relays; Start makes it come back.
func (c *Coturn) Stop(t testing.TB) { t.Helper(); must(t, "kill", c.name) }

// Start makes one come back that was stopped.
func (c *Coturn) Start(t testing.TB) { t.Helper(); must(t, "start", c.name) }
