package video

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pion/logging"
	"github.com/pion/stun/v4"
	"github.com/pion/turn/v5"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// probeMark begins a probe: a datagram that nothing else on the media port begins with (RFC 7983 §7). Who reaches the port gets it back.
var probeMark = []byte("\xF5SCPROBE")

const probeLength = 8 + 16 // and a nonce

// answerProbe gives a probe back, and nothing to anything else.
func answerProbe(packet []byte, _ netip.AddrPort) []byte {
	if len(packet) != probeLength || !bytes.HasPrefix(packet, probeMark) {
		return nil
	}
	return packet
}

// RelayReport is what the test of the relay found: one leg for each way into the TURN server.
type RelayReport struct {
	At     time.Time  `json:"at"`
	Passed bool       `json:"passed"`
	Legs   []RelayLeg `json:"legs"`
}

// RelayLeg is one way in, and how far probes came: to the TURN server, through it to this host's media port, and back.
type RelayLeg struct {
	Transport string `json:"transport"` // udp, tcp or tls
	Passed    bool   `json:"passed"`
	Relayed   string `json:"relayed,omitempty"` // the address the relay advertises
	Sent      int    `json:"sent"`
	Back      int    `json:"back"`
	Millis    int64  `json:"ms"` // from dialling to the last probe's return
	Cause     string `json:"cause,omitempty"`
	Look      string `json:"look,omitempty"` // the variable, file or command that mends it
}

// String is the report for a person.
func (r RelayReport) String() string {
	var text strings.Builder
	for _, leg := range r.Legs {
		if leg.Passed {
			fmt.Fprintf(&text, "%s: %d probes came through %s to the media port and back within %d ms\n", leg.Transport, leg.Back, leg.Relayed, leg.Millis)
			continue
		}
		fmt.Fprintf(&text, "%s: %s; look at %s\n", leg.Transport, leg.Cause, leg.Look)
	}
	return text.String()
}

const (
	probes       = 10
	probePause   = 20 * time.Millisecond
	legTimeout   = 5 * time.Second
	relayEvery   = 10 * time.Minute
	relayAgain   = 30 * time.Second // after one that failed
	relayAtStart = 3 * time.Second
)

// relayTest proves, as a client's packets would, that the TURN server passes packets to this host's media port and back.
type relayTest struct {
	log     *slog.Logger
	turn    TURN
	server  netip.Addr     // where we reach it
	public  netip.Addr     // what it must advertise
	media   netip.AddrPort // this host's port
	passing *prometheus.GaugeVec

	running sync.Mutex // one test at a time

	mu   sync.Mutex
	last RelayReport
}

func newRelayTest(log *slog.Logger, c Config, registry prometheus.Registerer) *relayTest {
	t := &relayTest{
		log: log, turn: c.TURN, server: c.TURNAddress, public: c.TURNPublic,
		media: netip.AddrPortFrom(c.Address, uint16(c.MediaPort)), //nolint:gosec // a port, as Config checks
		passing: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "video_relay_passing", Help: "1 where probes come through the TURN server to this host and back.",
		}, []string{"transport"}),
	}
	registry.MustRegister(t.passing)
	return t
}

// run tests now and then, and sooner after a failure, until ctx ends.
func (t *relayTest) run(ctx context.Context) error {
	timer := time.NewTimer(relayAtStart)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		pause := relayEvery
		if report := t.test(ctx); !report.Passed {
			pause = relayAgain
			if ctx.Err() == nil {
				t.log.Warn("calls do not get through the TURN server", "op", "video.relay", "found", report.String())
			}
		}
		timer.Reset(pause)
	}
}

var errRelay = errors.New("the last test of the relay failed")

// ready fails after a test that failed.
func (t *relayTest) ready(context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last.At.IsZero() || t.last.Passed {
		return nil
	}
	return fmt.Errorf("%w: %s", errRelay, t.last)
}

// serve tests, and answers what it found.
func (t *relayTest) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(t.test(r.Context())) // who left does not read it
}

func (t *relayTest) test(ctx context.Context) RelayReport {
	t.running.Lock()
	defer t.running.Unlock()
	report := RelayReport{At: time.Now(), Passed: true, Legs: make([]RelayLeg, 3)}
	var group errgroup.Group
	for i, transport := range []string{"udp", "tcp", "tls"} {
		group.Go(func() error {
			report.Legs[i] = t.leg(ctx, transport)
			return nil
		})
	}
	_ = group.Wait() // no leg fails, each says
	for _, leg := range report.Legs {
		report.Passed = report.Passed && leg.Passed
		passing := 0.0
		if leg.Passed {
			passing = 1
		}
		t.passing.WithLabelValues(leg.Transport).Set(passing)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = report
	return report
}

// broken is a leg's failure: its cause, and what mends it.
type broken struct{ cause, look string }

func (b *broken) Error() string { return b.cause }

func (t *relayTest) leg(ctx context.Context, transport string) RelayLeg {
	ctx, cancel := context.WithTimeout(ctx, legTimeout)
	defer cancel()
	leg := RelayLeg{Transport: transport}
	began := time.Now()
	err := t.probe(ctx, &leg)
	leg.Millis = time.Since(began).Milliseconds()
	leg.Passed = err == nil
	if err != nil {
		leg.Cause, leg.Look = err.Error(), "docker compose logs coturn on the storage host"
		var known *broken
		if errors.As(err, &known) {
			leg.Look = known.look
		}
	}
	return leg
}

// probesAgain is how often a way is tried anew where the answer to an allocation cannot be used, as was seen once of a busy coturn.
const probesAgain = 2

func (t *relayTest) probe(ctx context.Context, leg *RelayLeg) error {
	for again := 0; ; again++ {
		err := t.probeOnce(ctx, leg)
		if !errors.Is(err, stun.ErrAttributeNotFound) || again == probesAgain {
			return err
		}
	}
}

func (t *relayTest) probeOnce(ctx context.Context, leg *RelayLeg) error {
	conn, at, err := t.dial(ctx, leg.Transport)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // done with it
	ice := t.turn.ice("relaytest-"+rand.Text()[:8], time.Now()).Servers[0]
	client, err := turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: at, Conn: conn, Username: ice.Username, Password: ice.Credential,
		RequestedAddressFamily: turn.RequestedAddressFamilyIPv4,
		LoggerFactory:          &logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled},
	})
	if err != nil {
		return fmt.Errorf("make a TURN client: %w", err)
	}
	defer client.Close()
	defer context.AfterFunc(ctx, client.Close)() // ends pion's transactions, which know no context
	if err := client.Listen(); err != nil {
		return fmt.Errorf("listen to the TURN server: %w", err)
	}
	relay, err := client.Allocate()
	if err != nil {
		return t.explainAllocate(ctx, err, leg.Transport, at)
	}
	defer func() { _ = relay.Close() }() // gives the allocation back
	leg.Relayed = relay.LocalAddr().String()
	if err := t.advertised(relay.LocalAddr()); err != nil {
		return err
	}
	return t.exchange(ctx, client, relay, leg)
}

func (t *relayTest) dial(ctx context.Context, transport string) (net.PacketConn, string, error) {
	at := net.JoinHostPort(t.server.String(), strconv.Itoa(t.turn.Port))
	var d net.Dialer
	switch transport {
	case "udp":
		conn, err := net.ListenPacket("udp4", ":0")
		return conn, at, err
	case "tcp":
		conn, err := d.DialContext(ctx, "tcp", at)
		if err != nil {
			return nil, at, &broken{fmt.Sprintf("the TURN server does not take a connection at %s: %v", at, err), "turn_port in ports.yml, and docker compose ps on the storage host"}
		}
		return turn.NewSTUNConn(conn), at, nil
	default:
		at = net.JoinHostPort(t.server.String(), strconv.Itoa(t.turn.TLSPort))
		// Who signed the certificate is for the machines of people to judge, as `deploy verify` does; here it is whether there is one
		// for the name, and whether it is still good.
		secure := tls.Dialer{NetDialer: &d, Config: &tls.Config{ServerName: t.turn.Host, InsecureSkipVerify: true, VerifyConnection: t.goodCertificate, MinVersion: tls.VersionTLS12}} //nolint:gosec // see above
		conn, err := secure.DialContext(ctx, "tcp", at)
		if err != nil {
			return nil, at, &broken{fmt.Sprintf("no TLS with the TURN server at %s: %v", at, err), "turn_tls_port in ports.yml, public_domain, and pki_dir (the certificate of the TURN server)"}
		}
		return turn.NewSTUNConn(conn), at, nil
	}
}

func (t *relayTest) goodCertificate(state tls.ConnectionState) error {
	certificate := state.PeerCertificates[0]
	if now := time.Now(); now.After(certificate.NotAfter) || now.Before(certificate.NotBefore) {
		return fmt.Errorf("its certificate is good from %s to %s", certificate.NotBefore.UTC().Format(time.DateTime), certificate.NotAfter.UTC().Format(time.DateTime))
	}
	if err := certificate.VerifyHostname(t.turn.Host); err != nil {
		return fmt.Errorf("its certificate is not for %s: %w", t.turn.Host, err)
	}
	return nil
}

func codeOf(err error) stun.ErrorCode {
	var answered *stun.TurnError
	if errors.As(err, &answered) {
		return answered.ErrorCodeAttr.Code
	}
	return 0
}

func (t *relayTest) explainAllocate(ctx context.Context, err error, transport, at string) error {
	switch code := codeOf(err); {
	case code == stun.CodeUnauthorized:
		return &broken{
			fmt.Sprintf("the TURN server at %s refuses our credential (401): it has another secret, or the clocks of the two hosts differ by more than %s", at, t.turn.Life),
			"turn_secret in secrets_file (apply the storage host as well), and `date` on both hosts",
		}
	case code == stun.CodeAllocQuotaReached:
		return &broken{fmt.Sprintf("the TURN server at %s has no allocation left (486)", at), "the coturn quotas in sizes.yml"}
	case code != 0:
		return &broken{fmt.Sprintf("the TURN server at %s refuses an allocation with %d", at, code), "docker compose logs coturn on the storage host"}
	case ctx.Err() != nil:
		return &broken{fmt.Sprintf("the TURN server does not answer over %s at %s within %s", transport, at, legTimeout), "turn_port in ports.yml, and docker compose ps on the storage host"}
	default:
		return fmt.Errorf("allocate over %s at %s: %w", transport, at, err)
	}
}

// advertised: browsers give the relay's address to nobody but us; but one that is wrong shows that the server does not know its own.
func (t *relayTest) advertised(relayed net.Addr) error {
	at, err := netip.ParseAddrPort(relayed.String())
	if err == nil && at.Addr().Unmap() == t.public {
		return nil
	}
	return &broken{
		fmt.Sprintf("the relay advertises %s, which is not the public address %s", relayed, t.public),
		"public_addresses (coturn's external-ip)",
	}
}

// exchange sends probes to the media port and counts what comes back.
func (t *relayTest) exchange(ctx context.Context, client *turn.Client, relay net.PacketConn, leg *RelayLeg) error {
	media := net.UDPAddrFromAddrPort(t.media)
	if err := client.CreatePermission(media); err != nil {
		if codeOf(err) == stun.CodeForbidden {
			return &broken{fmt.Sprintf("the TURN server refuses to relay to %s (403)", t.media.Addr()), "addresses (coturn allows the app hosts as peers)"}
		}
		return fmt.Errorf("ask to relay to %s: %w", t.media.Addr(), err)
	}
	sent := map[string]bool{}
	for leg.Sent < probes && ctx.Err() == nil {
		probe := make([]byte, probeLength)
		copy(probe, probeMark)
		_, _ = rand.Read(probe[len(probeMark):]) // never errs
		sent[string(probe)] = true
		if _, err := relay.WriteTo(probe, media); err != nil {
			return fmt.Errorf("send through the relay: %w", err)
		}
		leg.Sent++
		if err := t.collect(relay, sent, leg, time.Now().Add(probePause)); err != nil {
			return err
		}
	}
	if err := t.collect(relay, sent, leg, time.Now().Add(time.Second)); err != nil {
		return err
	}
	if leg.Back < leg.Sent {
		return &broken{
			fmt.Sprintf("%d of %d probes came back from %s through the relay", leg.Back, leg.Sent, t.media),
			"media_port, relay_port_min and relay_port_max in ports.yml; nft list table inet secureconnect on this host and on the storage host",
		}
	}
	return nil
}

// collect takes what comes back until all has, or until then.
func (t *relayTest) collect(relay net.PacketConn, sent map[string]bool, leg *RelayLeg, until time.Time) error {
	buffer := make([]byte, 2*probeLength)
	for leg.Back < leg.Sent {
		if err := relay.SetReadDeadline(until); err != nil {
			return fmt.Errorf("receive through the relay: %w", err)
		}
		n, _, err := relay.ReadFrom(buffer)
		var late net.Error
		if errors.As(err, &late) && late.Timeout() {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive through the relay: %w", err)
		}
		if probe := string(buffer[:n]); sent[probe] {
			delete(sent, probe)
			leg.Back++
		}
	}
	return nil
}
