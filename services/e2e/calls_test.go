//go:build lab

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"secureconnect/services/client"
	"secureconnect/services/client/calls"
	"secureconnect/services/client/e2ee"
	"secureconnect/services/client/e2ee/frames"
	"secureconnect/services/internal/wire"
)

// TestCallsUnderFaults tells the story of calls that break on a running system (`make lab`), whose app hosts and TURN server it harms.
func TestCallsUnderFaults(t *testing.T) {
	name := os.Getenv("CALLS_OF")
	if name == "" {
		return // TestFiveServers has a story of its own
	}
	survivesBrokenCalls(t, &system{root: repository(t), name: name, prefix: "10.89.0", hosts: []string{"lb-01", "app-01", "app-02", "db-01", "storage-01"}})
}

// caller is a person with one device, who sends sound and pictures in a call and writes down when none come.
type caller struct {
	*person

	t      *testing.T
	system *system
	phone  *phone
	ways   []string // into the TURN server
	call   *calls.Call

	mu    sync.Mutex
	last  map[string]time.Time     // frame, by who sent it and what
	gap   map[string]time.Duration // the longest since it was asked for
	count map[string]int
}

// newCaller makes one that is served by an app host, and reaches the TURN server by one way only.
func (s *system) newCaller(t *testing.T, appHost, way string) *caller {
	t.Helper()
	c := &caller{person: s.newPerson(t, appHost), t: t, system: s, ways: []string{way}}
	tokens, _, err := c.client.Login(t.Context(), client.Credentials{Username: c.name, Password: c.password})
	if err != nil {
		t.Fatal(err)
	}
	c.phone = newPhone(t, c.client, tokens)
	if _, err := c.phone.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.phone.switchOn()
	c.reset()
	return c
}

func (c *caller) self() e2ee.Peer {
	return e2ee.Peer{User: c.phone.tokens.User.ID, Device: c.phone.tokens.DeviceID}
}

// join takes part in a call.
func (c *caller) join(id wire.CallID) {
	c.t.Helper()
	var err error
	if c.call, err = c.enter(id); err != nil {
		c.t.Fatalf("%s joins over %v: %v", c.name, c.ways, err)
	}
}

// enter joins a call until the test ends, with the sound and the picture of a file.
func (c *caller) enter(id wire.CallID) (*calls.Call, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	call, err := calls.Join(ctx, id, calls.Options{
		Client: c.client, Token: func(context.Context) (string, error) { return c.phone.tokens.AccessToken, nil }, Self: c.self(), Keys: c.phone.Machine,
		Send: []calls.Track{
			{Source: wire.SourceMicrophone, Layers: []calls.Media{c.recording("tone.ogg", calls.Sound)}},
			{Source: wire.SourceCamera, Layers: []calls.Media{c.recording("picture.ivf", calls.Picture)}},
		},
		Receive: c.take, Ways: c.ways, TurnAddress: c.system.turnAddress(), RootCAs: c.system.roots(c.t),
	})
	if err != nil {
		return nil, err //nolint:wrapcheck // who joins says what it was
	}
	c.t.Cleanup(func() { _ = call.Leave(context.Background()) })
	return call, nil
}

// recording is a file of the library's tests.
func (c *caller) recording(name string, read func(file io.Reader) (calls.Media, error)) calls.Media {
	c.t.Helper()
	file, err := os.Open(filepath.Join("../client/calls/testdata", name))
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	media, err := read(file)
	if err != nil {
		c.t.Fatal(err)
	}
	return media
}

func (c *caller) take(f calls.Frame) {
	now := time.Now()
	what := string(f.From.Peer.User) + " " + map[frames.Kind]string{frames.Audio: "sound", frames.Video: "picture"}[f.Kind]
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count[what]++
	if before, there := c.last[what]; there {
		c.gap[what] = max(c.gap[what], now.Sub(before))
	}
	c.last[what] = now
}

// reset begins to write down anew. What came last is kept: a gap that has begun counts.
func (c *caller) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil {
		c.last = map[string]time.Time{}
	}
	c.gap, c.count = map[string]time.Duration{}, map[string]int{}
}

// longest is the longest time without sound, or without a picture, from anybody whom the caller has heard.
func (c *caller) longest() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	var longest time.Duration
	for what := range c.last {
		longest = max(longest, c.gap[what])
	}
	return longest
}

// hears waits until new sound and pictures of everybody else have come.
func (c *caller) hears(within time.Duration, others ...*caller) {
	c.t.Helper()
	c.mu.Lock()
	before := map[string]int{}
	for what, n := range c.count {
		before[what] = n
	}
	c.mu.Unlock()
	deadline := time.Now().Add(within)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		var silent []string
		c.mu.Lock()
		for _, other := range others {
			for _, kind := range []string{" sound", " picture"} {
				if what := string(other.phone.tokens.User.ID) + kind; c.count[what] < before[what]+5 {
					silent = append(silent, other.name+kind)
				}
			}
		}
		c.mu.Unlock()
		if len(silent) == 0 {
			return
		}
		if time.Now().After(deadline) {
			s := c.call.Look()
			c.t.Fatalf("%s does not get %s within %s: %s, up %+v, down %+v, unheard %+v, trouble %v", c.name, strings.Join(silent, ", "), within, s.Phase, s.Up, s.Down, s.Unheard, s.Trouble)
		}
		<-tick.C
	}
}

// group makes friends of callers and a conversation for them.
func group(t *testing.T, callers ...*caller) wire.ConversationID {
	t.Helper()
	first := callers[0]
	request := client.ConversationRequest{Kind: wire.KindGroup, Name: "Call", ClientID: newClientID(t)}
	for _, other := range callers[1:] {
		makeFriends(t, first.client, first.phone.tokens, other.phone.tokens)
		request.Members = append(request.Members, other.phone.tokens.User.ID)
	}
	made, _, err := first.client.CreateConversation(t.Context(), first.phone.tokens.AccessToken, request)
	if err != nil {
		t.Fatal(err)
	}
	return made.ID
}

func (c *caller) begin(in wire.ConversationID) wire.CallID {
	c.t.Helper()
	call, _, err := c.client.BeginCall(c.t.Context(), c.phone.tokens.AccessToken, client.CallRequest{ConversationID: in, ClientID: newClientID(c.t), Media: wire.MediaVideo})
	if err != nil {
		c.t.Fatal(err)
	}
	return call.ID
}

// measured is how long nothing came while something was done, for those who are in the call. It is done again, a few times, where other
// work on the machine disturbed it.
func measured(t *testing.T, what string, most time.Duration, do func(), after func(), callers ...*caller) {
	t.Helper()
	var gap time.Duration
	for range attempts {
		for _, c := range callers {
			c.reset()
		}
		do()
		for _, c := range callers {
			c.hears(30*time.Second, without(callers, c)...)
		}
		gap = 0
		for _, c := range callers {
			gap = max(gap, c.longest())
		}
		if after != nil {
			after()
		}
		if gap <= most {
			break
		}
	}
	check(t, what+", seconds without sound or picture", gap.Seconds(), most.Seconds())
}

func without(callers []*caller, c *caller) (rest []*caller) {
	for _, each := range callers {
		if each != c {
			rest = append(rest, each)
		}
	}
	return rest
}

// survivesBrokenCalls: two people on two app hosts, one over UDP and one over TCP, are in a call of a group while everything breaks that
// can; a third, over TLS, comes late.
func survivesBrokenCalls(t *testing.T, s *system) {
	linh, mai := s.newCaller(t, "app-01", calls.OverUDP), s.newCaller(t, "app-02", calls.OverTCP)
	late := s.newCaller(t, "app-02", calls.OverTLS)
	id := linh.begin(group(t, linh, mai, late))
	linh.join(id)
	mai.join(id)
	linh.hears(20*time.Second, mai)
	mai.hears(20*time.Second, linh)
	owner := linh.call.Look().Host
	t.Logf("the call lives on %s; %s and %s, rejoined %d and %d times", owner, linh.relay(t), mai.relay(t), linh.call.Look().Rejoined, mai.call.Look().Rejoined)

	t.Run("sockets are lost", func(t *testing.T) {
		before := linh.call.Look()
		measured(t, "sockets lost", time.Second, func() {
			linh.call.Cut()
			mai.call.Cut()
			linh.wait(t, "a socket", func(s calls.State) bool { return s.Linked })
			mai.wait(t, "a socket", func(s calls.State) bool { return s.Linked })
		}, nil, linh, mai)
		if s := linh.call.Look(); s.Rejoined > before.Rejoined || s.Resumed == before.Resumed {
			t.Errorf("resumed %d times, and rejoined %d times", s.Resumed-before.Resumed, s.Rejoined-before.Rejoined)
		}
	})
	t.Run("a path dies", func(t *testing.T) {
		measured(t, "path dead, ICE restart", 3*time.Second, func() {
			state := linh.call.Look()
			for _, at := range []int{int(state.Up.Local.Port()), int(state.Down.Local.Port())} {
				s.mustOn(t, "storage-01", "nft", "insert", "rule", "inet", "secureconnect", "input", "udp", "dport", fmt.Sprint(at), "counter", "drop", "comment", `"dead path"`)
			}
			linh.wait(t, "another path", func(now calls.State) bool {
				return now.Up.Local.Port() != state.Up.Local.Port() && now.Down.Local.Port() != state.Down.Local.Port() && now.Phase == calls.PhaseConnected
			})
		}, func() { s.forgetRules(t, "storage-01") }, linh, mai)
	})
	t.Run("the TURN server is killed and comes back", func(t *testing.T) {
		measured(t, "coturn killed and started", 3*time.Second, func() {
			s.mustOn(t, "storage-01", "sh", "-c", "docker kill storage-coturn-1 && docker start storage-coturn-1")
		}, nil, linh, mai)
	})
	t.Run("one packet of twelve is lost", func(t *testing.T) {
		const lossy = "numgen random mod 100 < 8 counter drop comment \"lossy\""
		s.mustOn(t, "storage-01", "sh", "-c", "nft insert rule inet secureconnect input 'udp dport 49152-57343 "+lossy+"'; nft insert rule inet secureconnect input 'udp dport 3478 "+lossy+"'")
		defer s.forgetRules(t, "storage-01")
		for _, c := range []*caller{linh, mai} {
			c.reset()
		}
		before := [2]calls.State{linh.call.Look(), mai.call.Look()}
		for _, c := range []*caller{linh, mai} { // about eight seconds of it
			eventually(t, 30*time.Second, "80 pictures", func() error {
				if n := c.counts()["picture"]; n < 80 {
					return fmt.Errorf("%d", n)
				}
				return nil
			})
		}
		for i, c := range []*caller{linh, mai} {
			now := c.call.Look()
			lost := now.Unheard.LostFrames - before[i].Unheard.LostFrames
			t.Logf("%s: pictures and sounds %v, %d pictures lost, longest gap %s", c.name, c.counts(), lost, c.longest().Round(time.Millisecond))
			if lost > 3 {
				t.Errorf("%s lost %d pictures", c.name, lost)
			}
		}
		check(t, "8 % loss, seconds without sound or picture", max(linh.longest(), mai.longest()).Seconds(), 1)
	})
	t.Run("somebody comes late", func(t *testing.T) {
		var first time.Duration
		for range attempts {
			late.join(id)
			late.hears(20*time.Second, linh, mai)
			linh.hears(20*time.Second, late)
			if first = late.call.Look().FirstFrame; first <= time.Second {
				break
			}
			if err := late.call.Leave(t.Context()); err != nil {
				t.Error(err)
			}
		}
		check(t, "joining to the first decrypted frame, seconds", first.Seconds(), 1)
		if err := late.call.Leave(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("the owner's service is stopped for good, and hands over", func(t *testing.T) {
		measured(t, "call handed over", 2*time.Second, func() {
			owner = linh.call.Look().Host
			s.mustOn(t, owner, "docker", "stop", "--time", "30", "app-video-1")
		}, func() {
			s.mustOn(t, owner, "docker", "start", "app-video-1")
			s.awaitHealthy(t, owner, "app-video-1")
		}, linh, mai)
	})
	t.Run("the owner's host loses power", func(t *testing.T) {
		measured(t, "owner's host dead", 10*time.Second, func() {
			owner = linh.call.Look().Host
			s.must(t, "docker", "kill", s.node(owner))
		}, func() {
			s.must(t, "docker", "start", s.node(owner))
			s.awaitHealthy(t, owner, "app-video-1")
		}, linh, mai)
	})
	if err := errors.Join(linh.call.Leave(t.Context()), mai.call.Leave(t.Context())); err != nil {
		t.Error(err)
	}
	eventually(t, 20*time.Second, "the call in both logs", func() error {
		for _, c := range []*caller{linh, mai, late} {
			log, _, err := c.client.CallHistory(t.Context(), c.phone.tokens.AccessToken, "", 0)
			if err != nil || len(log.Calls) != 1 || log.Calls[0].Outcome != wire.OutcomeAnswered || log.Calls[0].Seconds < 5 {
				return fmt.Errorf("%s: %+v, %w", c.name, log, err)
			}
		}
		return nil
	})
}

// relay says how a caller's media go, and wants them to go through the TURN server.
func (c *caller) relay(t *testing.T) string {
	t.Helper()
	s := c.call.Look()
	for _, path := range []calls.Path{s.Up, s.Down} {
		if path.Type != "relay" || path.Protocol != c.ways[0] || path.Local.Addr().String() != c.system.prefix+".14" {
			t.Errorf("%s over %v: %+v", c.name, c.ways, path)
		}
	}
	return fmt.Sprintf("%s over %s by %s", c.name, s.Up.Protocol, s.Up.Local)
}

func (c *caller) counts() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := map[string]int{}
	for what, n := range c.count {
		_, kind, _ := strings.Cut(what, " ")
		counts[kind] += n
	}
	return counts
}

func (c *caller) wait(t *testing.T, what string, hoped func(calls.State) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := c.call.Await(ctx, hoped); err != nil {
		t.Fatalf("%s waits for %s: %v", c.name, what, err)
	}
}

// forgetRules loads the firewall as it was written.
func (s *system) forgetRules(t *testing.T, host string) {
	t.Helper()
	s.mustOn(t, host, "nft", "-f", "/etc/secureconnect/firewall.nft")
}

// awaitHealthy waits for a service after its host or itself was stopped.
func (s *system) awaitHealthy(t *testing.T, host, container string) {
	t.Helper()
	eventually(t, 2*time.Minute, container+" healthy on "+host, func() error {
		if r := s.on(t, host, "docker", "inspect", "--format", "{{.State.Health.Status}}", container); strings.TrimSpace(r.stdout) != "healthy" {
			return fmt.Errorf("%s%s", r.stdout, r.stderr)
		}
		return nil
	})
}
