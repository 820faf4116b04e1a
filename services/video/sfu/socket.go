package sfu

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/net/ipv4"
)

const (
	mostPacket  = 1500 // bytes of a datagram that are taken in either direction
	readBatch   = 16
	queueLength = 4096 // datagrams that wait to be sent; what comes when so many do is dropped, as a network would
	sendBatch   = 256
	sendRounds  = 4
	bufferSize  = 4 << 20
)

// datagram is one packet, on its way in or out. It belongs to one goroutine at a time, the last of which gives it back.
type datagram struct {
	bytes [mostPacket]byte
	n     int
	with  netip.AddrPort
}

var datagrams = sync.Pool{New: func() any { return new(datagram) }}

func newDatagram() *datagram { return datagrams.Get().(*datagram) }

func (d *datagram) free() { datagrams.Put(d) }

// socket is the media port. One goroutine reads it and gives each packet to whose it is; who has something to send queues it, and sends
// what is queued with one system call. A destination that the kernel refuses takes nobody with it.
type socket struct {
	conn    *net.UDPConn
	batch   *ipv4.PacketConn
	allowed func(netip.Addr) bool
	stray   func(packet []byte, from netip.AddrPort) []byte
	ways    *ways
	metrics *metrics

	mu      sync.Mutex
	queue   []*datagram
	spare   []*datagram
	sending bool
	closed  bool
	out     *outbox // of who sends

	wake chan struct{}
	done chan struct{}
	both sync.WaitGroup
}

func newSocket(o Options, w *ways, m *metrics) *socket {
	_ = o.Conn.SetReadBuffer(bufferSize)  // the kernel's own bound may be lower; then it is that
	_ = o.Conn.SetWriteBuffer(bufferSize) // as above
	s := &socket{
		conn: o.Conn, batch: ipv4.NewPacketConn(o.Conn), allowed: o.Allowed, stray: o.Stray, ways: w, metrics: m,
		queue: make([]*datagram, 0, queueLength), spare: make([]*datagram, 0, queueLength),
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	s.out = newOutbox(s.batch, m)
	s.both.Go(s.read)
	s.both.Go(s.write)
	return s
}

// read ends with the port. An error that the kernel reports of some packet sent before ends nothing.
func (s *socket) read() {
	in, held := make([]ipv4.Message, readBatch), make([]*datagram, readBatch)
	for i := range in {
		held[i] = newDatagram()
		in[i].Buffers = [][]byte{held[i].bytes[:]}
	}
	for {
		n, err := s.batch.ReadBatch(in, 0)
		var refused syscall.Errno
		if err != nil && !errors.As(err, &refused) {
			return
		}
		for i := range max(n, 0) {
			if s.take(held[i], in[i]) {
				continue
			}
			held[i] = newDatagram()
			in[i].Buffers[0] = held[i].bytes[:]
		}
	}
}

// take gives a packet to whose it is. It says whether the buffer can be used again.
func (s *socket) take(d *datagram, m ipv4.Message) (free bool) {
	from, is := m.Addr.(*net.UDPAddr)
	if !is || m.N == 0 {
		return true
	}
	d.n, d.with = m.N, netip.AddrPortFrom(from.AddrPort().Addr().Unmap(), uint16(from.Port)) //nolint:gosec // a port
	if s.allowed != nil && !s.allowed(d.with.Addr()) {
		s.metrics.foreign.Inc()
		return true
	}
	packet := d.bytes[:d.n]
	switch first := packet[0]; { // RFC 7983 §7
	case first <= 3:
		s.answerBinding(packet, d.with)
	case first >= 20 && first <= 63, first >= 128 && first <= 191:
		if t := s.ways.from(d.with); t != nil {
			return !t.put(d)
		}
		s.metrics.foreign.Inc()
	case s.stray != nil:
		if answer := s.stray(packet, d.with); len(answer) > 0 {
			s.send(answer, d.with)
		}
	default:
		s.metrics.foreign.Inc()
	}
	return true
}

// answerBinding is all that ICE asks of who is lite (RFC 8445 §2.5).
func (s *socket) answerBinding(packet []byte, from netip.AddrPort) {
	answer, ok := s.ways.bind(packet, from)
	if !ok {
		s.metrics.foreign.Inc()
		return
	}
	s.send(answer, from)
}

// send queues a copy and flushes.
func (s *socket) send(packet []byte, to netip.AddrPort) {
	if len(packet) > mostPacket {
		s.metrics.dropped.Inc()
		return
	}
	d := newDatagram()
	d.n, d.with = copy(d.bytes[:], packet), to
	s.enqueue(d)
	s.flush()
}

// enqueue takes a datagram over, to be sent at the next flush.
func (s *socket) enqueue(d *datagram) {
	s.mu.Lock()
	full := s.closed || len(s.queue) == queueLength
	if !full {
		s.queue = append(s.queue, d)
	}
	s.mu.Unlock()
	if full {
		s.metrics.dropped.Inc()
		d.free()
	}
}

// flush sends what waits. While somebody sends already, it is theirs to send too, as many at a time as came meanwhile; who has done so
// for some rounds leaves it to the socket's own goroutine, so that nobody's forwarding stands still for the others'.
func (s *socket) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sending || len(s.queue) == 0 {
		return
	}
	s.sending = true
	if !s.sendLocked(sendRounds) {
		s.wake <- struct{}{} // never full: who sends is one
	}
}

// sendLocked sends until nothing waits, or for so many rounds. It unlocks while the kernel works.
func (s *socket) sendLocked(rounds int) (all bool) {
	for ; len(s.queue) > 0; rounds-- {
		if rounds == 0 {
			return false
		}
		full := s.queue
		s.queue = s.spare[:0]
		s.mu.Unlock()
		s.out.send(full)
		s.mu.Lock()
		s.spare = full
	}
	s.sending = false
	return true
}

func (s *socket) write() {
	for {
		select {
		case <-s.done:
			return
		case <-s.wake:
		}
		s.mu.Lock()
		for !s.closed && !s.sendLocked(sendRounds) {
			continue
		}
		s.mu.Unlock()
	}
}

// close ends reading and writing, and waits for both.
func (s *socket) close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	err := s.conn.Close()
	close(s.done)
	s.both.Wait()
	return err
}

// outbox is what the kernel is handed.
type outbox struct {
	batch    *ipv4.PacketConn
	metrics  *metrics
	messages []ipv4.Message
	names    []net.UDPAddr
}

func newOutbox(batch *ipv4.PacketConn, m *metrics) *outbox {
	o := &outbox{batch: batch, metrics: m, messages: make([]ipv4.Message, sendBatch), names: make([]net.UDPAddr, sendBatch)}
	for i := range o.messages {
		o.names[i].IP = make(net.IP, net.IPv4len)
		o.messages[i].Buffers = make([][]byte, 1)
		o.messages[i].Addr = &o.names[i]
	}
	return o
}

// send sends everything and gives the buffers back.
func (o *outbox) send(all []*datagram) {
	for len(all) > 0 {
		some := all[:min(len(all), sendBatch)]
		all = all[len(some):]
		for i, d := range some {
			ip := d.with.Addr().As4()
			copy(o.names[i].IP, ip[:])
			o.names[i].Port = int(d.with.Port())
			o.messages[i].Buffers[0] = d.bytes[:d.n]
		}
		o.write(o.messages[:len(some)])
		for _, d := range some {
			d.free()
		}
	}
}

// write leaves out what the kernel refuses.
func (o *outbox) write(messages []ipv4.Message) {
	for len(messages) > 0 {
		n, err := o.batch.WriteBatch(messages, 0)
		n = max(n, 0)
		if err != nil && n < len(messages) {
			o.metrics.dropped.Inc()
			n++
		}
		messages = messages[n:]
	}
}
