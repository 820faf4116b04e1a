package chat

import (
	"context"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"secureconnect/services/client"
	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/wire"
)

// figuresSetting makes these tests measure, as `make load` does, and hold what they measure against its bound. Without it they are small,
// and see only that everything arrives.
const figuresSetting = "FIGURES"

func fullSize() bool { return os.Getenv(figuresSetting) != "" }

func either[T any](many, few T) T {
	if fullSize() {
		return many
	}
	return few
}

// newMeasured is a network whose SQL store waits for its disk where that is measured.
func newMeasured(t *testing.T) *network {
	t.Helper()
	if fullSize() {
		return newNetworkOn(t, testkit.DurablePostgresURL(t))
	}
	return newNetwork(t)
}

// attempts is how often a time is taken where other work on the machine disturbs it; the last one counts.
func attempts() int { return either(3, 1) }

// padding makes a message as long as a short encrypted one.
var padding = strings.Repeat("x", 300)

// times are how long something took, again and again.
type times struct {
	mu  sync.Mutex
	all []time.Duration
}

func (s *times) add(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, d)
}

func (s *times) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

// quantile is what the part q of all did not exceed.
func (s *times) quantile(q float64) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) == 0 {
		return 0
	}
	slices.Sort(s.all)
	return s.all[min(int(q*float64(len(s.all))), len(s.all)-1)]
}

// stamped is a message that tells when it was to be sent.
func stamped(at time.Time) string { return strconv.FormatInt(at.UnixNano(), 10) + " " + padding }

// ages notes how old the stamped among the items are.
func (s *times) ages(_ wire.ConversationID, items []wire.Item, _ int64) {
	for _, item := range items {
		stamp, _, _ := strings.Cut(item.Body, " ")
		if at, err := strconv.ParseInt(stamp, 10, 64); err == nil {
			s.add(time.Since(time.Unix(0, at)))
		}
	}
}

// run keeps a device of a session connected until the test ends, with a client's own patience.
func (n *network) run(url string, session wire.Session, deliver func(wire.ConversationID, []wire.Item, int64)) *client.Device {
	n.t.Helper()
	device := clientAt(n.t, url).Device(client.DeviceOptions{
		Token:   func(context.Context) (string, error) { return n.token(session, time.Now()), nil },
		Deliver: deliver,
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := device.Run(ctx); err != nil {
			n.t.Error(err)
		}
	})
	n.t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return device
}

// What was sent is durable and acknowledged, and with its reader on the other host, soon: also when 300 are sent a second.
func TestSentMessagesAreSoonEverywhere(t *testing.T) {
	n := newMeasured(t)
	here, there := n.node(), n.node()
	pairs, rate, length := either(60, 6), either(300.0, 30.0), either(20*time.Second, time.Second)
	delivered := &times{}
	type pair struct {
		device *client.Device
		id     wire.ConversationID
	}
	talks := make([]pair, pairs)
	for i := range talks {
		from, to := newUser(), newUser()
		id := n.group(here.Service, from, to)
		talks[i] = pair{n.run(here.url, from, nil), id}
		reader := n.run(there.url, to, delivered.ages)
		testkit.Eventually(t, patience, "both are there", func() bool { return talks[i].device.Through(id) > 0 && reader.Through(id) > 0 })
	}
	for left := attempts(); left > 0; left-- {
		acknowledged, sent := &times{}, 0
		delivered.all = nil
		var waiting sync.WaitGroup
		for begin, at := time.Now(), time.Now(); time.Since(begin) < length; sent++ {
			time.Sleep(time.Until(at)) // and where it wakes late, the message is late from when it was to be sent
			talk, due := talks[sent%pairs], at
			waiting.Go(func() {
				if _, err := talk.device.Send(within(t), talk.id, stamped(due)); err != nil {
					t.Error(err)
				}
				acknowledged.add(time.Since(due))
			})
			at = at.Add(time.Duration(float64(time.Second) / rate))
		}
		waiting.Wait()
		testkit.Eventually(t, patience, "all are delivered", func() bool { return delivered.count() == sent })
		t.Logf("%d messages at %.0f a second: acknowledged p50 %.1f ms, p99 %.1f ms (at most 15, 100); on the other host p50 %.1f ms, p99 %.1f ms (at most 150)", sent, rate,
			ms(acknowledged.quantile(.5)), ms(acknowledged.quantile(.99)), ms(delivered.quantile(.5)), ms(delivered.quantile(.99)))
		if acknowledged.quantile(.5) <= 15*time.Millisecond && acknowledged.quantile(.99) <= 100*time.Millisecond && delivered.quantile(.99) <= 150*time.Millisecond {
			return
		}
	}
	if fullSize() {
		t.Error("the bounds are not kept")
	}
}

// All who are cut at once, while others go on writing, are soon back and have everything.
func TestAllComeBackAfterACut(t *testing.T) {
	const most, apart = 15 * time.Second, time.Second
	count, meanwhile := either(2000, 100), 5
	n := newMeasured(t)
	edge := func(p *LiveParts) { p.Limits.UnauthenticatedSockets = count } // they do not really share an address
	here, there := n.node(edge), n.node(edge)
	sessions, rooms := n.crowd(count)
	lines := []*testkit.Line{testkit.NewLine(t, strings.TrimPrefix(here.url, "http://")), testkit.NewLine(t, strings.TrimPrefix(there.url, "http://"))}
	devices, seen := make([]*client.Device, count), make([]inbox, count)
	for i, session := range sessions {
		devices[i] = n.run("http://"+lines[i%2].Address(), session, seen[i].take)
	}
	all := func(through int64) bool {
		for i, device := range devices {
			if device.Through(rooms[i/roomSize]) < through {
				return false
			}
		}
		return true
	}
	testkit.Eventually(t, time.Minute, "everybody is there", func() bool { return all(1) })
	began := time.Now()
	for _, line := range lines {
		line.Cut()
	}
	var writing sync.WaitGroup
	for i, room := range rooms {
		writing.Go(func() {
			for j := range meanwhile {
				if _, err := there.Send(t.Context(), sessions[i*roomSize], room, text(strconv.Itoa(j))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	time.Sleep(time.Until(began.Add(apart)))
	mended := time.Now()
	for _, line := range lines {
		line.Mend()
	}
	writing.Wait()
	testkit.Eventually(t, time.Minute, "everybody has everything", func() bool { return all(int64(1 + meanwhile)) })
	took := time.Since(began)
	for i := range seen {
		if got := strings.Join(seen[i].bodies, " "); got != "0 1 2 3 4" {
			t.Fatalf("somebody read %q", got)
		}
	}
	t.Logf("%d clients were cut for %s: all back with all that was written meanwhile %.1f s after the cut, %.1f s after the mending (at most %s)",
		count, mended.Sub(began).Round(time.Millisecond), took.Seconds(), time.Since(mended).Seconds(), most)
	if fullSize() && took > most {
		t.Error("the bound is not kept")
	}
}

// inbox is what one reader was given; its device calls it from one goroutine.
type inbox struct{ bodies []string }

func (b *inbox) take(_ wire.ConversationID, items []wire.Item, _ int64) {
	b.bodies = append(b.bodies, bodies(items)...)
}

// One who does not read makes nobody else wait, and costs less than what may wait for them.
func TestStalledReaderCostsNobody(t *testing.T) {
	readers, rate, length, rounds := either(99, 10), either(50, 20), either(4*time.Second, 500*time.Millisecond), either(5, 1)
	n := newMeasured(t)
	h := n.node()
	writer, stalled := newUser(), newUser()
	people := []wire.Session{stalled}
	for range readers {
		people = append(people, newUser())
	}
	id := n.group(h.Service, writer, people...)
	heard := &times{}
	for _, session := range people[1:] {
		device := n.run(h.url, session, heard.ages)
		testkit.Eventually(t, patience, "a reader is there", func() bool { return device.Through(id) > 0 })
	}
	speak := func() time.Duration {
		heard.all = nil
		sent := 0
		for begin, at := time.Now(), time.Now(); time.Since(begin) < length; sent++ {
			time.Sleep(time.Until(at))
			n.send(h.Service, writer, id, stamped(time.Now())+strings.Repeat(padding, 30))
			at = at.Add(time.Second / time.Duration(rate))
		}
		testkit.Eventually(t, patience, "all others have all", func() bool { return heard.count() == sent*readers })
		return heard.quantile(.99)
	}
	speak() // what is made once
	var moved []float64
	var cost int
	for left := attempts(); left > 0; left-- {
		moved, cost = nil, 0
		for range rounds {
			without := speak()
			conn := h.stall(t, n.token(stalled, time.Now()))
			with := speak()
			held := heapBytes()
			_ = conn.Close()
			testkit.Eventually(t, patience, "the stalled one is gone", func() bool { return len(h.live.sockets.of(stalled.UserID)) == 0 })
			cost = max(cost, held-heapBytes())
			moved = append(moved, with.Seconds()/without.Seconds())
		}
		slices.Sort(moved)
		t.Logf("with one reader stalled, the p99 of the %d others was %.2f of that without, median of %d rounds (at most 1.10); it held %d KiB (at most 1024)",
			readers, moved[rounds/2], rounds, cost>>10)
		if moved[rounds/2] < 1.1 && cost < 1<<20 {
			return
		}
	}
	if fullSize() {
		t.Error("the bounds are not kept")
	}
}

// stall follows everything, and reads none of it.
func (h *node) stall(t *testing.T, accessToken string) net.Conn {
	t.Helper()
	conn, err := dialRaw(strings.TrimPrefix(h.url, "http://"), socketPath, 1, wire.FrameSynced, authFrame(accessToken), `{"type":"sync","id":"1"}`)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// heapBytes are in use once the garbage is gone.
func heapBytes() int {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
