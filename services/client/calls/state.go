package calls

import (
	"net/netip"
	"time"

	"github.com/pion/webrtc/v4"

	"secureconnect/services/client/e2ee"
	"secureconnect/services/internal/wire"
)

// Phases of a call, as its device has it.
const (
	PhaseJoining      = "joining"      // not let in yet
	PhaseConnecting   = "connecting"   // its connections are being made
	PhaseConnected    = "connected"    // they work
	PhaseReconnecting = "reconnecting" // they have worked
	PhaseOver         = "over"
)

// State is how a call stands.
type State struct {
	Phase       string
	Call        wire.Call
	Participant wire.ParticipantID // this device's
	Host        string
	Fence       int64
	Linked      bool // there is a socket
	Others      []wire.Participant
	Speakers    []wire.Speaker
	Quality     wire.QualityFrame
	Ended       string // why the call ended
	// Trouble is what went wrong last, on the socket, of a request or on the way to the TURN server; what works again has none.
	Trouble error
	// Untrusted are devices in the call that were given no key, and why.
	Untrusted map[e2ee.Peer]error

	Up, Down Path
	Sent     map[string]Sent // by source
	Received map[Heard]Received
	Unheard  Unheard
	// FirstFrame is how long after Join began the first frame was decrypted; 0 while there was none.
	FirstFrame time.Duration

	// How often each rung of the ladder was climbed, and how often the connections were made anew.
	Resumed, Restarted, Rejoined int
}

// Sent counts what was sent from a source.
type Sent struct {
	Frames, Bytes uint64
	Muted         bool
}

// Path is how one connection runs. Of one that does not work, the fields of the pair are empty.
type Path struct {
	State       string // of ICE, as WebRTC 1.0 §5.6.4 names it; "" while there is no connection
	Gathered    int    // candidates of this side
	GatherEnded bool   // there will be no more

	Type     string // of this side's candidate: "relay"
	Protocol string // by which its TURN server was reached: udp, tcp or tls
	Local    netip.AddrPort
	Remote   netip.AddrPort
	RTT      time.Duration
}

// path reads how a connection runs out of what the library knows of its pair; its statistics may not be asked for while it closes.
func (c *connection) path(r *relays) Path {
	p := Path{State: c.pc.ICEConnectionState().String(), Gathered: int(c.gathered.Load()), GatherEnded: c.gatherEnded.Load()}
	transport := c.transport()
	if !c.worked || transport == nil {
		return p // before its start is over, the transport is not safe to ask
	}
	pair, err := transport.GetSelectedCandidatePair()
	if err != nil || pair == nil {
		return p
	}
	p.Type, p.Local, p.Remote = pair.Local.Typ.String(), addressOf(pair.Local), addressOf(pair.Remote)
	if pair.Local.Typ == webrtc.ICECandidateTypeRelay {
		p.Protocol = r.wayFrom(int(pair.Local.RelatedPort))
	}
	if stats, found := transport.GetSelectedCandidatePairStats(); found {
		p.RTT = time.Duration(stats.CurrentRoundTripTime * float64(time.Second))
	}
	return p
}

func addressOf(candidate *webrtc.ICECandidate) netip.AddrPort {
	at, _ := netip.ParseAddr(candidate.Address) // what has none is shown so
	return netip.AddrPortFrom(at, candidate.Port)
}

// state is the loop's, or after its end whoever's.
func (c *Call) state() State {
	s := State{
		Phase: c.phase(), Call: c.call, Host: c.host, Fence: c.fence, Linked: c.socket != nil, Speakers: c.speakers, Quality: c.quality,
		Ended: c.ended, Trouble: c.trouble, Sent: map[string]Sent{}, Untrusted: map[e2ee.Peer]error{},
		Resumed: c.resumed, Restarted: c.restarted, Rejoined: c.rejoined,
	}
	for _, track := range c.sent {
		s.Sent[track.source] = Sent{track.frames.Load(), track.bytes.Load(), track.muted.Load()}
	}
	var first time.Time
	if s.Received, s.Unheard, first = c.hearing.report(); !first.IsZero() {
		s.FirstFrame = first.Sub(c.began)
	}
	if c.seat == nil {
		return s
	}
	s.Participant, s.Others = c.seat.id, c.seat.others()
	if c.finished {
		return s
	}
	for peer, err := range c.seat.ring.refused {
		s.Untrusted[peer] = err
	}
	if c.seat.up != nil {
		s.Up = c.seat.up.path(c.relays)
	}
	if c.seat.down != nil {
		s.Down = c.seat.down.path(c.relays)
	}
	if s.Trouble == nil && s.Phase != PhaseConnected {
		s.Trouble = c.relays.trouble()
	}
	return s
}

func (c *Call) phase() string {
	switch {
	case c.finished:
		return PhaseOver
	case c.seat == nil:
		return PhaseJoining
	case c.socket != nil && c.seat.works():
		return PhaseConnected
	case c.everWorked:
		return PhaseReconnecting
	default:
		return PhaseConnecting
	}
}
