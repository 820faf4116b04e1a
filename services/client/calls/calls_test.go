package calls

import (
	"context"
	"errors"
	"flag"
	"net/http"
	"os"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"secureconnect/services/client"
	"secureconnect/services/client/calls/callstest"
	"secureconnect/services/client/e2ee"
	"secureconnect/services/client/e2ee/frames"
	"secureconnect/services/internal/wire"
)

// Calls take their time, and next to nothing else: more of them fit on a machine than it has cores.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

const (
	linh wire.UserID = "linh"
	mai  wire.UserID = "mai"
	bao  wire.UserID = "bao"
)

// The recordings of testdata were made by
//
//	ffmpeg -f lavfi -i testsrc2=size=320x180:rate=10:duration=2 -c:v libvpx -b:v 100k -quality good -auto-alt-ref 0 -g 20 picture.ivf
//	ffmpeg -f lavfi -i sine=frequency=440:duration=2 -c:a libopus -b:a 24k -frame_duration 20 -page_duration 20000 tone.ogg
func picture(t *testing.T) Media {
	return recorded(t, "picture.ivf", func(f *os.File) (Media, error) { return Picture(f) })
}

func tone(t *testing.T) Media {
	return recorded(t, "tone.ogg", func(f *os.File) (Media, error) { return Sound(f) })
}

func recorded(t *testing.T, name string, read func(*os.File) (Media, error)) Media {
	t.Helper()
	file, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	media, err := read(file)
	if err != nil {
		t.Fatal(err)
	}
	return media
}

func microphone(t *testing.T) Track {
	return Track{Source: wire.SourceMicrophone, Layers: []Media{tone(t)}}
}

func camera(t *testing.T) Track {
	return Track{Source: wire.SourceCamera, Layers: []Media{picture(t)}}
}

// within bounds what a test waits for.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// platform is where the tests' call is.
type platform struct {
	*callstest.Platform
	t *testing.T
}

func newPlatform(t *testing.T, members ...wire.UserID) *platform {
	t.Helper()
	return platformOf(t, callstest.Setup{Members: members})
}

func platformOf(t *testing.T, setup callstest.Setup) *platform {
	t.Helper()
	return &platform{callstest.New(t, setup), t}
}

// options are those of a device.
func (p *platform) options(user wire.UserID, send ...Track) Options {
	p.t.Helper()
	self := callstest.Phone(user)
	return Options{
		Client: p.Client(), Self: self, Keys: p.Post.Box(self), Send: send, TurnAddress: "127.0.0.1", RootCAs: p.TURN.Roots, Token: callstest.Token(self),
	}
}

// enters has a device join, and leave when the test ends.
func (p *platform) enters(o Options) *Call {
	p.t.Helper()
	c, err := Join(within(p.t), callstest.Call, o)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = c.Leave(context.Background()) })
	return c
}

func (c *Call) awaits(t *testing.T, what string, hoped func(State) bool) State {
	t.Helper()
	if err := c.Await(within(t), hoped); err != nil {
		t.Fatalf("%s: %v; it is %+v", what, err, c.Look())
	}
	return c.Look()
}

// hears says how much has come from a user.
func (s State) hears(user wire.UserID, kind frames.Kind) (all Received) {
	for of, r := range s.Received {
		if of.From.User == user && of.Kind == kind {
			all.Frames += r.Frames
			all.KeyFrames += r.KeyFrames
			all.Gap = max(all.Gap, r.Gap)
		}
	}
	return all
}

func hearsAndSees(user wire.UserID) func(State) bool {
	return func(s State) bool {
		return s.hears(user, frames.Audio).Frames >= 25 && s.hears(user, frames.Video).Frames >= 8
	}
}

func TestTwo(t *testing.T) {
	for _, way := range []string{OverUDP, OverTCP, OverTLS} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			p := newPlatform(t, linh, mai)
			one, two := p.options(linh, microphone(t), camera(t)), p.options(mai, microphone(t), camera(t))
			one.Ways, two.Ways = []string{way}, []string{way}
			a, b := p.enters(one), p.enters(two)
			s := b.awaits(t, "mai hears linh", hearsAndSees(linh))
			a.awaits(t, "linh hears mai", hearsAndSees(mai))
			for name, path := range map[string]Path{"up": s.Up, "down": s.Down} {
				if path.Type != "relay" || path.Protocol != way || path.Local.Addr().String() != "127.0.0.1" || path.State != "connected" {
					t.Errorf("%s: %+v", name, path)
				}
			}
			if s.FirstFrame <= 0 || s.FirstFrame > 5*time.Second || s.Phase != PhaseConnected || s.Unheard.Forged > 0 || s.Unheard.LostFrames > 0 {
				t.Errorf("%+v", s)
			}
			t.Logf("first frame after %s, %+v", s.FirstFrame, s.Unheard)
		})
	}
}

func TestTracks(t *testing.T) {
	one := []Media{Noise(frames.Audio, 80, 20*time.Millisecond)}
	for name, tracks := range map[string][]Track{
		"an unknown source":     {{Source: "keyboard", Layers: one}},
		"a source twice":        {{Source: wire.SourceCamera, Layers: one}, {Source: wire.SourceCamera, Layers: one}},
		"no layer":              {{Source: wire.SourceCamera}},
		"two layers":            {{Source: wire.SourceCamera, Layers: []Media{one[0], one[0]}}},
		"sound in three layers": {{Source: wire.SourceMicrophone, Layers: []Media{one[0], one[0], one[0]}}},
	} {
		if c, err := Join(t.Context(), callstest.Call, Options{Send: tracks}); err == nil {
			t.Errorf("%s is sent", name)
			_ = c.Leave(t.Context())
		}
	}
}

func TestMute(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, linh, mai)
	a, b := p.enters(p.options(linh, microphone(t), camera(t))), p.enters(p.options(mai))
	b.awaits(t, "mai hears linh", hearsAndSees(linh))
	if err := a.Mute(wire.SourceScreen, true); err == nil {
		t.Error("a source that is not sent can be muted")
	}
	if err := a.Mute(wire.SourceCamera, true); err != nil {
		t.Fatal(err)
	}
	muted := func(on bool) func(State) bool {
		return func(s State) bool {
			return slices.ContainsFunc(s.Others, func(o wire.Participant) bool {
				return slices.ContainsFunc(o.Tracks, func(t wire.Track) bool { return t.Source == wire.SourceCamera && t.Muted == on })
			})
		}
	}
	s := b.awaits(t, "mai is told", muted(true))
	heard, seen := s.hears(linh, frames.Audio).Frames, s.hears(linh, frames.Video).Frames
	s = b.awaits(t, "linh is still heard", func(s State) bool { return s.hears(linh, frames.Audio).Frames > heard+50 })
	if now := s.hears(linh, frames.Video).Frames; now > seen+4 { // of ten; some may have been under way
		t.Errorf("%d frames came of a muted camera", now-seen)
	}
	if !a.Look().Sent[wire.SourceCamera].Muted {
		t.Error("it does not know that it is muted")
	}
	keys := s.hears(linh, frames.Video).KeyFrames
	if err := a.Mute(wire.SourceCamera, false); err != nil {
		t.Fatal(err)
	}
	b.awaits(t, "the picture comes back with a key frame", func(s State) bool { return s.hears(linh, frames.Video).KeyFrames > keys })
	b.awaits(t, "mai is told", muted(false))
}

func TestSimulcast(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, linh, mai)
	layers := []Media{picture(t), picture(t), picture(t)}
	a, b := p.enters(p.options(linh, Track{Source: wire.SourceCamera, Layers: layers})), p.enters(p.options(mai))
	b.awaits(t, "mai sees linh", func(s State) bool { return s.hears(linh, frames.Video).Frames >= 5 })
	counts := func() map[string]int { return p.Frames(linh) }
	b.awaits(t, "all layers come", func(State) bool { n := counts(); return n["q"] > 0 && n["h"] > 0 && n["f"] > 0 })
	p.Say(linh, wire.LayersFrame{Type: wire.FrameLayers, MID: "0", Active: []string{"f"}})
	a.awaits(t, "two layers rest", func(State) bool {
		var resting int
		a.ask(func() {
			for _, o := range a.seat.outlets {
				if o.resting {
					resting++
				}
			}
		})
		return resting == 2
	})
	before, seen := counts(), b.Look().hears(linh, frames.Video).Frames
	b.awaits(t, "the third goes on", func(s State) bool { return s.hears(linh, frames.Video).Frames >= seen+8 })
	after := counts()
	if after["q"]-before["q"] > 2 || after["h"]-before["h"] > 2 { // a frame each may have been under way
		t.Errorf("frames went from %v to %v", before, after)
	}
}

func TestEcho(t *testing.T) {
	t.Parallel()
	p := platformOf(t, callstest.Setup{Test: true})
	c := p.enters(p.options(linh, microphone(t), camera(t)))
	c.awaits(t, "what is sent comes back", hearsAndSees(linh))
}

func TestThree(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, linh, mai, bao)
	a, b := p.enters(p.options(linh, microphone(t))), p.enters(p.options(mai, microphone(t)))
	a.awaits(t, "linh hears mai", hears(mai))
	b.awaits(t, "mai hears linh", hears(linh))
	c := p.enters(p.options(bao, microphone(t)))
	for _, one := range []*Call{a, b} {
		one.awaits(t, "bao is heard", hears(bao))
	}
	c.awaits(t, "bao hears both", func(s State) bool { return hears(linh)(s) && hears(mai)(s) })
	if n := len(c.Look().Others); n != 2 {
		t.Errorf("bao sees %d others", n)
	}
	// Who comes is given the step that is new then; the others make it themselves.
	type gift struct{ from, to wire.UserID }
	steps := map[gift][]uint8{}
	for _, d := range p.Post.Sent() {
		of := gift{d.From.User, d.To.User}
		steps[of] = append(steps[of], d.Key.Step)
	}
	want := map[gift][]uint8{{mai, linh}: {0}, {linh, mai}: {1}, {bao, linh}: {0}, {bao, mai}: {0}, {linh, bao}: {2}, {mai, bao}: {1}}
	if !reflect.DeepEqual(steps, want) {
		t.Errorf("the steps given are %v", steps)
	}
	left := time.Now()
	chain := b.Look().Participant
	if err := c.Leave(within(t)); err != nil {
		t.Fatal(err)
	}
	if s := c.Look(); s.Phase != PhaseOver || s.Trouble != nil {
		t.Errorf("bao has left and is %+v", s)
	}
	// A chain of which bao has no key is in use soon, and not at once.
	var used frames.Key
	before := key(a)
	a.awaits(t, "linh sends under another chain", func(State) bool { used = key(a); return used.Chain != before.Chain })
	if took := time.Since(left); took < newChainAfter || took > newChainWithin+time.Second {
		t.Errorf("after %s", took)
	}
	for _, d := range p.Post.Sent() {
		if d.Key.Chain == used.Chain && d.To.User != mai {
			t.Errorf("%s has it", d.To.User)
		}
	}
	heard := b.Look().hears(linh, frames.Audio).Frames
	s := b.awaits(t, "mai hears on", func(s State) bool { return s.hears(linh, frames.Audio).Frames > heard+25 })
	if s.hears(linh, frames.Audio).Gap > 2*time.Second || s.Unheard.NoKey > 60 || s.Participant != chain {
		t.Errorf("%+v", s)
	}
}

func hears(user wire.UserID) func(State) bool {
	return func(s State) bool { return s.hears(user, frames.Audio).Frames >= 10 }
}

// key is what a device encrypts under.
func key(c *Call) (k frames.Key) {
	c.ask(func() { k = c.seat.ring.sender.Key() })
	return k
}

func TestLateKey(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, linh, mai)
	b := p.enters(p.options(mai))
	p.Post.Fail(errors.New("the key directory is away"))
	a := p.enters(p.options(linh, microphone(t), Track{Source: wire.SourceCamera, Layers: []Media{Noise(frames.Video, 400, 50*time.Millisecond)}}))
	s := b.awaits(t, "frames come that mai cannot read", func(s State) bool { return s.Unheard.NoKey > 30 })
	if len(s.Received) > 0 {
		t.Errorf("some were read: %+v", s.Received)
	}
	p.Post.Fail(nil)
	b.awaits(t, "mai hears and sees linh, from a key frame on", func(s State) bool {
		return hearsAndSees(linh)(s) && s.hears(linh, frames.Video).KeyFrames > 0
	})
	if a.Look().Trouble != nil {
		t.Error(a.Look().Trouble)
	}
}

// Who is not trusted is given no key and told of, and gets one once they are.
func TestUntrusted(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, linh, mai)
	theirs := p.options(mai).Self
	p.Post.Refuse(theirs, e2ee.ErrUnsigned)
	a, b := p.enters(p.options(linh, microphone(t))), p.enters(p.options(mai))
	a.awaits(t, "linh is told", func(s State) bool { return errors.Is(s.Untrusted[theirs], e2ee.ErrUnsigned) })
	b.awaits(t, "mai hears nothing", func(s State) bool { return s.Unheard.NoKey > 20 })
	if heard := b.Look().Received; len(heard) > 0 {
		t.Errorf("mai hears %+v", heard)
	}
	p.Post.Refuse(theirs, nil)
	b.awaits(t, "mai hears linh", hears(linh))
	a.awaits(t, "all are trusted", func(s State) bool { return len(s.Untrusted) == 0 })
}

// The platform says who is in the call, and lies.
func TestGhost(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, linh, mai)
	a, b := p.enters(p.options(linh, microphone(t))), p.enters(p.options(mai, microphone(t)))
	ghost := p.enters(p.options(bao, microphone(t)))
	a.awaits(t, "linh knows of the ghost", func(s State) bool { return errors.Is(s.Untrusted[p.options(bao).Self], ErrNotMember) })
	a.awaits(t, "linh hears mai", hears(mai))
	b.awaits(t, "frames of the ghost come", func(s State) bool { return s.Unheard.NoKey > 20 && hears(linh)(s) })
	ghost.awaits(t, "it gets frames", func(s State) bool { return s.Unheard.NoKey > 20 })
	for _, one := range []*Call{a, b} {
		if n := one.Look().hears(bao, frames.Audio).Frames; n > 0 {
			t.Errorf("the ghost is heard, %d times", n)
		}
	}
	if heard := ghost.Look().Received; len(heard) > 0 {
		t.Errorf("the ghost hears %+v", heard)
	}
	// Who becomes a member is heard, once they come.
	p.Admit(bao)
	if err := ghost.Leave(within(t)); err != nil {
		t.Fatal(err)
	}
	p.enters(p.options(bao, microphone(t)))
	a.awaits(t, "bao is heard", hears(bao))
}

// Labels are the platform's word; a frame is of whoever's key opened it.
func TestSwappedLabels(t *testing.T) {
	t.Parallel()
	var swapped atomic.Value
	p := platformOf(t, callstest.Setup{Members: []wire.UserID{linh, mai, bao}, Labels: func(s wire.Slot) wire.Slot {
		if track, is := swapped.Load().(wire.TrackID); is {
			s.TrackID = track
		}
		return s
	}})
	a := p.enters(p.options(linh, microphone(t)))
	p.enters(p.options(mai))
	a.awaits(t, "linh is there", func(s State) bool { return s.Phase == PhaseConnected })
	swapped.Store(p.ShowTrack(mai, wire.SourceMicrophone))
	var mu sync.Mutex
	var got []Frame
	o := p.options(bao)
	o.Receive = func(f Frame) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, f)
	}
	c := p.enters(o)
	c.awaits(t, "bao hears linh", hears(linh))
	mu.Lock()
	defer mu.Unlock()
	for _, f := range got {
		if f.From.Peer.User != linh || f.Source != "" {
			t.Fatalf("a frame of linh's is shown as %s of %s", f.Source, f.From.Peer.User)
		}
	}
}

func TestRefusedJoin(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, linh)
	p.Refuse(http.StatusNotFound)
	_, err := Join(within(t), callstest.Call, p.options(linh))
	problem := new(client.Problem)
	if !errors.Is(err, ErrOver) || !errors.As(err, &problem) || problem.Status != http.StatusNotFound {
		t.Errorf("got %v", err)
	}
	p.Refuse(http.StatusServiceUnavailable)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := Join(ctx, callstest.Call, p.options(linh)); !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &problem) {
		t.Errorf("of a platform that is away: %v", err)
	}
	p.Refuse(0)
	p.Close("no_such_call")
	if _, err := Join(within(t), callstest.Call, p.options(linh)); !errors.Is(err, ErrOver) || client.CodeOf(err) != "no_such_call" {
		t.Errorf("of who may not: %v", err)
	}
	p.Close("unavailable")
	again, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := Join(again, callstest.Call, p.options(linh)); !errors.Is(err, context.DeadlineExceeded) || client.CodeOf(err) != "unavailable" {
		t.Errorf("of a host whose stores are away: %v", err)
	}
}

func TestLeave(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, linh)
	c := p.enters(p.options(linh, microphone(t)))
	p.Refuse(http.StatusServiceUnavailable)
	c.Cut()
	c.awaits(t, "there is no socket", func(s State) bool { return !s.Linked })
	if err := c.Leave(within(t)); err != nil {
		t.Error(err)
	}
	if left := p.Left(); !slices.Equal(left, []wire.UserID{linh}) {
		t.Errorf("%v have left over HTTP", left)
	}
	if err := c.Mute(wire.SourceMicrophone, true); !errors.Is(err, ErrOver) {
		t.Errorf("muted after it: %v", err)
	}
	if err := c.Leave(t.Context()); err != nil {
		t.Errorf("a second time: %v", err)
	}
}
