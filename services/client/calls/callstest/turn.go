package callstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v5"

	"secureconnect/services/internal/wire"
)

// Name is the name that a TURN server's certificate is for, unless TURNSettings say otherwise.
const Name = "turn.example.test"

// TURNSettings say how a TURN server is broken. None given is not at all.
type TURNSettings struct {
	Secret  string        // that credentials are judged by
	Ahead   time.Duration // how far its clock is
	Without []string      // ways in that it does not have: udp, tcp, tls
	Name    string        // of its certificate
	Expired bool          // its certificate

	// Advertise is the address that relays are said to have; nil: the one they have.
	Advertise func(relay *net.UDPAddr) *net.UDPAddr
	// Relay stands between relays and their peers; nil: nobody does.
	Relay func(net.PacketConn) net.PacketConn
	// Permits says whether a peer may be relayed to; nil: all may.
	Permits func(peer net.IP) bool
	// Full is a server that has no allocation left.
	Full bool
}

// TURN is a TURN server on loopback that can be stopped and started.
type TURN struct {
	Port    int // UDP and TCP
	TLSPort int
	Roots   *x509.CertPool

	t           testing.TB
	settings    TURNSettings
	certificate tls.Certificate

	mu     sync.Mutex
	server *turn.Server
	users  []string // who asked for allocations, by full user name, in order
}

const secret = "north"

// NewTURN starts one that goes with the test.
func NewTURN(t testing.TB, settings TURNSettings) *TURN {
	t.Helper()
	if settings.Secret == "" {
		settings.Secret = secret
	}
	if settings.Name == "" {
		settings.Name = Name
	}
	s := &TURN{t: t, settings: settings, Roots: x509.NewCertPool()}
	s.certificate = selfSigned(t, settings)
	leaf, err := x509.ParseCertificate(s.certificate.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	s.Roots.AddCert(leaf)
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

func selfSigned(t testing.TB, settings TURNSettings) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ends := time.Now().Add(time.Hour)
	if settings.Expired {
		ends = time.Now().Add(-time.Minute)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: settings.Name}, DNSNames: []string{settings.Name}, IsCA: true,
		BasicConstraintsValid: true, NotBefore: time.Now().Add(-time.Hour), NotAfter: ends,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// has reports whether the server has a way in.
func (s *TURN) has(way string) bool { return !slices.Contains(s.settings.Without, way) }

// Start listens, after a Stop where it did before.
func (s *TURN) Start() {
	s.t.Helper()
	config := turn.ServerConfig{
		Realm: "example.test", LoggerFactory: &logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled},
		AuthHandler:  s.judge,
		QuotaHandler: func(string, string, net.Addr) bool { return !s.settings.Full },
	}
	permits := func(_ net.Addr, peer net.IP) bool { return s.settings.Permits == nil || s.settings.Permits(peer) }
	packets, streams := s.listen()
	if s.has("udp") {
		config.PacketConnConfigs = append(config.PacketConnConfigs, turn.PacketConnConfig{PacketConn: packets, RelayAddressGenerator: s, PermissionHandler: permits})
	} else {
		_ = packets.Close() // it only kept the port
	}
	if s.has("tcp") {
		config.ListenerConfigs = append(config.ListenerConfigs, turn.ListenerConfig{Listener: streams, RelayAddressGenerator: s, PermissionHandler: permits})
	} else {
		_ = streams.Close() // as above
	}
	if s.has("tls") {
		secure, err := tls.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", s.TLSPort), &tls.Config{Certificates: []tls.Certificate{s.certificate}, MinVersion: tls.VersionTLS12})
		if err != nil {
			s.t.Fatal(err)
		}
		s.TLSPort = secure.Addr().(*net.TCPAddr).Port
		config.ListenerConfigs = append(config.ListenerConfigs, turn.ListenerConfig{Listener: secure, RelayAddressGenerator: s, PermissionHandler: permits})
	}
	server, err := turn.NewServer(config)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	s.server = server
	s.mu.Unlock()
}

// listen takes the same port for UDP and TCP: the one from before, or one that is free for both.
func (s *TURN) listen() (net.PacketConn, net.Listener) {
	s.t.Helper()
	var failed error
	for range 100 {
		packets, err := net.ListenPacket("udp4", fmt.Sprintf("127.0.0.1:%d", s.Port))
		if err != nil {
			s.t.Fatal(err)
		}
		port := packets.LocalAddr().(*net.UDPAddr).Port
		streams, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			s.Port = port
			return packets, streams
		}
		_ = packets.Close() // another one is tried
		failed = err
	}
	s.t.Fatal(failed)
	return nil, nil
}

// Stop ends it with all that it relays.
func (s *TURN) Stop() {
	s.mu.Lock()
	server := s.server
	s.server = nil
	s.mu.Unlock()
	if server != nil {
		_ = server.Close() // what it has is gone either way
	}
}

// judge is what coturn does with use-auth-secret: the user name begins with when it ends (draft-uberti-behave-turn-rest-00 §2.2).
func (s *TURN) judge(asked *turn.RequestAttributes) (string, []byte, bool) {
	s.mu.Lock()
	s.users = append(s.users, asked.Username)
	s.mu.Unlock()
	ends, name, _ := strings.Cut(asked.Username, ":")
	seconds, err := strconv.ParseInt(ends, 10, 64)
	if err != nil || seconds < time.Now().Add(s.settings.Ahead).Unix() {
		return "", nil, false
	}
	return name, turn.GenerateAuthKey(asked.Username, asked.Realm, Password(s.settings.Secret, asked.Username)), true
}

// AskedBy are the full user names seen so far.
func (s *TURN) AskedBy() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := map[string]bool{}
	for _, user := range s.users {
		names[user] = true
	}
	return names
}

// ICE is what a platform says of the server, with a credential that is good for a while.
func (s *TURN) ICE(user string, good time.Duration) wire.ICE {
	ends := time.Now().Add(good)
	name := fmt.Sprintf("%d:%s", ends.Unix(), user)
	return wire.ICE{ExpiresAt: ends, Servers: []wire.ICEServer{{
		Username: name, Credential: Password(secret, name),
		URLs: []string{
			fmt.Sprintf("turn:%s:%d?transport=udp", Name, s.Port), fmt.Sprintf("turn:%s:%d?transport=tcp", Name, s.Port),
			fmt.Sprintf("turns:%s:%d?transport=tcp", Name, s.TLSPort),
		},
	}}}
}

// Validate makes the server its own turn.RelayAddressGenerator.
func (s *TURN) Validate() error { return nil }

// AllocatePacketConn makes a relay as the settings have it.
func (s *TURN) AllocatePacketConn(turn.AllocateListenerConfig) (net.PacketConn, net.Addr, error) {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return nil, nil, fmt.Errorf("make relay: %w", err)
	}
	at := conn.LocalAddr()
	if udp, is := at.(*net.UDPAddr); is && s.settings.Advertise != nil {
		at = s.settings.Advertise(udp)
	}
	if s.settings.Relay != nil {
		conn = s.settings.Relay(conn)
	}
	return conn, at, nil
}

var errNoTCP = errors.New("no relay of TCP")

// AllocateListener makes none.
func (s *TURN) AllocateListener(turn.AllocateListenerConfig) (net.Listener, net.Addr, error) {
	return nil, nil, errNoTCP
}

// AllocateConn makes none.
func (s *TURN) AllocateConn(turn.AllocateConnConfig) (net.Conn, error) { return nil, errNoTCP }
