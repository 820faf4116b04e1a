package sfu

import (
	"encoding/binary"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// port is a caller's. It has room for what comes while the generator is busy, and knows when the kernel took each packet in, so that how
// long the generator takes for it is not counted as the server's.
type port struct {
	*net.UDPConn

	control []byte // of who reads: the mux, in one goroutine

	mu      sync.Mutex
	arrived map[packetKey]time.Time
}

type packetKey struct {
	ssrc   uint32
	number uint16
}

func newPort(conn *net.UDPConn) (*port, error) {
	if err := conn.SetReadBuffer(bufferSize); err != nil {
		return nil, err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var refused error
	if err := raw.Control(func(fd uintptr) {
		refused = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	}); err != nil {
		return nil, err
	}
	return &port{UDPConn: conn, control: make([]byte, 64), arrived: map[packetKey]time.Time{}}, refused
}

func (p *port) ReadFrom(b []byte) (int, net.Addr, error) {
	n, controls, _, from, err := p.ReadMsgUDPAddrPort(b, p.control)
	if err != nil {
		return n, nil, err
	}
	if isMedia := n > 12 && b[0]>>6 == 2 && (b[1] < 192 || b[1] > 223); isMedia { // RFC 5761 §4
		p.note(packetKey{binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint16(b[2:])}, p.control[:controls])
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

func (p *port) note(k packetKey, controls []byte) {
	header, data, _, err := unix.ParseOneSocketControlMessage(controls)
	if err != nil || header.Type != unix.SCM_TIMESTAMPNS || len(data) < 16 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.arrived[k] = time.Unix(int64(binary.NativeEndian.Uint64(data)), int64(binary.NativeEndian.Uint64(data[8:]))) // a timespec
}

// arrival is when a packet came, once; of one that was repeated on another stream, it is now.
func (p *port) arrival(ssrc uint32, number uint16) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := packetKey{ssrc, number}
	at, found := p.arrived[k]
	if !found {
		return time.Now()
	}
	delete(p.arrived, k)
	return at
}
