package calls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v5"

	"secureconnect/services/internal/wire"
)

const (
	turnSecret = "north"
	turnName   = "turn.example.test"
)

// turnServer is a TURN server on loopback that can be stopped and started.
type turnServer struct {
	t           *testing.T
	certificate tls.Certificate
	roots       *x509.CertPool
	udp, tcp    int
	tls         int

	mu     sync.Mutex
	server *turn.Server
	users  []string // who asked for allocations, by full user name, in order
}

func newTurnServer(t *testing.T) *turnServer {
	t.Helper()
	s := &turnServer{t: t, roots: x509.NewCertPool()}
	s.certificate = selfSigned(t, turnName)
	leaf, err := x509.ParseCertificate(s.certificate.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	s.roots.AddCert(leaf)
	s.start()
	t.Cleanup(s.stop)
	return s
}

func selfSigned(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// start listens, after a stop where it did before.
func (s *turnServer) start() {
	s.t.Helper()
	packets, err := net.ListenPacket("udp4", fmt.Sprintf("127.0.0.1:%d", s.udp))
	if err != nil {
		s.t.Fatal(err)
	}
	streams, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", s.tcp))
	if err != nil {
		s.t.Fatal(err)
	}
	secure, err := tls.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", s.tls), &tls.Config{Certificates: []tls.Certificate{s.certificate}, MinVersion: tls.VersionTLS12})
	if err != nil {
		s.t.Fatal(err)
	}
	s.udp, s.tcp, s.tls = packets.LocalAddr().(*net.UDPAddr).Port, streams.Addr().(*net.TCPAddr).Port, secure.Addr().(*net.TCPAddr).Port
	generator := &turn.RelayAddressGeneratorStatic{RelayAddress: net.IPv4(127, 0, 0, 1), Address: "127.0.0.1"}
	quiet := &logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled}
	judge := turn.LongTermTURNRESTAuthHandler(turnSecret, quiet.NewLogger("turn"))
	server, err := turn.NewServer(turn.ServerConfig{
		Realm: "example.test", LoggerFactory: quiet,
		AuthHandler: func(asked *turn.RequestAttributes) (string, []byte, bool) {
			s.mu.Lock()
			s.users = append(s.users, asked.Username)
			s.mu.Unlock()
			return judge(asked)
		},
		PacketConnConfigs: []turn.PacketConnConfig{{PacketConn: packets, RelayAddressGenerator: generator}},
		ListenerConfigs:   []turn.ListenerConfig{{Listener: streams, RelayAddressGenerator: generator}, {Listener: secure, RelayAddressGenerator: generator}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	s.server = server
	s.mu.Unlock()
}

func (s *turnServer) stop() {
	s.mu.Lock()
	server := s.server
	s.server = nil
	s.mu.Unlock()
	if server != nil {
		_ = server.Close()
	}
}

// askedBy are the user names seen so far.
func (s *turnServer) askedBy() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := map[string]bool{}
	for _, user := range s.users {
		names[user] = true
	}
	return names
}

// offer is what the platform says of the server, with a credential that is good for a while.
func (s *turnServer) offer(user string, good time.Duration) wire.ICE {
	name, password, err := turn.GenerateLongTermTURNRESTCredentials(turnSecret, user, good)
	if err != nil {
		panic(err)
	}
	return wire.ICE{ExpiresAt: time.Now().Add(good), Servers: []wire.ICEServer{{
		Username: name, Credential: password,
		URLs: []string{
			fmt.Sprintf("turn:%s:%d?transport=udp", turnName, s.udp), fmt.Sprintf("turn:%s:%d?transport=tcp", turnName, s.tcp),
			fmt.Sprintf("turns:%s:%d?transport=tcp", turnName, s.tls),
		},
	}}}
}
