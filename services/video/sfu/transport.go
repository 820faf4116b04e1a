package sfu

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/fingerprint"
	"github.com/pion/dtls/v3/pkg/crypto/selfsign"
	"github.com/pion/logging"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"github.com/pion/transport/v5/packetio"
)

const (
	mostWaiting    = 512 // packets that have come and not been looked at
	mostEarly      = 64  // of media, before the keys are there
	mostHandshake  = 32  // packets of DTLS that wait
	replayWindow   = 1024
	handshakeAgain = 200 * time.Millisecond
	handshakeFor   = 30 * time.Second
	silentAfter    = 8 * time.Second // browsers check the way every 2.5 s
	moveAfter      = 3 * time.Second // of silence, and who checks from another address is believed to have moved there
	restartAfter   = time.Second     // the same, of who restarts ICE
)

// profile is the only one, so that both connections of a participant have the same.
const profile = dtls.SRTP_AEAD_AES_128_GCM

// states of a transport.
const (
	stateNew int32 = iota // not connected yet
	stateConnected
	stateSilent // nothing has come for a while; it may again
	stateClosed // the client, or a failed handshake, has ended it
)

// taker is what a transport carries for. It is called by one goroutine, and may keep nothing of what it is given.
type taker interface {
	takeRTP(packet []byte, now time.Time)
	takeRTCP(packet []byte, now time.Time)
	connected()
}

// transport is a connection to a client, from ICE (lite, RFC 8445) to SRTP (RFC 3711), keyed by DTLS (RFC 5764). One goroutine of its own
// takes what comes for it.
type transport struct {
	sfu    *SFU
	taker  taker
	log    *slog.Logger
	state  atomic.Int32
	heard  atomic.Int64 // when last something came that only the client can have sent
	there  atomic.Int64 // and from the address in use
	remote atomic.Pointer[netip.AddrPort]

	addresses []netip.AddrPort // guarded by the ways

	mu          sync.Mutex
	local       credentials
	generation  int
	chosen      int // the generation of the address in use
	settled     int // and the last one in which the client has chosen
	certificate tls.Certificate
	peer        peerKey
	pipe        *pipe
	going       sync.WaitGroup
	ctx         context.Context
	cancel      context.CancelFunc

	inbox   sync.Mutex
	waiting []*datagram
	spare   []*datagram
	wake    chan struct{}

	in     atomic.Pointer[srtp.Context]
	early  []*datagram // the taking goroutine's
	header rtp.Header  // as well

	sealing sync.Mutex
	out     *srtp.Context
	sealed  rtp.Header
}

// peerKey is what the client said of its side of DTLS.
type peerKey struct {
	algorithm, fingerprint string
	client                 bool // it begins the handshake
}

func (s *SFU) newTransport(k taker) (*transport, error) {
	certificate, err := selfsign.GenerateSelfSigned()
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	t := &transport{
		sfu: s, taker: k, log: s.o.Log, certificate: certificate, local: newCredentials(), wake: make(chan struct{}, 1),
		waiting: make([]*datagram, 0, mostWaiting), spare: make([]*datagram, 0, mostWaiting),
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.pipe = newPipe(t)
	s.ways.open(t, t.local, 0)
	t.going.Go(t.run)
	return t, nil
}

// fingerprint is what a description says of our certificate.
func (t *transport) fingerprint() (string, error) {
	certificate, err := x509.ParseCertificate(t.certificate.Certificate[0])
	if err != nil {
		return "", fmt.Errorf("read a certificate of ours: %w", err)
	}
	hash, err := fingerprint.HashFromString("sha-256")
	if err != nil {
		return "", err
	}
	print, err := fingerprint.Fingerprint(certificate, hash)
	return "sha-256 " + strings.ToUpper(print), err
}

// begin takes the client's key, and starts the handshake. Called again it does nothing.
func (t *transport) begin(peer peerKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.peer.fingerprint != "" || t.isDone() {
		return
	}
	t.peer = peer
	t.going.Go(t.shake)
}

// renew makes other credentials, for an ICE restart. The old ones are good until the new ones are used (RFC 8445 §9).
func (t *transport) renew() credentials {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sfu.ways.keepOnly(t, t.chosen)
	t.generation++
	t.local = newCredentials()
	t.sfu.ways.open(t, t.local, t.generation)
	return t.local
}

func (t *transport) credentials() credentials {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.local
}

// checked is a check of connectivity with the right password.
func (t *transport) checked(from netip.AddrPort, generation int, nominated bool) {
	now := t.sfu.now()
	if t.move(from, generation, nominated, now) && t.ready() {
		t.taker.connected()
	}
}

// move says whether packets begin to get through with this check. They go where the client says that they shall; but also where it is
// heard from when it has fallen silent elsewhere, and the sooner if it restarts ICE: browsers say it late.
func (t *transport) move(from netip.AddrPort, generation int, nominated bool, now time.Time) (back bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	silence := now.Sub(time.Unix(0, t.there.Load()))
	t.hears(from, now)
	remote := t.remote.Load()
	if generation < t.chosen {
		return false
	}
	if nominated && generation > t.settled {
		t.settled = generation
		t.sfu.ways.keepOnly(t, generation)
	}
	patient := moveAfter
	if generation > t.chosen {
		patient = restartAfter
	}
	same := remote != nil && *remote == from
	if remote != nil && !nominated && (same || silence < patient) {
		return false
	}
	t.chosen = generation
	if same {
		return false
	}
	t.remote.Store(&from)
	t.there.Store(now.UnixNano())
	t.pipe.open()
	return silence > restartAfter
}

// hears notes that the client is there.
func (t *transport) hears(from netip.AddrPort, now time.Time) {
	t.heard.Store(now.UnixNano())
	if remote := t.remote.Load(); remote != nil && *remote == from {
		t.there.Store(now.UnixNano())
	}
}

func (t *transport) isDone() bool { return t.ctx.Err() != nil }

// put takes a packet over; it says so. Where too many wait it is dropped.
func (t *transport) put(d *datagram) (taken bool) {
	t.inbox.Lock()
	if len(t.waiting) == mostWaiting || t.isDone() {
		t.inbox.Unlock()
		t.sfu.metrics.overrun.Inc()
		return false
	}
	t.waiting = append(t.waiting, d)
	first := len(t.waiting) == 1
	t.inbox.Unlock()
	if first {
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
	return true
}

// run takes what came, and sends what that made, all at once.
func (t *transport) run() {
	for {
		select {
		case <-t.ctx.Done():
			t.drop()
			return
		case <-t.wake:
		}
		t.inbox.Lock()
		came := t.waiting
		t.waiting = t.spare[:0]
		t.inbox.Unlock()
		now := t.sfu.now()
		t.catchUp(now)
		for _, d := range came {
			if t.take(d, now) {
				d.free()
			}
		}
		t.spare = came
		t.sfu.socket.flush()
	}
}

// drop gives all buffers back.
func (t *transport) drop() {
	t.inbox.Lock()
	defer t.inbox.Unlock()
	for _, d := range append(t.waiting, t.early...) {
		d.free()
	}
	t.waiting, t.early = nil, nil
}

// take says whether the buffer is free again.
func (t *transport) take(d *datagram, now time.Time) (free bool) {
	packet := d.bytes[:d.n]
	if packet[0] < 128 {
		t.pipe.put(packet)
		return true
	}
	if t.in.Load() == nil {
		if len(t.early) == mostEarly || !isRTP(packet) {
			return true
		}
		t.early = append(t.early, d)
		return false
	}
	t.open(d, now)
	return true
}

// catchUp takes what came before there were keys: a client has them a moment before we do.
func (t *transport) catchUp(now time.Time) {
	if len(t.early) == 0 || t.in.Load() == nil {
		return
	}
	for _, d := range t.early {
		t.open(d, now)
		d.free()
	}
	t.early = nil
}

// isRTP tells RTP from RTCP (RFC 5761 §4).
func isRTP(b []byte) bool { return len(b) > 1 && (b[1] < 192 || b[1] > 223) }

// open decrypts a packet in its place. What does not open is not the client's, or came twice.
func (t *transport) open(d *datagram, now time.Time) {
	in, packet := t.in.Load(), d.bytes[:d.n]
	if !isRTP(packet) {
		if plain, err := in.DecryptRTCP(packet, packet, nil); err == nil {
			t.hears(d.with, now)
			t.taker.takeRTCP(plain, now)
			return
		}
		t.sfu.metrics.broken.Inc()
		return
	}
	plain, err := in.DecryptRTP(packet, packet, &t.header)
	if err != nil {
		t.sfu.metrics.broken.Inc()
		return
	}
	t.hears(d.with, now)
	t.taker.takeRTP(plain, now)
}

// ready says whether packets get through.
func (t *transport) ready() bool { return t.state.Load() == stateConnected }

// look notices silence, and its end.
func (t *transport) look(now time.Time) {
	silent := now.Sub(time.Unix(0, t.heard.Load())) > silentAfter
	switch {
	case silent:
		t.state.CompareAndSwap(stateConnected, stateSilent)
	case t.state.CompareAndSwap(stateSilent, stateConnected):
		t.taker.connected()
	}
}

// seal encrypts a packet of RTP, which has been written into the buffer from the front, and queues it.
func (t *transport) seal(d *datagram) {
	remote := t.remote.Load()
	t.sealing.Lock()
	defer t.sealing.Unlock()
	if t.out == nil || remote == nil {
		d.free()
		return
	}
	packet, err := t.out.EncryptRTP(d.bytes[:], d.bytes[:d.n], &t.sealed)
	if err != nil || len(packet) > mostPacket {
		d.free()
		return
	}
	d.n, d.with = len(packet), *remote
	t.sfu.socket.enqueue(d)
}

// say sends RTCP.
func (t *transport) say(packets ...rtcp.Packet) {
	remote := t.remote.Load()
	plain, err := rtcp.Marshal(packets)
	if err != nil || remote == nil {
		return
	}
	t.sealing.Lock()
	defer t.sealing.Unlock()
	if t.out == nil {
		return
	}
	if packet, err := t.out.EncryptRTCP(nil, plain, nil); err == nil {
		t.sfu.socket.send(packet, *remote)
	}
}

// shake does the handshake of DTLS, and then waits for its end, which is the client's to say.
func (t *transport) shake() {
	conn, err := t.handshake()
	if err != nil {
		t.log.Debug("a handshake failed", "error", err)
		t.state.Store(stateClosed)
		return
	}
	if err := t.key(conn); err != nil {
		t.log.Debug("a handshake gave no keys", "error", err)
		t.state.Store(stateClosed)
	} else {
		t.state.Store(stateConnected)
		t.taker.connected()
		select { // what came early
		case t.wake <- struct{}{}:
		default:
		}
	}
	t.going.Go(func() {
		<-t.ctx.Done()
		_ = conn.Close() // it says so to the client
	})
	for buffer := make([]byte, mostPacket); ; {
		if _, err := conn.Read(buffer); err != nil {
			t.state.Store(stateClosed)
			return
		}
	}
}

func (t *transport) handshake() (*dtls.Conn, error) {
	select {
	case <-t.pipe.opened:
	case <-t.ctx.Done():
		return nil, t.ctx.Err()
	}
	shared := []dtls.Option{
		dtls.WithCertificates(t.certificate),
		dtls.WithSRTPProtectionProfiles(profile),
		dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
		dtls.WithInsecureSkipVerify(true), // the fingerprint is what counts
		dtls.WithVerifyPeerCertificate(t.verify),
		dtls.WithFlightInterval(handshakeAgain),
		dtls.WithLoggerFactory(pionLog{log: t.log}),
	}
	var conn *dtls.Conn
	var err error
	if t.peer.client {
		options := []dtls.ServerOption{dtls.WithClientAuth(dtls.RequireAnyClientCert), dtls.WithInsecureSkipVerifyHello(true)}
		for _, o := range shared {
			options = append(options, o)
		}
		conn, err = dtls.ServerWithOptions(t.pipe, t.pipe.RemoteAddr(), options...)
	} else {
		var options []dtls.ClientOption
		for _, o := range shared {
			options = append(options, o)
		}
		conn, err = dtls.ClientWithOptions(t.pipe, t.pipe.RemoteAddr(), options...)
	}
	if err != nil {
		return nil, fmt.Errorf("begin DTLS: %w", err)
	}
	ctx, cancel := context.WithTimeout(t.ctx, handshakeFor)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("handshake: %w", err), conn.Close())
	}
	return conn, nil
}

var errFingerprint = errors.New("the certificate is not the one of the description")

// verify wants the certificate whose fingerprint came by signalling (RFC 8122 §5).
func (t *transport) verify(raw [][]byte, _ [][]*x509.Certificate) error {
	if len(raw) == 0 {
		return errFingerprint
	}
	certificate, err := x509.ParseCertificate(raw[0])
	if err != nil {
		return errFingerprint
	}
	hash, err := fingerprint.HashFromString(t.peer.algorithm)
	if err != nil {
		return errFingerprint
	}
	print, err := fingerprint.Fingerprint(certificate, hash)
	if err != nil || !strings.EqualFold(print, t.peer.fingerprint) {
		return errFingerprint
	}
	return nil
}

// key takes the keys of SRTP from the handshake (RFC 5764 §4.2).
func (t *transport) key(conn *dtls.Conn) error {
	state, ok := conn.ConnectionState()
	if chosen, is := conn.SelectedSRTPProtectionProfile(); !ok || !is || chosen != profile {
		return errors.New("no profile of SRTP")
	}
	c := &srtp.Config{Profile: srtp.ProtectionProfileAeadAes128Gcm}
	if err := c.ExtractSessionKeysFromDTLS(&state, !t.peer.client); err != nil {
		return fmt.Errorf("extract the keys: %w", err)
	}
	in, err := srtp.CreateContext(c.Keys.RemoteMasterKey, c.Keys.RemoteMasterSalt, c.Profile,
		srtp.SRTPReplayProtection(replayWindow), srtp.SRTCPReplayProtection(replayWindow))
	if err != nil {
		return fmt.Errorf("use the client's key: %w", err)
	}
	out, err := srtp.CreateContext(c.Keys.LocalMasterKey, c.Keys.LocalMasterSalt, c.Profile)
	if err != nil {
		return fmt.Errorf("use our key: %w", err)
	}
	t.sealing.Lock()
	t.out = out
	t.sealing.Unlock()
	t.in.Store(in)
	return nil
}

// close ends the connection and waits for its goroutines.
func (t *transport) close() {
	t.state.Store(stateClosed)
	t.mu.Lock()
	t.cancel()
	t.mu.Unlock()
	t.sfu.ways.close(t)
	t.pipe.close()
	t.going.Wait()
}

// pipe is the way of DTLS's packets, as its library wants it.
type pipe struct {
	t      *transport
	buffer *packetio.Buffer
	opened chan struct{} // there is an address to send to
	once   sync.Once
}

func newPipe(t *transport) *pipe {
	p := &pipe{t: t, buffer: packetio.NewBuffer(), opened: make(chan struct{})}
	p.buffer.SetLimitCount(mostHandshake)
	return p
}

func (p *pipe) open() { p.once.Do(func() { close(p.opened) }) }

func (p *pipe) put(packet []byte) { _, _ = p.buffer.Write(packet, nil) } // full, it is lost as on any network

func (p *pipe) close() { _ = p.buffer.Close() } // there is nothing to flush

func (p *pipe) ReadFrom(b []byte) (int, net.Addr, error) {
	n, _, err := p.buffer.Read(b, nil)
	return n, p.RemoteAddr(), err
}

func (p *pipe) WriteTo(b []byte, _ net.Addr) (int, error) {
	if remote := p.t.remote.Load(); remote != nil {
		p.t.sfu.socket.send(b, *remote)
	}
	return len(b), nil
}

func (p *pipe) Close() error { return nil } // it is the transport's

func (p *pipe) LocalAddr() net.Addr { return p.t.sfu.o.Conn.LocalAddr() }

func (p *pipe) RemoteAddr() net.Addr {
	if remote := p.t.remote.Load(); remote != nil {
		return net.UDPAddrFromAddrPort(*remote)
	}
	return &net.UDPAddr{}
}

func (p *pipe) SetDeadline(t time.Time) error     { return p.buffer.SetReadDeadline(t) }
func (p *pipe) SetReadDeadline(t time.Time) error { return p.buffer.SetReadDeadline(t) }
func (p *pipe) SetWriteDeadline(time.Time) error  { return nil } // writing never waits

// pionLog passes on what pion warns of, as what may help to debug: peers can cause it at will.
type pionLog struct {
	log   *slog.Logger
	scope string
}

func (l pionLog) NewLogger(scope string) logging.LeveledLogger { return pionLog{l.log, scope} }

func (l pionLog) Trace(string)          {}
func (l pionLog) Tracef(string, ...any) {}
func (l pionLog) Debug(string)          {}
func (l pionLog) Debugf(string, ...any) {}
func (l pionLog) Info(string)           {}
func (l pionLog) Infof(string, ...any)  {}

func (l pionLog) Warn(message string)                 { l.write("%s", []any{message}) }
func (l pionLog) Warnf(format string, values ...any)  { l.write(format, values) }
func (l pionLog) Error(message string)                { l.write("%s", []any{message}) }
func (l pionLog) Errorf(format string, values ...any) { l.write(format, values) }

func (l pionLog) write(format string, values []any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug(fmt.Sprintf(format, values...), "scope", l.scope)
	}
}
