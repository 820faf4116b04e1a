// Package sfu forwards the media of calls: it takes each participant's tracks on one connection and gives everybody the others' on
// another, packet by packet, without a key to any of it. It knows no users, sockets or stores; services/video/PROTOCOL.md says what its
// connections look like from outside.
package sfu

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/rtp"
	"github.com/prometheus/client_golang/prometheus"

	"secureconnect/services/internal/wire"
)

var (
	// ErrClosed is what has been closed, or is being.
	ErrClosed = errors.New("the SFU, the room or the participant is closed")
	// ErrFull is a room with as many participants as it can have.
	ErrFull = errors.New("the room is full")
	// ErrTwice is a participant who is in the room.
	ErrTwice = errors.New("the participant has joined already")
)

// Source is what a participant said of one media section of their offer.
type Source = wire.OfferedTrack

// Hooks are what the SFU tells the owner of a participant. They are called by goroutines of the SFU, for one participant one after the
// other, and must not block or call back into the SFU. One that is nil is not called.
type Hooks struct {
	// Offer is a new description of the connection down; only the newest version is to be answered.
	Offer func(version int, sdp string)
	// Slots are the slots whose track has changed.
	Slots func([]wire.Slot)
	// Layers are the simulcast layers of one of the participant's tracks that anybody wants.
	Layers func(mid string, active []string)
	// Quality is how well both connections work, one of wire.Quality….
	Quality func(up, down string)
	// Speakers are who speaks in the room, the loudest first.
	Speakers func([]wire.Speaker)
}

func (h Hooks) offer(version int, sdp string) {
	if h.Offer != nil {
		h.Offer(version, sdp)
	}
}

func (h Hooks) slots(slots []wire.Slot) {
	if h.Slots != nil {
		h.Slots(slots)
	}
}

func (h Hooks) layers(mid string, active []string) {
	if h.Layers != nil {
		h.Layers(mid, active)
	}
}

func (h Hooks) quality(up, down string) {
	if h.Quality != nil {
		h.Quality(up, down)
	}
}

func (h Hooks) speakers(speakers []wire.Speaker) {
	if h.Speakers != nil {
		h.Speakers(speakers)
	}
}

// Options are what an SFU works with.
type Options struct {
	Log      *slog.Logger
	Conn     *net.UDPConn          // the host's one media port, of IPv4; the SFU closes it
	Address  netip.Addr            // of the one host candidate
	Allowed  func(netip.Addr) bool // whose packets are taken at all; nil: everybody's
	Registry prometheus.Registerer // may be nil

	// Stray gets datagrams that are neither STUN, DTLS nor RTP (RFC 7983), and may answer them. It must not block. Nil: they are dropped.
	Stray func(packet []byte, from netip.AddrPort) (answer []byte)
	// Tap is for tests: what the SFU sees of what is sent. Nil in life.
	Tap func(from wire.ParticipantID, mid string, packet *rtp.Packet)
}

// SFU is the media plane of one host.
type SFU struct {
	o       Options
	metrics *metrics
	socket  *socket
	ways    *ways
	port    int
	now     func() time.Time
	began   time.Time

	mu     sync.Mutex
	closed bool
	rooms  map[*Room]struct{}
}

// New begins to read the media port.
func New(o Options) (*SFU, error) {
	if o.Conn == nil || !o.Address.Is4() {
		return nil, errors.New("the SFU needs a port and an address of IPv4")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &SFU{o: o, metrics: newMetrics(o.Registry), now: time.Now, began: time.Now(), rooms: map[*Room]struct{}{}}
	s.port = o.Conn.LocalAddr().(*net.UDPAddr).Port
	s.ways = newWays()
	s.socket = newSocket(o, s.ways, s.metrics)
	return s, nil
}

func (s *SFU) forget(r *Room) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.rooms, r)
	s.metrics.rooms.Dec()
}

// Close ends all rooms, and waits for every goroutine. It is called once.
func (s *SFU) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	var rooms []*Room
	for r := range s.rooms {
		rooms = append(rooms, r)
	}
	s.mu.Unlock()
	var closing sync.WaitGroup
	for _, r := range rooms {
		closing.Go(r.Close)
	}
	closing.Wait()
	return s.socket.close()
}
