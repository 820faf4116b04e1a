package calls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/pion/stun/v4"
	"github.com/pion/webrtc/v4"

	"secureconnect/services/client"
	"secureconnect/services/internal/wire"
)

// Ways in to the TURN server.
const (
	OverUDP = "udp"
	OverTCP = "tcp"
	OverTLS = "tls"
)

// wayOf is how a TURN server is reached by a URI, or "" where it is none of the three.
func wayOf(u *stun.URI) string {
	switch {
	case u.Scheme == stun.SchemeTypeTURN && u.Proto == stun.ProtoTypeUDP:
		return OverUDP
	case u.Scheme == stun.SchemeTypeTURN && u.Proto == stun.ProtoTypeTCP:
		return OverTCP
	case u.Scheme == stun.SchemeTypeTURNS && u.Proto == stun.ProtoTypeTCP:
		return OverTLS
	default:
		return ""
	}
}

// relays knows how TURN servers are reached: the library knows neither the deployment's authority nor where its names are.
type relays struct {
	dial    client.DialFunc
	roots   *x509.CertPool
	address string
	ways    []string

	mu    sync.Mutex
	names map[string]string // of TLS, by the address that is dialled
	open  map[int]string    // the ways of streams that are open, by the port on this side
	wrong error             // why the last stream could not be opened; nil where it could
}

func newRelays(o Options) *relays {
	r := &relays{dial: o.Dial, roots: o.RootCAs, address: o.TurnAddress, ways: o.Ways, names: map[string]string{}, open: map[int]string{}}
	if r.dial == nil {
		r.dial = (&net.Dialer{}).DialContext
	}
	return r
}

// dialer opens streams to TURN servers; it is what golang.org/x/net/proxy calls a Dialer.
type dialer func(network, address string) (net.Conn, error)

func (d dialer) Dial(network, address string) (net.Conn, error) { return d(network, address) }

// dialer opens streams until ctx ends, with TLS inside where the address is of such a server.
func (r *relays) dialer(ctx context.Context) dialer {
	return func(network, address string) (net.Conn, error) {
		if network != "tcp4" {
			return nil, net.UnknownNetworkError(network) // each server is asked once
		}
		conn, way, err := r.stream(ctx, network, address)
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.wrong = err; err != nil {
			return nil, err
		}
		s := &stream{Conn: conn, relays: r}
		r.open[s.port()] = way
		return s, nil
	}
}

// stream is one to a TURN server, whose way is known as long as it is open.
type stream struct {
	net.Conn
	relays *relays
}

func (s *stream) port() int {
	at, _ := s.LocalAddr().(*net.TCPAddr) // it is one
	return at.Port
}

func (s *stream) Close() error {
	s.relays.mu.Lock()
	delete(s.relays.open, s.port())
	s.relays.mu.Unlock()
	return s.Conn.Close() //nolint:wrapcheck // its own error
}

// wayFrom is how a TURN server is reached from a port on this side.
func (r *relays) wayFrom(port int) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if way := r.open[port]; way != "" {
		return way
	}
	return OverUDP
}

// dialTimeout bounds one stream to the TURN server.
const dialTimeout = 5 * time.Second

func (r *relays) stream(ctx context.Context, network, address string) (conn net.Conn, way string, err error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if conn, err = r.dial(ctx, network, address); err != nil {
		return nil, "", fmt.Errorf("dial %s: %w", address, err)
	}
	r.mu.Lock()
	name, secure := r.names[address]
	r.mu.Unlock()
	if !secure {
		return conn, OverTCP, nil
	}
	sealed := tls.Client(conn, &tls.Config{ServerName: name, RootCAs: r.roots, MinVersion: tls.VersionTLS12})
	if err := sealed.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // the handshake's error is the one to tell
		return nil, "", fmt.Errorf("dial %s by TLS: %w", address, err)
	}
	return sealed, OverTLS, nil
}

// trouble is why the last stream could not be opened.
func (r *relays) trouble() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.wrong
}

// servers are those that are to be used, at the address where they are. What is no TURN server is passed over.
func (r *relays) servers(offered wire.ICE) []webrtc.ICEServer {
	var servers []webrtc.ICEServer
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, server := range offered.Servers {
		used := webrtc.ICEServer{Username: server.Username, Credential: server.Credential}
		for _, text := range server.URLs {
			u, err := stun.ParseURI(text)
			if err != nil {
				continue
			}
			way := wayOf(u)
			if way == "" || len(r.ways) > 0 && !slices.Contains(r.ways, way) {
				continue
			}
			name := u.Host
			if r.address != "" {
				u.Host = r.address
			}
			if way == OverTLS {
				r.names[net.JoinHostPort(u.Host, strconv.Itoa(u.Port))] = name
			}
			used.URLs = append(used.URLs, u.String())
		}
		if len(used.URLs) > 0 {
			servers = append(servers, used)
		}
	}
	return servers
}
