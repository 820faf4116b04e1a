package verify

import (
	"context"
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

	"github.com/pion/logging"
	"github.com/pion/stun/v4"
	"github.com/pion/turn/v5"
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

// turnServer is a TURN server of pion's beside an app host, both this machine. What it cannot do as coturn
// does (peers refused with 403, credentials with 401) is judged in tables below and proven in the lab.
type turnServer struct {
	secret  string
	lossy   bool // every tenth packet to the echo is lost
	trapped bool // packets to the port beside the media port are let through
	nat     bool // the address it names is not the one that leads there
	stopped atomic.Int64
}

// fencedConn is a relay's socket behind the firewall of the storage host.
type fencedConn struct {
	net.PacketConn
	server *turnServer
	media  int
	sent   int
}

func (c *fencedConn) WriteTo(packet []byte, to net.Addr) (int, error) {
	at, _ := to.(*net.UDPAddr)
	c.sent++
	if at.Port != c.media && !c.server.trapped {
		c.server.stopped.Add(1)
		return len(packet), nil
	}
	if c.server.lossy && c.sent%10 == 0 {
		return len(packet), nil
	}
	return c.PacketConn.WriteTo(packet, to)
}

// fencing makes relays with that firewall; it is a turn.RelayAddressGenerator.
type fencing struct {
	server *turnServer
	media  int
}

func (f fencing) Validate() error { return nil }

func (f fencing) AllocatePacketConn(turn.AllocateListenerConfig) (net.PacketConn, net.Addr, error) {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	at := conn.LocalAddr()
	if f.server.nat {
		at = &net.UDPAddr{IP: net.ParseIP("192.0.2.1"), Port: 50000}
	}
	return &fencedConn{PacketConn: conn, server: f.server, media: f.media}, at, nil
}

var errNoTCP = errors.New("no TCP relay")

func (f fencing) AllocateListener(turn.AllocateListenerConfig) (net.Listener, net.Addr, error) {
	return nil, nil, errNoTCP
}

func (f fencing) AllocateConn(turn.AllocateConnConfig) (net.Conn, error) { return nil, errNoTCP }

// serve starts the server and returns the rung that is to prove it.
func (ts *turnServer) serve(t *testing.T) *relay {
	t.Helper()
	media := freeUDP(t)
	datagrams, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stream, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	quiet := &logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled}
	server, err := turn.NewServer(turn.ServerConfig{
		Realm:             domain,
		LoggerFactory:     quiet,
		AuthHandler:       turn.LongTermTURNRESTAuthHandler(ts.secret, quiet.NewLogger("turn")),
		PacketConnConfigs: []turn.PacketConnConfig{{PacketConn: datagrams, RelayAddressGenerator: fencing{ts, media}}},
		ListenerConfigs:   []turn.ListenerConfig{{Listener: stream, RelayAddressGenerator: fencing{ts, media}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	desc := describedLoopback()
	desc.Groups["app"] = []string{"app-01"}
	desc.MediaPort, desc.Turn.Port = media, portOf(t, datagrams.LocalAddr())
	r := &relay{site: surveyed(t, desc, ts.shell()), secret: "north"}
	t.Cleanup(r.stopEchoes)
	if _, err := r.startEchoes(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

// shell runs the echo here, and answers for the firewall.
func (ts *turnServer) shell() shellFunc {
	return func(ctx context.Context, host string, stdin io.Reader, argv ...string) ([]byte, error) {
		if argv[0] == "nft" {
			return json.Marshal(map[string]any{"nftables": []any{
				map[string]any{"counter": map[string]any{"name": counterRelay, "packets": ts.stopped.Load()}},
				map[string]any{"counter": map[string]any{"name": counterDropped, "packets": 0}},
			}})
		}
		return here(ctx, host, stdin, argv...)
	}
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

func TestRelay_carries_every_packet(t *testing.T) {
	r := (&turnServer{secret: "north"}).serve(t)
	_, err := r.carries(t.Context(), "udp", r.echoes[0])
	if c := verdict("relay", "", "", err, 0)[0]; c.Status != Passed {
		t.Errorf("got %+v", c)
	}
}

func TestRelay_broken(t *testing.T) {
	for name, c := range map[string]struct {
		server *turnServer
		breaks func(*relay)
		look   string
	}{
		"lost packets":               {&turnServer{secret: "north", lossy: true}, func(*relay) {}, "relay_port_min"},
		"another address advertised": {&turnServer{secret: "north", nat: true}, func(*relay) {}, "public_addresses"},
		"a port out of the range":    {&turnServer{secret: "north"}, func(r *relay) { r.Turn.RelayMin, r.Turn.RelayMax = 1, 2 }, "relay_port_min"},
		"nobody at the media port":   {&turnServer{secret: "north"}, func(r *relay) { r.stopEchoes() }, "python3 on app-01"},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.server.serve(t)
			c.breaks(r)
			_, err := r.carries(t.Context(), "udp", r.echoes[0])
			if got := verdict("relay", "", "", err, 0)[0]; got.Status != Failed || !strings.Contains(got.Look, c.look) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestRelay_other_ports(t *testing.T) {
	for name, c := range map[string]struct {
		server *turnServer
		look   string
	}{
		"stopped":     {&turnServer{secret: "north"}, ""},
		"let through": {&turnServer{secret: "north", trapped: true}, "output chain"},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.server.serve(t)
			_, err := r.refusesPorts(t.Context())
			got := verdict("ports", "", "", err, 0)[0]
			if c.look == "" && got.Status != Passed || c.look != "" && !strings.Contains(got.Look, c.look) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestEcho_names_the_tenant_of_its_port(t *testing.T) {
	tenant, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tenant.Close() }()
	desc := describedLoopback()
	desc.MediaPort = portOf(t, tenant.LocalAddr())
	e, err := surveyed(t, desc, here).startEcho(t.Context(), "app-01", make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	<-e.done // it ends by itself
	if count, err := e.stop(); err == nil {
		t.Errorf("it counted %+v on a port that was taken", count)
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
	_, err = surveyed(t, desc, nowhere).allocate(ctx, "udp", credential{"a", "b"})
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
		stun.CodeAllocQuotaReached: "quotas",
		stun.CodeServerError:       "docker compose logs coturn on storage-01",
	} {
		err := s.explainTURN(t.Context(), answeredWith(code), "udp", "192.0.2.1:3478")
		if c := verdict("relay", "", "", err, 0)[0]; !strings.Contains(c.Look, look) {
			t.Errorf("%d: got %+v", code, c)
		}
	}
}
