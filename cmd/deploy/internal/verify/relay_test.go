package verify

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"secureconnect/cmd/deploy/internal/inventory"
	"secureconnect/services/client/calls"
	"secureconnect/services/client/calls/callstest"
)

// The expected password was computed with openssl:
// printf 1433895918:verify | openssl dgst -sha1 -hmac north -binary | base64
func TestCredentialFor(t *testing.T) {
	got := credentialFor("north", "verify", time.Unix(1433895918, 0))
	if want := (credential{"1433895918:verify", "RwKhVkiaTWcjgy3rDemPO3LugdU="}); got != want {
		t.Errorf("got %s %s, want %s", got.username, got.password, want.password)
	}
}

func TestTurnSecret_prints_as_secret(t *testing.T) {
	c := credentialFor("north", "verify", time.Unix(0, 0))
	for _, printed := range []string{fmt.Sprint(turnSecret("north")), fmt.Sprintf("%#v", turnSecret("north")), fmt.Sprintf("%v", c)} {
		if strings.Contains(printed, "north") || strings.Contains(printed, c.password) {
			t.Errorf("it prints %q", printed)
		}
	}
}

func TestTurnSecret_from_the_inventory(t *testing.T) {
	for name, c := range map[string]struct {
		file string
		want turnSecret
		look string
	}{
		"plain":               {"sql_password: a\nturn_secret: north\n", "north", ""},
		"without the secret":  {"sql_password: a\n", "", "secrets_file"},
		"no YAML":             {"{", "", "secrets_file"},
		"encrypted, no vault": {"$ANSIBLE_VAULT;1.1;AES256\n00\n", "", "--vault-password-file"},
	} {
		t.Run(name, func(t *testing.T) {
			desc := describedLoopback()
			desc.Root = t.TempDir()
			desc.SecretsFile = filepath.Join(desc.Root, "secrets.yml")
			if err := os.WriteFile(desc.SecretsFile, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := surveyed(t, desc, nowhere).turnSecret(t.Context())
			if got != c.want {
				t.Error("another secret was read")
			}
			if told := verdict("secret", "", "", err, 0)[0]; c.look != "" && !strings.Contains(told.Look, c.look) {
				t.Errorf("got %+v", told)
			}
		})
	}
}

// coturnCase is a deployment on this machine, one part of it broken: coturn, what it shares with video, the firewalls, the clocks.
type coturnCase struct {
	turn    callstest.TURNSettings
	filed   string                               // turn_secret in the secrets file; "" is the one that all have, "-" is no file
	made    string                               // the secret that video makes credentials with; "" as above
	clock   map[string]time.Duration             // how far hosts are ahead
	nobody  bool                                 // at the media port
	fence   string                               // what the firewalls stop: see fenced
	changes func(*inventory.Description)         // nil: nothing
	trusts  func(*callstest.TURN) *x509.CertPool // nil: what it should

	stops [4]atomic.Int64 // what the firewalls counted, by the constants below
}

// Counters of the two firewalls.
const (
	stoppedOut = iota // coturn's output chain
	droppedApp        // input of the app host
	droppedStorage
	letIn // at the media port
)

const shared = "north" // callstest's secret

// fenced is a relay's socket behind the firewalls of both hosts.
type fenced struct {
	net.PacketConn
	c     *coturnCase
	media int
	sent  int
}

func (f *fenced) WriteTo(packet []byte, to net.Addr) (int, error) {
	at, _ := to.(*net.UDPAddr)
	f.sent++
	switch {
	case f.c.fence == "out", at.Port != f.media && f.c.fence != "leaks":
		f.c.stops[stoppedOut].Add(1)
		return len(packet), nil
	case f.c.fence == "in":
		f.c.stops[droppedApp].Add(1)
		return len(packet), nil
	case f.c.fence == "between", f.c.fence == "lossy" && f.sent%10 == 0:
		return len(packet), nil
	}
	if f.sent == 1 {
		f.c.stops[letIn].Add(1) // the others follow it
	}
	return f.PacketConn.WriteTo(packet, to)
}

func (f *fenced) ReadFrom(buffer []byte) (int, net.Addr, error) {
	for {
		n, from, err := f.PacketConn.ReadFrom(buffer)
		if err != nil || f.c.fence != "back" {
			return n, from, err
		}
		f.c.stops[droppedStorage].Add(1)
	}
}

// relay starts all of it, and gives the rung's view.
func (c *coturnCase) relay(t *testing.T) *relay {
	t.Helper()
	media := freeUDP(t)
	if !c.nobody {
		answerProbes(t, media)
	}
	c.turn.Relay = func(conn net.PacketConn) net.PacketConn { return &fenced{PacketConn: conn, c: c, media: media} }
	server := callstest.NewTURN(t, c.turn)
	desc := describedLoopback()
	desc.Groups["app"] = []string{"app-01"}
	desc.Names.Turn = callstest.Name
	desc.MediaPort, desc.Turn.Port, desc.Turn.TLSPort = media, server.Port, server.TLSPort
	desc.SecretsFile = filepath.Join(t.TempDir(), "secrets.yml")
	if c.filed != "-" {
		if err := os.WriteFile(desc.SecretsFile, []byte("turn_secret: "+cmp.Or(c.filed, shared)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if c.changes != nil {
		c.changes(desc)
	}
	s := surveyed(t, desc, shellFunc(c.shell))
	s.roots = server.Roots
	if c.trusts != nil {
		s.roots = c.trusts(server)
	}
	made := time.Now().Add(c.clock["app-01"])
	r := &relay{site: s, issued: issued{credentialFor(turnSecret(cmp.Or(c.made, shared)), "p1", made.Add(10*time.Minute)), "app-01"}}
	t.Cleanup(r.takeTraps)
	return r
}

// shell sets traps here, and answers for firewalls and clocks.
func (c *coturnCase) shell(ctx context.Context, host string, stdin io.Reader, argv ...string) ([]byte, error) {
	switch argv[0] {
	case "nft":
		counters := map[string]int64{counterDropped: c.stops[droppedApp].Load(), counterMedia: c.stops[letIn].Load()}
		if host == "storage-01" {
			counters = map[string]int64{counterDropped: c.stops[droppedStorage].Load(), counterRelay: c.stops[stoppedOut].Load()}
		}
		var listed []any
		for name, packets := range counters {
			listed = append(listed, map[string]any{"counter": map[string]any{"name": name, "packets": packets}})
		}
		return json.Marshal(map[string]any{"nftables": listed})
	case "date":
		return fmt.Appendf(nil, "%.9f\n", float64(time.Now().Add(c.clock[host]).UnixNano())/1e9), nil
	default:
		return here(ctx, host, stdin, argv...)
	}
}

// answerProbes is the SFU of an app host, as far as probes go.
func answerProbes(t *testing.T, port int) {
	t.Helper()
	conn, err := net.ListenPacket("udp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buffer := make([]byte, 2000)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			if n == probeSize && strings.HasPrefix(string(buffer[:n]), probeMark) {
				_, _ = conn.WriteTo(buffer[:n], from)
			}
		}
	}()
}

// freeUDP is a port that is free, and so is the next.
func freeUDP(t *testing.T) int {
	t.Helper()
	for range 100 {
		first, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := portOf(t, first.LocalAddr())
		second, err := net.ListenPacket("udp4", fmt.Sprintf("127.0.0.1:%d", port+1))
		_ = first.Close()
		if err == nil {
			_ = second.Close()
			return port
		}
	}
	t.Fatal("no two ports are free")
	return 0
}

func TestRelay_carries_every_probe(t *testing.T) {
	r := (&coturnCase{}).relay(t)
	for _, way := range ways {
		proved, err := r.carries(t.Context(), way, "app-01")
		if err != nil || !strings.Contains(proved, "100 probes") {
			t.Errorf("over %s: %s, %v", way, proved, err)
		}
	}
}

// Whatever is broken, the failure names it and where to look.
func TestRelay_broken(t *testing.T) {
	elsewhere := func(address string) func(*net.UDPAddr) *net.UDPAddr {
		return func(relay *net.UDPAddr) *net.UDPAddr { return &net.UDPAddr{IP: net.ParseIP(address), Port: relay.Port} }
	}
	for name, c := range map[string]struct {
		is    *coturnCase
		way   string
		cause []string
		look  string
	}{
		"nothing listens over TCP": {
			&coturnCase{turn: callstest.TURNSettings{Without: []string{calls.OverTCP}}}, calls.OverTCP, []string{"nothing listens at"}, "docker compose ps on",
		},
		"nothing listens over TLS": {
			&coturnCase{changes: func(d *inventory.Description) { d.Turn.TLSPort = 1 }}, calls.OverTLS, []string{"nothing listens at 127.0.0.1:1"}, "docker compose ps on",
		},
		"nothing listens over UDP": {
			&coturnCase{turn: callstest.TURNSettings{Without: []string{calls.OverUDP}}}, calls.OverUDP, []string{"does not answer over udp"}, "turn_port",
		},
		"a certificate of another name": {
			&coturnCase{turn: callstest.TURNSettings{Name: "other.example.test"}}, calls.OverTLS, []string{"is for other.example.test and not for " + callstest.Name}, "public_domain",
		},
		"a certificate that has ended": {&coturnCase{turn: callstest.TURNSettings{Expired: true}}, calls.OverTLS, []string{"out of date"}, "edge_tls"},
		"a chain that is not whole": {
			&coturnCase{trusts: func(*callstest.TURN) *x509.CertPool { return x509.NewCertPool() }}, calls.OverTLS, []string{"signed by an authority"}, "pki_dir",
		},
		"the clock of coturn's host is ahead": {
			&coturnCase{turn: callstest.TURNSettings{Ahead: 20 * time.Minute}, clock: map[string]time.Duration{"storage-01": 20 * time.Minute}}, calls.OverUDP,
			[]string{"the clock of storage-01 is off by +1200 s", "app-01 and storage-01 are +1200 s apart"}, "timedatectl on storage-01",
		},
		"the clock of the app host is behind": {
			&coturnCase{clock: map[string]time.Duration{"app-01": -time.Hour}}, calls.OverUDP, []string{"the clock of app-01 is off by -3600 s"}, "timedatectl on app-01",
		},
		"coturn has another secret": {
			&coturnCase{turn: callstest.TURNSettings{Secret: "south"}}, calls.OverUDP, []string{"video on app-01 makes credentials with turn_secret", "coturn on storage-01 refuses them"}, "the secrets of coturn on storage-01",
		},
		"video has another secret": {
			&coturnCase{made: "south"}, calls.OverUDP, []string{"video on app-01 has another secret"}, "TURN_SECRET_FILE of video on app-01",
		},
		"the secrets file is another deployment's, which nobody asks": {
			&coturnCase{filed: "west"}, calls.OverUDP, []string{}, "",
		},
		"all have different secrets": {
			&coturnCase{filed: "west", made: "south"}, calls.OverUDP, []string{"not the file that was deployed"}, "secrets_file",
		},
		"there is no secrets file": {&coturnCase{filed: "-", made: "south"}, calls.OverUDP, []string{"cannot be told"}, "secrets_file"},
		"another address advertised": {
			&coturnCase{turn: callstest.TURNSettings{Advertise: elsewhere("192.0.2.1")}}, calls.OverUDP, []string{"the relayed address is 192.0.2.1 and not the public 127.0.0.1"}, "external-ip",
		},
		"an address of Docker's advertised": {
			&coturnCase{turn: callstest.TURNSettings{Advertise: elsewhere("172.17.0.2")}}, calls.OverUDP, []string{"172.17.0.2", "Docker"}, "network_mode",
		},
		"the private address advertised": {
			&coturnCase{turn: callstest.TURNSettings{Advertise: elsewhere("10.1.2.3")}, changes: func(d *inventory.Description) {
				d.Hosts["storage-01"] = inventory.Host{Address: "10.1.2.3", PublicAddress: "127.0.0.1"}
			}}, calls.OverUDP, []string{"10.1.2.3", "storage-01's own"}, "external-ip",
		},
		"a port out of the range": {
			&coturnCase{changes: func(d *inventory.Description) { d.Turn.RelayMin, d.Turn.RelayMax = 1, 2 }}, calls.OverUDP, []string{"is not in 1-2"}, "relay_port_min",
		},
		"the output chain stops what goes to the app host": {
			&coturnCase{fence: "out"}, calls.OverUDP, []string{"0 of 100 probes", "the output chain of storage-01 stops"}, "media_port",
		},
		"the app host's firewall drops what comes": {
			&coturnCase{fence: "in"}, calls.OverUDP, []string{"the firewall of app-01 drops what comes to its media port"}, "media_port",
		},
		"coturn's firewall drops the answers": {
			&coturnCase{fence: "back"}, calls.OverUDP, []string{"the firewall of storage-01 drops the answers", "relay range"}, "relay_port_min",
		},
		"nobody is at the media port": {&coturnCase{nobody: true}, calls.OverUDP, []string{"nobody answers"}, "docker compose ps video on app-01"},
		"the network between drops it": {
			&coturnCase{fence: "between"}, calls.OverUDP, []string{"leave storage-01 and do not arrive at app-01"}, "addresses",
		},
		"some are lost": {&coturnCase{fence: "lossy"}, calls.OverUDP, []string{"of 100 probes came back", "loses the others"}, "nft list table"},
		"coturn does not know the app host": {
			&coturnCase{turn: callstest.TURNSettings{Permits: func(net.IP) bool { return false }}}, calls.OverUDP, []string{"refuses to relay to app-01", "403"}, "addresses",
		},
		"coturn is full": {&coturnCase{turn: callstest.TURNSettings{Full: true}}, calls.OverUDP, []string{"no allocation left (486)"}, "coturn_user_quota"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := c.is.relay(t)
			_, err := r.carries(t.Context(), c.way, "app-01")
			if c.look == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			got := verdict("relay", "", "", err, 0)[0]
			if got.Status != Failed || !strings.Contains(got.Look, c.look) {
				t.Errorf("got %+v", got)
			}
			for _, cause := range c.cause {
				if !strings.Contains(got.Cause, cause) {
					t.Errorf("%q says nothing of %q", got.Cause, cause)
				}
			}
		})
	}
}

func TestRelay_other_ports(t *testing.T) {
	for name, c := range map[string]struct {
		fence, look string
	}{"stopped": {"", ""}, "let through": {"leaks", "output chain"}} {
		t.Run(name, func(t *testing.T) {
			r := (&coturnCase{fence: c.fence}).relay(t)
			if err := r.setTraps(t.Context()); err != nil {
				t.Fatal(err)
			}
			awaitTrap(t, r.traps[0])
			_, err := r.refusesPorts(t.Context())
			got := verdict("ports", "", "", err, 0)[0]
			if c.look == "" && got.Status != Passed || c.look != "" && !strings.Contains(got.Look, c.look) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// awaitTrap returns when the trap stands: its port is taken.
func awaitTrap(t *testing.T, set *trap) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		conn, err := net.ListenUDP("udp4", set.at)
		if err != nil {
			return
		}
		_ = conn.Close()
		<-time.After(20 * time.Millisecond)
	}
	t.Fatal("the trap does not stand")
}

func TestTrap_names_the_tenant_of_its_port(t *testing.T) {
	tenant, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tenant.Close() }()
	desc := describedLoopback()
	desc.MediaPort = portOf(t, tenant.LocalAddr()) - 1
	set, err := surveyed(t, desc, here).setTrap(t.Context(), "app-01")
	if err != nil {
		t.Fatal(err)
	}
	<-set.done // it ends by itself
	if trapped, err := set.stop(); err == nil {
		t.Errorf("it counted %d on a port that was taken", trapped)
	}
}

func TestRelay_refuses_credentials(t *testing.T) {
	if proved, err := (&coturnCase{}).relay(t).refusesCredentials(t.Context()); err != nil || !strings.Contains(proved, "expired") {
		t.Errorf("%s, %v", proved, err)
	}
	_, err := (&coturnCase{turn: callstest.TURNSettings{Ahead: -time.Hour}}).relay(t).refusesCredentials(t.Context())
	if got := verdict("credentials", "", "", err, 0)[0]; !strings.Contains(got.Cause, "accepts an expired credential") {
		t.Errorf("got %+v", got)
	}
}

func TestRelay_refuses_peers(t *testing.T) {
	apps := func(peer net.IP) bool { return peer.String() == "10.9.9.9" }
	for name, c := range map[string]struct {
		permits func(net.IP) bool
		passes  bool
	}{"only app hosts": {apps, true}, "everybody": {nil, false}} {
		t.Run(name, func(t *testing.T) {
			r := (&coturnCase{turn: callstest.TURNSettings{Permits: c.permits}}).relay(t)
			_, err := r.refusesPeers(t.Context())
			if got := verdict("peers", "", "", err, 0)[0]; (got.Status == Passed) != c.passes {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestCredential_tells_who_made_it(t *testing.T) {
	c := credentialFor("north", "p:1", time.Unix(1433895918, 0))
	if ends, known := c.ends(); !known || ends.Unix() != 1433895918 || !c.madeWith("north") || c.madeWith("south") {
		t.Errorf("%s ends at %s", c, ends)
	}
	for _, odd := range []credential{{}, {"x", "y"}, {"12", "y"}, {":a", ""}} {
		if odd.madeWith("north") {
			t.Errorf("%q is said to be made with a secret", odd.username)
		}
	}
}

func TestAllocate_nobody_answers(t *testing.T) {
	silence, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silence.Close() }()
	desc := describedLoopback()
	desc.Turn.Port = portOf(t, silence.LocalAddr())
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = surveyed(t, desc, nowhere).allocate(ctx, calls.OverUDP, credential{"a", "b"})
	if c := verdict("relay", "", "", err, 0)[0]; !strings.Contains(c.Look, "turn_port") {
		t.Errorf("got %+v", c)
	}
}

func answeredWith(code stun.ErrorCode) error {
	return fmt.Errorf("create permission: %w", &stun.TurnError{ErrorCodeAttr: stun.ErrorCodeAttribute{Code: code}})
}

func TestRefusedPeer(t *testing.T) {
	db := peer{"db-01", net.ParseIP("10.89.0.13")}
	for name, c := range map[string]struct {
		answer error
		held   bool
	}{
		"forbidden":          {answeredWith(stun.CodeForbidden), true},
		"permitted":          {nil, false},
		"allocation is lost": {answeredWith(stun.CodeAllocMismatch), false},
		"no answer":          {errors.New("all retransmissions failed"), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := refusedPeer(db, c.answer); (got == nil) != c.held {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestStrangers_are_all_but_app_hosts(t *testing.T) {
	n := newNetwork(t)
	r := &relay{site: n.site}
	var names []string
	for _, p := range r.strangers() {
		names = append(names, p.name)
	}
	if got := strings.Join(names, ", "); got != "coturn's loopback, the internet, db-01, lb-01, storage-01" {
		t.Errorf("got %s", got)
	}
}

func TestExplainTURN(t *testing.T) {
	s := surveyed(t, describedLoopback(), nowhere)
	for code, look := range map[stun.ErrorCode]string{
		stun.CodeUnauthorized:      "secrets_file",
		stun.CodeAllocQuotaReached: "coturn_user_quota",
		stun.CodeServerError:       "docker compose logs coturn on storage-01",
	} {
		err := s.explainTURN(t.Context(), answeredWith(code), "udp", "192.0.2.1:3478")
		if c := verdict("relay", "", "", err, 0)[0]; !strings.Contains(c.Look, look) {
			t.Errorf("%d: got %+v", code, c)
		}
	}
}
