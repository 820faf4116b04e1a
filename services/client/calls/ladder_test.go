package calls

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"secureconnect/services/client"
	"secureconnect/services/client/calls/callstest"
	"secureconnect/services/client/e2ee/frames"
	"secureconnect/services/internal/wire"
)

// pair is two devices that hear and see each other.
func pair(t *testing.T, p *platform, change ...func(*Options)) (a, b *Call) {
	t.Helper()
	one, two := p.options(linh, microphone(t), camera(t)), p.options(mai, microphone(t), camera(t))
	for _, apply := range change {
		apply(&one)
		apply(&two)
	}
	a, b = p.enters(one), p.enters(two)
	a.awaits(t, "linh hears and sees mai", hearsAndSees(mai))
	b.awaits(t, "mai hears and sees linh", hearsAndSees(linh))
	return a, b
}

// goesOn waits for much more of both to come than now has.
func goesOn(t *testing.T, a, b *Call) {
	t.Helper()
	for _, one := range []struct {
		*Call
		of wire.UserID
	}{{a, mai}, {b, linh}} {
		before := one.Look()
		heard, seen := before.hears(one.of, frames.Audio).Frames, before.hears(one.of, frames.Video).Frames
		one.awaits(t, "it goes on", func(s State) bool {
			return s.hears(one.of, frames.Audio).Frames >= heard+25 && s.hears(one.of, frames.Video).Frames >= seen+5
		})
	}
}

// notLonger wants no silence of that length. The bounds bear a machine that does other things besides.
func notLonger(t *testing.T, c *Call, of wire.UserID, gap time.Duration) {
	t.Helper()
	s := c.Look()
	heard, seen := s.hears(of, frames.Audio).Gap, s.hears(of, frames.Video).Gap
	t.Logf("%s was not heard for %s, not seen for %s", of, heard, seen)
	if heard > gap || seen > gap {
		t.Errorf("that is longer than %s", gap)
	}
}

func TestResume(t *testing.T) {
	for name, cut := range map[string]func(p *platform, a *Call){
		"the network drops the socket":   func(_ *platform, a *Call) { a.Cut() },
		"the platform closes the socket": func(p *platform, _ *Call) { p.Hang(linh, 4001) },
		"the platform answers no more":   func(p *platform, _ *Call) { p.Deafen(true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlatform(t, linh, mai)
			a, b := pair(t, p)
			was := a.Look().Participant
			cut(p, a)
			a.awaits(t, "linh resumes", func(s State) bool { return s.Resumed >= 1 })
			p.Deafen(false)
			goesOn(t, a, b)
			if s := a.Look(); s.Participant != was || s.Rejoined > 0 || s.Restarted > 0 || s.Trouble != nil {
				t.Errorf("%+v", s)
			}
			for _, one := range []*Call{a, b} {
				if lost := one.Look().Unheard; lost.LostPackets > 0 || lost.LostFrames > 0 {
					t.Errorf("media was lost: %+v", lost)
				}
			}
			notLonger(t, a, mai, 2*time.Second)
			notLonger(t, b, linh, 2*time.Second)
		})
	}
}

// What changed while there was no socket is known after it: who came is given a key, who left none.
func TestResume_to_others(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, linh, mai, bao)
	a, b := pair(t, p)
	chain := key(a).Chain
	p.Refuse(http.StatusServiceUnavailable)
	a.Cut()
	a.awaits(t, "linh has no socket", func(s State) bool { return !s.Linked })
	p.Refuse(0)
	if err := b.Leave(within(t)); err != nil {
		t.Fatal(err)
	}
	c := p.enters(p.options(bao, microphone(t)))
	a.awaits(t, "linh hears bao", hears(bao))
	c.awaits(t, "bao hears linh", hears(linh))
	a.awaits(t, "linh has another chain", func(State) bool { return key(a).Chain != chain })
	if s := a.Look(); len(s.Others) != 1 || s.Others[0].UserID != bao {
		t.Errorf("linh sees %+v", s.Others)
	}
}

func TestRejoin(t *testing.T) {
	for name, c := range map[string]struct {
		lose func(p *platform)
		gap  time.Duration
	}{
		"the call has moved":                       {func(p *platform) { p.Move() }, 2 * time.Second},
		"the host has died":                        {func(p *platform) { p.Forget(1006) }, 5 * time.Second},
		"the host is going, and says by its close": {func(p *platform) { p.Forget(closeMoved) }, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlatform(t, linh, mai)
			a, b := pair(t, p)
			was := a.Look().Participant
			c.lose(p)
			for _, one := range []*Call{a, b} {
				one.awaits(t, "it joins anew", func(s State) bool { return s.Rejoined == 1 && s.Phase == PhaseConnected })
			}
			goesOn(t, a, b)
			if s := a.Look(); s.Participant == was || s.Trouble != nil {
				t.Errorf("%+v", s)
			}
			notLonger(t, a, mai, c.gap)
			notLonger(t, b, linh, c.gap)
		})
	}
}

// The TURN server is away for a moment. The connections find their way by themselves, with fresh credentials.
func TestRestart(t *testing.T) {
	for _, way := range []string{OverUDP, OverTCP, OverTLS} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			p := newPlatform(t, linh, mai)
			a, b := pair(t, p, func(o *Options) { o.Ways = []string{way} })
			fresh := p.TURN.ICE("fresh", time.Hour)
			for _, user := range []wire.UserID{linh, mai} {
				p.Say(user, wire.ICEFrame{Type: wire.FrameICE, ICE: fresh})
			}
			goesOn(t, a, b) // the credentials are there by then
			if p.TURN.AskedBy()[fresh.Servers[0].Username] {
				t.Error("the fresh credentials were used for what went on")
			}
			p.TURN.Stop()
			p.TURN.Start()
			for _, one := range []*Call{a, b} {
				one.awaits(t, "it restarts", func(s State) bool { return s.Restarted >= 2 && s.Phase == PhaseConnected })
			}
			goesOn(t, a, b)
			if !p.TURN.AskedBy()[fresh.Servers[0].Username] {
				t.Error("it restarted with old credentials")
			}
			if s := a.Look(); s.Rejoined > 0 || s.Resumed > 0 {
				t.Errorf("%+v", s)
			}
			notLonger(t, a, mai, 5*time.Second)
			notLonger(t, b, linh, 5*time.Second)
		})
	}
}

// A TURN server that refuses at once is asked again, as it may come back soon.
func TestRestart_again(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, linh, mai)
	a, b := pair(t, p, func(o *Options) { o.Ways = []string{OverTCP} })
	p.TURN.Stop()
	a.awaits(t, "linh finds no way", func(s State) bool { return s.Restarted >= 2 && s.Up.GatherEnded && s.Up.Gathered == 0 })
	p.TURN.Start()
	for _, one := range []*Call{a, b} {
		one.awaits(t, "it works again", func(s State) bool { return s.Phase == PhaseConnected })
	}
	goesOn(t, a, b)
	if s := a.Look(); s.Rejoined > 0 {
		t.Errorf("%+v", s)
	}
}

// Where a restart brings nothing, all is made anew, as often as it takes.
func TestTurnServerAway(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, linh, mai)
	a, b := pair(t, p)
	p.TURN.Stop()
	a.awaits(t, "linh joins anew", func(s State) bool { return s.Rejoined >= 1 && s.Phase == PhaseReconnecting })
	p.TURN.Start()
	for _, one := range []*Call{a, b} {
		one.awaits(t, "it works again", func(s State) bool { return s.Phase == PhaseConnected })
	}
	goesOn(t, a, b)
}

func TestTokenRenewed(t *testing.T) {
	t.Parallel()
	p := platformOf(t, callstest.Setup{Members: []wire.UserID{linh}, SignedIn: 1500 * time.Millisecond})
	a := p.enters(p.options(linh))
	s := a.awaits(t, "it signs in again and again", func(State) bool { return p.Signed() >= 3 })
	if s.Resumed > 0 || s.Rejoined > 0 {
		t.Errorf("it did so on other sockets: %+v", s)
	}
}

func TestEnd(t *testing.T) {
	for name, c := range map[string]struct {
		code    int
		trouble bool
	}{
		"the call is over":     {closeOver, false},
		"on another device":    {4511, true},
		"a member no more":     {4512, true},
		"the session is ended": {4501, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlatform(t, linh)
			a := p.enters(p.options(linh, microphone(t)))
			p.Say(linh, wire.EndedFrame{Type: wire.FrameEnded, Reason: wire.EndedLeft})
			p.Hang(linh, c.code)
			select {
			case <-a.Over():
			case <-within(t).Done():
				t.Fatal("it goes on")
			}
			closed := new(client.CloseError)
			if s := a.Look(); s.Ended != wire.EndedLeft || s.Phase != PhaseOver || errors.As(s.Trouble, &closed) != c.trouble || c.trouble && closed.Code != c.code {
				t.Errorf("%+v", s)
			}
		})
	}
}

// The socket, or all of the call, ends at each stage of joining. What ran has ended by the end of the tests (TestMain).
func TestJoiningInterrupted(t *testing.T) {
	t.Parallel()
	p := platformOf(t, callstest.Setup{Members: []wire.UserID{linh, mai}, Slots: 32})
	b := p.enters(p.options(mai, microphone(t)))
	for after := range 12 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(after)*8*time.Millisecond)
		a, err := Join(ctx, callstest.Call, p.options(linh, microphone(t), camera(t)))
		if err == nil {
			<-ctx.Done()
			_ = a.Leave(t.Context())
		}
		cancel()
	}
	a := p.enters(p.options(linh, microphone(t), camera(t)))
	for range 5 {
		a.Cut() // whatever it is at
	}
	b.awaits(t, "mai hears linh after all", hears(linh))
	a.awaits(t, "linh hears mai", hears(mai))
}
