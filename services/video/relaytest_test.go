package video

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"secureconnect/services/internal/config"
	"secureconnect/services/internal/testkit"
	"secureconnect/services/video/sfu"
)

const turnHost = "turn.example.org"

// turnCertificate is a key with its certificate for a name, good until then.
func turnCertificate(t *testing.T, name string, until time.Time) []*pem.Block {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: until.Add(-24 * time.Hour), NotAfter: until, DNSNames: []string{name}}
	leaf, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return []*pem.Block{{Type: "CERTIFICATE", Bytes: leaf}, {Type: "PRIVATE KEY", Bytes: private}}
}

// relayWorld is coturn, this machine's media port beside it, and the test that goes between them.
func relayWorld(t *testing.T, certificate []*pem.Block, settings testkit.Settings) (*testkit.Coturn, *relayTest) {
	t.Helper()
	server := testkit.StartCoturn(t, certificate, settings)
	port, err := net.ListenUDP("udp", &net.UDPAddr{IP: server.Here.AsSlice()})
	if err != nil {
		t.Fatal(err)
	}
	media, err := sfu.New(sfu.Options{
		Log: quiet, Conn: port, Address: server.Here, Stray: answerProbe, Allowed: func(from netip.Addr) bool { return from == server.Address },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = media.Close() })
	return server, newRelayTest(quiet, Config{
		Address: server.Here, MediaPort: port.LocalAddr().(*net.UDPAddr).Port, TURNAddress: server.Address, TURNPublic: server.Address, //nolint:forcetypeassert // as it was opened
		TURN: TURN{Host: turnHost, Port: testkit.TURNPort, TLSPort: testkit.TURNTLSPort, Secret: config.NewSecret(server.Secret), Life: 10 * time.Minute},
	}, prometheus.NewRegistry())
}

// again is the same test, for a change to be made to it.
func (t *relayTest) again() *relayTest {
	return &relayTest{log: t.log, turn: t.turn, server: t.server, public: t.public, media: t.media, passing: t.passing}
}

func (r RelayReport) leg(transport string) RelayLeg {
	for _, leg := range r.Legs {
		if leg.Transport == transport {
			return leg
		}
	}
	return RelayLeg{}
}

func TestRelayTest(t *testing.T) {
	t.Parallel()
	tomorrow := time.Now().Add(24 * time.Hour)
	good := turnCertificate(t, turnHost, tomorrow)

	t.Run("passes_every_way", func(t *testing.T) {
		server, relay := relayWorld(t, good, nil)
		report := relay.test(t.Context())
		if !report.Passed || relay.ready(t.Context()) != nil {
			t.Errorf("found %s", report)
		}
		for _, leg := range report.Legs {
			if leg.Sent != probes || leg.Back != probes || !strings.HasPrefix(leg.Relayed, server.Address.String()+":") {
				t.Errorf("got %+v", leg)
			}
		}
		t.Run("over_http_for_this_host", func(t *testing.T) {
			answer := httptest.NewRecorder()
			relay.serve(answer, httptest.NewRequestWithContext(t.Context(), "POST", pathRelayTest, nil))
			var told RelayReport
			if err := json.Unmarshal(answer.Body.Bytes(), &told); err != nil || !told.Passed {
				t.Errorf("told %s, %v", answer.Body, err)
			}
		})
		t.Run("until_the_secrets_differ", func(t *testing.T) {
			other := relay.again()
			other.turn.Secret = config.NewSecret("another")
			want(t, other.leg(t.Context(), "udp"), "401", "turn_secret")
		})
		t.Run("until_the_clocks_differ", func(t *testing.T) {
			other := relay.again()
			other.turn.Life = -time.Hour // a credential that ended an hour ago, by the server's clock
			want(t, other.leg(t.Context(), "tcp"), "clocks", "date")
		})
		t.Run("until_nobody_is_at_the_media_port", func(t *testing.T) {
			other := relay.again()
			other.media = netip.AddrPortFrom(relay.media.Addr(), relay.media.Port()+1)
			want(t, other.leg(t.Context(), "udp"), "0 of 10 probes", "media_port")
		})
		t.Run("until_it_stops", func(t *testing.T) {
			server.Stop(t)
			report := relay.test(t.Context())
			want(t, report.leg("udp"), "does not answer over udp", "docker compose ps")
			want(t, report.leg("tcp"), "does not take a connection", "docker compose ps")
			want(t, report.leg("tls"), "no TLS", "turn_tls_port")
			if relay.ready(t.Context()) == nil {
				t.Error("it is ready")
			}
			server.Start(t)
			server.Await(t)
			if report := relay.test(t.Context()); !report.Passed {
				t.Errorf("after its return: %s", report)
			}
		})
	})
	t.Run("tells_a_wrong_public_address", func(t *testing.T) {
		_, relay := relayWorld(t, good, testkit.Settings{"external-ip": {"192.0.2.7"}})
		want(t, relay.leg(t.Context(), "udp"), "advertises 192.0.2.7", "public_addresses")
	})
	t.Run("tells_that_this_host_is_no_peer", func(t *testing.T) {
		_, relay := relayWorld(t, good, testkit.Settings{"allowed-peer-ip": {"192.0.2.7"}})
		want(t, relay.leg(t.Context(), "udp"), "403", "addresses")
	})
	t.Run("tells_a_quota", func(t *testing.T) {
		_, relay := relayWorld(t, good, testkit.Settings{"user-quota": {"1"}, "total-quota": {"1"}})
		report := relay.test(t.Context())
		quota := 0
		for _, leg := range report.Legs {
			if strings.Contains(leg.Cause, "486") && strings.Contains(leg.Look, "sizes.yml") {
				quota++
			}
		}
		if quota == 0 {
			t.Errorf("found %s", report)
		}
	})
	for name, certificate := range map[string][]*pem.Block{
		"tells_an_old_certificate":    turnCertificate(t, turnHost, time.Now().Add(-time.Hour)),
		"tells_another_s_certificate": turnCertificate(t, "turn.example.com", tomorrow),
	} {
		t.Run(name, func(t *testing.T) {
			_, relay := relayWorld(t, certificate, nil)
			want(t, relay.leg(t.Context(), "tls"), "its certificate is", "pki_dir")
		})
	}
}

func want(t *testing.T, leg RelayLeg, cause, look string) {
	t.Helper()
	if leg.Passed || !strings.Contains(leg.Cause, cause) || !strings.Contains(leg.Look, look) {
		t.Errorf("%s: %q, look at %q; want %q, %q", leg.Transport, leg.Cause, leg.Look, cause, look)
	}
}

func FuzzAnswerProbe(f *testing.F) {
	f.Add([]byte("\xF5SCPROBE0123456789abcdef"))
	f.Add([]byte("\xF5SCPROBE"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, packet []byte) {
		answer := answerProbe(packet, netip.AddrPort{})
		if answer != nil && (len(packet) != probeLength || string(answer) != string(packet)) {
			t.Errorf("%q is answered with %q", packet, answer)
		}
	})
}
