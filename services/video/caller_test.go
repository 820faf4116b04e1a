package video

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"secureconnect/services/client"
	"secureconnect/services/client/calls"
	"secureconnect/services/client/calls/callstest"
	"secureconnect/services/client/e2ee"
	"secureconnect/services/client/e2ee/frames"
	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/wire"
)

// What the Go client makes of the service: the whole of it, without a TURN server between.

// edge is what stands before the hosts: it passes requests to one of them, and says who is a member as chat would.
type edge struct {
	*httptest.Server
	to atomic.Pointer[url.URL]
}

func (w *world) edge(to *host) *edge {
	w.t.Helper()
	e := &edge{}
	e.passTo(w.t, to)
	mux := http.NewServeMux()
	mux.Handle("/", &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(e.to.Load()) },
		ErrorHandler: func(rw http.ResponseWriter, _ *http.Request, _ error) { rw.WriteHeader(http.StatusBadGateway) },
	})
	mux.HandleFunc("GET /v1/conversations/{id}/members", func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		var list wire.Members
		for _, member := range w.rooms[wire.ConversationID(r.PathValue("id"))].Members {
			list.Members = append(list.Members, wire.Member{UserID: member})
		}
		_ = json.NewEncoder(rw).Encode(list) // whoever asked is gone else
	})
	e.Server = httptest.NewServer(mux)
	w.t.Cleanup(e.Close)
	return e
}

func (e *edge) passTo(t *testing.T, h *host) {
	t.Helper()
	to, err := url.Parse(h.url)
	if err != nil {
		t.Fatal(err)
	}
	e.to.Store(to)
}

// party is people in a call with the Go client.
type party struct {
	*world
	t    *testing.T
	post *callstest.Post
	call wire.CallID
}

func (w *world) party(t *testing.T, h *host, who ...wire.Session) *party {
	t.Helper()
	return &party{world: w, t: t, post: &callstest.Post{}, call: w.begin(h.Service, who[0], w.conversation(who...)).ID}
}

// noise is sound and picture as long as a browser's, in one layer or in three.
func noise(layers int) []calls.Track {
	camera := calls.Track{Source: wire.SourceCamera}
	for i := range layers {
		camera.Layers = append(camera.Layers, calls.Noise(frames.Video, 400<<i, 50*time.Millisecond))
	}
	return []calls.Track{{Source: wire.SourceMicrophone, Layers: []calls.Media{calls.Noise(frames.Audio, 80, 20*time.Millisecond)}}, camera}
}

func peerOf(who wire.Session) e2ee.Peer { return e2ee.Peer{User: who.UserID, Device: who.DeviceID} }

// enters has somebody join through an edge, and leave when the test ends.
func (p *party) enters(e *edge, who wire.Session, change ...func(*calls.Options)) *calls.Call {
	p.t.Helper()
	api, err := client.New(client.Options{BaseURL: e.URL})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(api.Close)
	o := calls.Options{
		Client: api, Self: peerOf(who), Keys: p.post.Box(peerOf(who)), Send: noise(1), Direct: true, TurnAddress: loopback.String(),
		Token: func(context.Context) (string, error) { return p.token(who, time.Now()), nil },
	}
	for _, apply := range change {
		apply(&o)
	}
	c, err := calls.Join(within(p.t), p.call, o)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = c.Leave(context.Background()) }) // it may have left
	return c
}

func (p *party) awaits(c *calls.Call, what string, hoped func(calls.State) bool) calls.State {
	p.t.Helper()
	if err := c.Await(within(p.t), hoped); err != nil {
		p.t.Fatalf("%s: %v; it is %+v", what, err, c.Look())
	}
	return c.Look()
}

func soundOf(who wire.Session) calls.Heard {
	return calls.Heard{From: peerOf(who), Source: wire.SourceMicrophone, Kind: frames.Audio}
}

func pictureOf(who wire.Session) calls.Heard {
	return calls.Heard{From: peerOf(who), Source: wire.SourceCamera, Kind: frames.Video}
}

// goesOn wants more of sound and picture of somebody than there is now.
func (p *party) goesOn(c *calls.Call, who wire.Session) {
	p.t.Helper()
	before := c.Look().Received
	p.awaits(c, "it goes on", func(s calls.State) bool {
		return s.Received[soundOf(who)].Frames >= before[soundOf(who)].Frames+25 && s.Received[pictureOf(who)].Frames >= before[pictureOf(who)].Frames+10
	})
}

func TestCallers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	here, there := w.host("app-01"), w.host("app-02")
	ada, bob, eve := newUser(), newUser(), newUser()
	p := w.party(t, here, ada, bob, eve)
	near, far := w.edge(here), w.edge(there)
	first, second := p.enters(near, ada), p.enters(far, bob)

	p.goesOn(first, bob)
	p.goesOn(second, ada)
	if a, b := first.Look(), second.Look(); a.Host != "app-01" || b.Host != "app-01" || a.Unheard.Forged+b.Unheard.Forged+a.Unheard.Seen+b.Unheard.Seen > 0 {
		t.Errorf("%+v; %+v", a, b)
	}
	t.Logf("the first frame came after %s and %s", first.Look().FirstFrame, second.Look().FirstFrame)

	first.Cut()
	s := p.awaits(first, "ada resumes", func(s calls.State) bool { return s.Resumed == 1 })
	p.goesOn(first, bob)
	p.goesOn(second, ada)
	if s.Rejoined > 0 || s.Restarted > 0 || first.Look().Unheard.LostPackets > 0 || second.Look().Unheard.LostPackets > 0 {
		t.Errorf("a socket that was cut cost something: %+v", first.Look())
	}

	third := p.enters(far, eve, func(o *calls.Options) { o.Send = noise(3) })
	for _, one := range []*calls.Call{first, second} {
		p.goesOn(one, eve)
	}
	p.goesOn(third, ada)
	p.goesOn(third, bob)
	if err := third.Leave(within(t)); err != nil {
		t.Error(err)
	}
	p.awaits(first, "ada is told", func(s calls.State) bool { return len(s.Others) == 1 })
	p.goesOn(first, bob)

	if err := first.Mute(wire.SourceMicrophone, true); err != nil {
		t.Fatal(err)
	}
	p.awaits(second, "bob is told", func(s calls.State) bool {
		return slices.ContainsFunc(s.Others[0].Tracks, func(track wire.Track) bool { return track.Source == wire.SourceMicrophone && track.Muted })
	})
	if err := first.Mute(wire.SourceMicrophone, false); err != nil {
		t.Fatal(err)
	}
	p.goesOn(second, ada)

	if err := second.Want(map[wire.TrackID]string{}); err != nil {
		t.Fatal(err)
	}
	before := second.Look().Received
	s = p.awaits(second, "sound goes on", func(s calls.State) bool { return s.Received[soundOf(ada)].Frames >= before[soundOf(ada)].Frames+60 })
	if more := s.Received[pictureOf(ada)].Frames - before[pictureOf(ada)].Frames; more > 12 { // of 24; some were under way
		t.Errorf("%d frames came of video that is not wanted", more)
	}

	for _, one := range []*calls.Call{first, second} {
		if err := one.Leave(within(t)); err != nil {
			t.Error(err)
		}
	}
	testkit.Eventually(t, patience, "the call is over", func() bool {
		call, err := w.store.call(t.Context(), p.call)
		return err == nil && call.State == wire.CallEnded
	})
}

// Who calls themselves gets back what they send, and can read it.
func TestCallers_test_their_connection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.host("app-01")
	ada := newUser()
	call, err := h.Test(t.Context(), ada)
	if err != nil {
		t.Fatal(err)
	}
	p := &party{world: w, t: t, post: &callstest.Post{}, call: call.ID}
	p.awaits(p.enters(w.edge(h), ada), "ada hears and sees herself", func(s calls.State) bool {
		sound, picture := soundOf(ada), pictureOf(ada)
		sound.Source, picture.Source = "", "" // nobody is told what they send themselves
		return s.Received[sound].Frames >= 25 && s.Received[picture].Frames >= 10
	})
}

// What the service can have go wrong with one connection, the client bears.
func TestCallers_bear_faults(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.host("app-01")
	e := w.edge(h)
	t.Run("each", func(t *testing.T) { // the host waits for all of them
		for _, fault := range []fault{faultAfterJoin, faultAfterOffer, faultAfterAnswer, faultNoPong, faultForget, faultMoved} {
			t.Run(string(fault), func(t *testing.T) {
				t.Parallel()
				ada, bob := newUser(), newUser()
				p := w.party(t, h, ada, bob)
				second := p.enters(e, bob)
				first := p.enters(e, ada, func(o *calls.Options) { o.Faults = [][]string{{string(fault)}, {string(faultForget)}} })
				p.goesOn(first, bob)
				p.goesOn(second, ada)
				if fault == faultForget {
					first.Cut()
				}
				s := p.awaits(first, "ada joins anew", func(s calls.State) bool { return s.Rejoined == 1 && s.Phase == calls.PhaseConnected })
				p.goesOn(first, bob)
				p.goesOn(second, ada)
				if s.Trouble != nil {
					t.Error(s.Trouble)
				}
			})
		}
	})
}

// The host that a call lives on goes: the call goes on on the other.
func TestCallers_outlive_their_host(t *testing.T) {
	for name, c := range map[string]struct {
		end func(*host)
		gap time.Duration
	}{
		"it_is_stopped": {func(h *host) { h.stop() }, 3 * time.Second},
		"it_dies":       {func(h *host) { h.kill() }, 12 * time.Second}, // on a machine that does other things besides
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			here, there := w.host("app-01"), w.host("app-02")
			ada, bob := newUser(), newUser()
			p := w.party(t, here, ada, bob)
			near, far := w.edge(here), w.edge(there)
			first, second := p.enters(near, ada), p.enters(far, bob)
			p.goesOn(first, bob)
			p.goesOn(second, ada)
			near.passTo(t, there)
			c.end(here)
			for _, one := range []*calls.Call{first, second} {
				p.awaits(one, "it is on the other host", func(s calls.State) bool { return s.Host == "app-02" && s.Phase == calls.PhaseConnected })
			}
			p.goesOn(first, bob)
			p.goesOn(second, ada)
			for who, s := range map[*wire.Session]calls.State{&bob: first.Look(), &ada: second.Look()} {
				heard, seen := s.Received[soundOf(*who)].Gap, s.Received[pictureOf(*who)].Gap
				t.Logf("not heard for %s, not seen for %s", heard, seen)
				if heard > c.gap || seen > c.gap {
					t.Errorf("that is longer than %s", c.gap)
				}
			}
		})
	}
}
