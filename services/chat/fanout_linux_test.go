package chat

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/wire"
)

// What the figures are taken with: 40 publications a second to 1,000 are 40,000 deliveries, which leaves two cores room. At saturation
// one would measure the luck of batching.
const (
	yardstickSetting = "FANOUT" // Centrifugo's program, which `make fanout` builds

	audienceSize = 1000
	bodySize     = 256
	publishEvery = 25 * time.Millisecond
	warmUps      = 80  // 2 s
	publications = 400 // 10 s
	rounds       = 5

	full      = audienceSize * int(time.Second/publishEvery) // deliveries a second
	leastRate = 0.97                                         // of them, else nothing is compared
)

// The bounds of what is announced, against Centrifugo without history.
const (
	leastRatio = 1.0
	mostTimes  = 1.2
	mostBeyond = 5 * time.Millisecond
)

// A message in a group of 1,000 is delivered for no more CPU time than Centrifugo takes, and hardly later. One generator speaks to all,
// each server is a process of its own on the same cores, and of its stores nothing is counted.
//
// What Centrifugo forwards without keeping it is compared with an announcement, as another app host makes it of what it has stored, from
// the announcement on: the generator makes it, nothing is stored, and what taking the message in costs is not in it. For Centrifugo it is.
// What it keeps as history in Redis is compared with a message from its sender's frame on: numbered in SQL, stored in Cassandra, marked in
// SQL and then delivered.
func TestFanOut(t *testing.T) {
	if os.Getenv(hostSetting) != "" {
		return // we are the host, and that is another test
	}
	program := os.Getenv(yardstickSetting)
	if program == "" { // the measuring itself is always tested
		announced, stored := newNetwork(t).ourFanOut(20)
		announced.measure(t, 20, 5, 20)
		stored.measure(t, 20, 5, 20)
		return
	}
	announced, stored := newNetworkOn(t, testkit.DurablePostgresURL(t)).ourFanOut(audienceSize)
	memory, forwarding := centrifugo(t, program, "Centrifugo, memory"), centrifugo(t, program, "Centrifugo, Redis", redisEngine(t)...)
	keeping := centrifugo(t, program, "Centrifugo, Redis with history",
		append(redisEngine(t), "CENTRIFUGO_HISTORY_SIZE=1000", "CENTRIFUGO_HISTORY_TTL=300s", "CENTRIFUGO_FORCE_RECOVERY=true")...)
	contestants := []*contestant{memory, announced, forwarding, stored, keeping} // who is compared runs beside each other
	for range rounds {
		for _, c := range contestants {
			c.figures = append(c.figures, c.measure(t, audienceSize, warmUps, publications))
		}
		slices.Reverse(contestants) // what drifts on the machine shall favour nobody
	}
	printTable(announced, memory, forwarding, stored, keeping)
	for _, its := range []*contestant{memory, forwarding} {
		ratio, latest := announced.ratio(its), its.median(p99)*mostTimes+ms(mostBeyond)
		t.Logf("announced, against %s: %.2f of its deliveries per CPU second (at least %.2f), p99 %.1f ms (at most %.1f)",
			its.name, ratio, leastRatio, announced.median(p99), latest)
		if ratio < leastRatio || announced.median(p99) > latest {
			t.Errorf("the fan-out misses its bounds against %s", its.name)
		}
	}
	t.Logf("stored, against %s: %.2f of its deliveries per CPU second, p99 %.1f ms (its own %.1f)",
		keeping.name, stored.ratio(keeping), stored.median(p99), keeping.median(p99))
	for _, c := range contestants {
		if c.median(rate) < leastRate*float64(full) {
			t.Errorf("%s: %.0f deliveries a second of %d: this machine is too slow or too busy for figures", c.name, c.median(rate), full)
		}
	}
}

func printTable(contestants ...*contestant) {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(table, "median of the runs\tdeliveries/s\tper CPU second\tframes each\tp50 ms\tp99 ms\t")
	for _, c := range contestants {
		_, _ = fmt.Fprintf(table, "%s\t%.0f\t%.0f\t%.2f\t%.1f\t%.1f\t\n",
			c.name, c.median(rate), c.median(perCPU), c.median(frames), c.median(p50), c.median(p99))
	}
	_ = table.Flush()
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// contestant is a server in a process of its own, and how it is spoken to.
type contestant struct {
	name   string
	pid    int
	empty  func(t *testing.T) // waits until nobody is left of the run before
	member func(i int) (*raw, error)
	begin  func(a *audience) (publish func(body string) error, err error)

	figures []figure
}

// figure is what one run gave.
type figure [figureKinds]float64

const (
	rate   = iota // deliveries a second
	perCPU        // deliveries to a second of the server's CPU time
	frames        // to a delivery
	p50           // ms
	p99
	figureKinds
)

func (c *contestant) median(kind int) float64 {
	return middle(len(c.figures), func(i int) float64 { return c.figures[i][kind] })
}

// ratio is the middle one of the rounds', as the machine is not the same in all of them.
func (c *contestant) ratio(other *contestant) float64 {
	return middle(len(c.figures), func(i int) float64 { return c.figures[i][perCPU] / other.figures[i][perCPU] })
}

func middle(n int, of func(i int) float64) float64 {
	values := make([]float64, n)
	for i := range values {
		values[i] = of(i)
	}
	slices.Sort(values)
	return values[n/2]
}

// measure publishes to so many members, and takes what comes after the warming up.
func (c *contestant) measure(t *testing.T, members, warming, counting int) figure {
	t.Helper()
	a := newAudience(t, c.name, members*(warming+counting), warming+counting)
	defer a.close()
	c.empty(t)
	conns := make([]*raw, members)
	var group errgroup.Group
	group.SetLimit(16)
	for i := range conns {
		group.Go(func() (err error) {
			conns[i], err = c.member(i)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatalf("%s: %v", c.name, err)
	}
	for _, conn := range conns {
		if _, err := a.add(conn); err != nil {
			t.Fatal(err)
		}
	}
	publish, err := c.begin(a)
	if err != nil {
		t.Fatalf("%s: %v", c.name, err)
	}
	a.running.Go(a.listen)
	a.give(t, publish, 0, warming)
	a.await(t, warming*members)
	used, framed, began := cpuTime(t, c.pid), a.frames.Load(), time.Now()
	a.give(t, publish, warming, counting)
	a.await(t, (warming+counting)*members)
	used, framed = cpuTime(t, c.pid)-used, a.frames.Load()-framed
	lasted := time.Since(began).Seconds()
	took := slices.Sorted(slices.Values(a.took[warming*members:]))
	n := float64(len(took))
	return figure{n / lasted, n / used.Seconds(), float64(framed) / n, ms(took[len(took)/2]), ms(took[len(took)*99/100])}
}

// give publishes n bodies, from a number on.
func (a *audience) give(t *testing.T, publish func(body string) error, first, n int) {
	t.Helper()
	ticker := time.NewTicker(publishEvery)
	defer ticker.Stop()
	for i := range n {
		<-ticker.C
		a.stamp(first + i)
		if err := publish(numbered(first+i, bodySize)); err != nil {
			t.Fatal(err)
		}
	}
}

// cpuTime is what a process has used of the cores, in its own code and in the kernel.
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // from the third on (proc(5))
	ticks := 0
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// ourFanOut is a group of so many on a chat host: what another host announces there, and what is sent there.
func (n *network) ourFanOut(members int) (announced, stored *contestant) {
	n.t.Helper()
	sessions := make([]wire.Session, members)
	for i := range sessions {
		sessions[i] = newUser()
	}
	service := n.host()
	id, h, beside := n.largeGroup(service, sessions), n.measuredHost(), n.beside()
	dial := func(i int, answer string, says ...string) (*raw, error) {
		signed, _, err := n.signer.Sign(sessions[i], time.Now())
		if err != nil {
			return nil, err
		}
		return dialRaw(h.address, socketPath, i, answer, append([]string{authFrame(signed)}, says...)...)
	}
	member := func(i int) (*raw, error) { return dial(i, wire.FrameSynced, `{"type":"sync","id":"1"}`) }
	announced = &contestant{name: "ours, announced", pid: h.pid, empty: h.closeAll, member: member, begin: func(*audience) (func(string) error, error) {
		return announcing(service, id, sessions[0], beside)
	}}
	stored = &contestant{name: "ours, stored", pid: h.pid, empty: h.closeAll, member: member, begin: func(a *audience) (func(string) error, error) {
		conn, err := dial(0, wire.FrameReady)
		return a.publisher(conn, err, func(body string) string {
			return string(frameOf(wire.ClientFrame{Type: wire.FrameSend, ConversationID: id, ClientID: newClientID(), Body: body}))
		})
	}}
	return announced, stored
}

// publisher makes a connection the one that publishes.
func (a *audience) publisher(conn *raw, err error, frame func(body string) string) (func(body string) error, error) {
	if err != nil {
		return nil, err
	}
	l, err := a.add(conn)
	return func(body string) error { return l.write(masked(frame(body))) }, err
}

// announcing speaks as another app host does that has stored a message: the next one of a conversation whose number is the head.
func announcing(service *Service, id wire.ConversationID, sender wire.Session, beside *channel) (publish func(body string) error, err error) {
	heads, err := service.store.heads(context.Background(), []wire.ConversationID{id})
	head := heads[id]
	return func(body string) error {
		head++
		now := time.Now()
		item := wire.Item{Seq: head, Kind: wire.ItemMessage, At: &now, Sender: sender.UserID, Device: sender.DeviceID, ClientID: newClientID(), Body: body}
		beside.sendAnnounce(id, head, head, nil, frameOf([]wire.Item{item}))
		return nil
	}, err
}

// beside is another host's way to Redis.
func (n *network) beside() *channel {
	n.t.Helper()
	c := newChannel(quiet, n.direct, nil)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.publish(ctx)
	}()
	n.t.Cleanup(func() {
		cancel()
		<-ended
	})
	return c
}

// largeGroup is made step by step, as there are only so many to be added at once.
func (n *network) largeGroup(service *Service, sessions []wire.Session) wire.ConversationID {
	n.t.Helper()
	id := n.group(service, sessions[0])
	for some := range slices.Chunk(sessions[1:], 100) {
		users := make([]wire.UserID, len(some))
		for i, session := range some {
			users[i] = session.UserID
		}
		if _, err := service.Add(n.t.Context(), sessions[0], id, users); err != nil {
			n.t.Fatal(err)
		}
	}
	return id
}

// centrifugo starts the yardstick, by its defaults but for these settings.
func centrifugo(t *testing.T, program, name string, settings ...string) *contestant {
	t.Helper()
	address := freeAddress(t)
	host, port, _ := net.SplitHostPort(address)
	command := exec.CommandContext(context.Background(), program)
	command.Dir = t.TempDir() // it looks for a configuration where it stands
	command.Env = append(append(os.Environ(), settings...), "GOMAXPROCS=2", "CENTRIFUGO_ADDRESS="+host, "CENTRIFUGO_PORT="+port,
		"CENTRIFUGO_CLIENT_INSECURE=true", "CENTRIFUGO_LOG_LEVEL=error", "CENTRIFUGO_USAGE_STATS_DISABLE=true")
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait() // killed
	})
	dial := func(i int, answer string, says ...string) (*raw, error) {
		return dialRaw(address, "/connection/websocket", i, answer, append([]string{`{"id":1,"connect":{}}`}, says...)...)
	}
	testkit.Eventually(t, patience, name, func() bool {
		conn, err := dial(0, `"connect"`)
		return err == nil && conn.Close() == nil
	})
	return &contestant{
		name: name, pid: command.Process.Pid, empty: func(*testing.T) {}, // a new member needs nothing of the old ones
		member: func(i int) (*raw, error) { return dial(i, `"subscribe"`, `{"id":2,"subscribe":{"channel":"fan-out"}}`) },
		begin: func(a *audience) (func(string) error, error) {
			conn, err := dial(0, `"connect"`)
			return a.publisher(conn, err, func(body string) string { return `{"id":3,"publish":{"channel":"fan-out","data":"` + body + `"}}` })
		},
	}
}

// freeAddress is one that nobody listened on a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// redisEngine keeps what is published, and its history, in the Redis of the tests.
func redisEngine(t *testing.T) []string {
	t.Helper()
	store := testkit.RedisConfig(t)
	return []string{
		"CENTRIFUGO_ENGINE=redis", "CENTRIFUGO_REDIS_ADDRESS=" + store.Address, "CENTRIFUGO_REDIS_PASSWORD=" + store.Password.Reveal(),
		"CENTRIFUGO_REDIS_DB=" + strconv.Itoa(store.Database),
	}
}
