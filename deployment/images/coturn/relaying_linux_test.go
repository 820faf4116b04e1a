package coturn

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"
)

// What the figures are taken with: 16 calls of 400 packets a second each way are 12,800 packets to relay, a quarter of a core.
const (
	figuresSetting = "RELAY" // set by `make relay`

	calls       = 16
	packetSize  = 1000 // of a picture's packets
	sendEvery   = 5 * time.Millisecond
	packetsEach = 2   // a call, every time
	turnLasts   = 300 // intervals, 1.5 s
	turns       = 40  // of each: short and many, as what else the machine does comes and goes

	leastRatio = 0.95
	mostLost   = 0.001
)

// Coturn as it is deployed relays, with as much CPU time, hardly less than the same program does with no more settings than it needs.
// One generator, which is also the peer, speaks with both in turn, and each has a process of its own on the same cores.
func TestRelaying(t *testing.T) {
	n := newNetwork(t)
	ours, its := &contestant{name: "as deployed"}, &contestant{name: "stock settings"}
	ours.server, its.server = deployed(t, n, "secret"), stock(t, n, "secret")
	contestants, echo := []*contestant{its, ours}, n.echo(t)
	if os.Getenv(figuresSetting) == "" { // the measuring itself is always tested
		for _, c := range contestants {
			c.call(t, echo, 2)
			if f := c.turn(t, echo, 20); f.sent != 2*20*packetsEach || f.lost() > 0 || f.used == 0 {
				t.Errorf("%s: %d packets were sent, %d came back, for %s", c.name, f.sent, f.back, f.used)
			}
		}
		return
	}
	for _, c := range contestants {
		c.call(t, echo, calls)
		c.turn(t, echo, turnLasts) // to warm up
	}
	for range turns {
		for _, c := range contestants {
			c.figures = append(c.figures, c.turn(t, echo, turnLasts))
		}
		slices.Reverse(contestants) // what drifts on the machine shall favour nobody
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(table, "coturn, median of the turns\tpackets/s\tper CPU second\tlost\t")
	for _, c := range []*contestant{ours, its} {
		_, _ = fmt.Fprintf(table, "%s\t%.0f\t%.0f\t%.3f %%\t\n", c.name, c.median(figure.rate), c.median(figure.perCPU), 100*c.median(figure.lost))
	}
	_ = table.Flush()
	// The middle one of the pairs', as the machine is not the same in all of them.
	ratio := middle(turns, func(i int) float64 { return ours.figures[i].perCPU() / its.figures[i].perCPU() })
	t.Logf("as deployed: %.3f of the packets per CPU second of stock settings (at least %.2f)", ratio, leastRatio)
	if ratio < leastRatio {
		t.Errorf("the settings cost more than %.0f %%", 100*(1-leastRatio))
	}
	for _, c := range contestants {
		if lost := c.median(figure.lost); lost > mostLost {
			t.Errorf("%s lost %.2f %%: this machine is too slow or too busy for figures", c.name, 100*lost)
		}
	}
}

// stock runs the image's coturn with what it must be told: where it is, and whom to believe.
func stock(t *testing.T, n *network, secret string) *server {
	t.Helper()
	s := n.server(t, "stock")
	settings := fmt.Sprintf("listening-ip=%s\nrelay-ip=%s\nuse-auth-secret\nstatic-auth-secret=%s\nrealm=%s\n"+
		"userdb=/run/coturn/turndb\npidfile=/run/coturn/turnserver.pid\nlog-file=stdout\n", s.address, s.address, secret, realm)
	if err := os.WriteFile(filepath.Join(s.config, "turnserver.conf"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	s.write(t, n, "turnserver.conf", settings)
	n.run(t, s, "--entrypoint", "turnserver", n.image, "-c", "/etc/secureconnect/coturn/turnserver.conf")
	s.await(t, "sh", "-c", "grep -q :0D96 /proc/net/udp") // 3478
	return s
}

// contestant is a server, the calls through it, and what was measured of it.
type contestant struct {
	*server

	name    string
	calls   []*allocation
	turns   atomic.Uint64 // a packet says of which it is
	back    atomic.Int64  // of this one
	figures []figure
}

func (c *contestant) median(kind func(figure) float64) float64 {
	return middle(len(c.figures), func(i int) float64 { return kind(c.figures[i]) })
}

func middle(n int, of func(i int) float64) float64 {
	values := make([]float64, n)
	for i := range values {
		values[i] = of(i)
	}
	slices.Sort(values)
	return values[n/2]
}

// figure is what one run gave. A packet that comes back was relayed twice.
type figure struct {
	sent, back  int
	used, lasts time.Duration
}

func (f figure) rate() float64   { return 2 * float64(f.back) / f.lasts.Seconds() }
func (f figure) perCPU() float64 { return 2 * float64(f.back) / f.used.Seconds() }
func (f figure) lost() float64   { return 1 - float64(f.back)/float64(f.sent) }

// call opens so many calls, which last until the test ends.
func (c *contestant) call(t *testing.T, echo net.Addr, n int) {
	t.Helper()
	var reading sync.WaitGroup
	t.Cleanup(reading.Wait)
	for range n {
		a := c.mustAllocate(t, "udp", "secret")
		a.mustRelay(t, echo)
		if err := a.relay.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = a.close() }) // ends its reader
		reading.Go(func() { c.count(a) })
		c.calls = append(c.calls, a)
	}
}

// turn has the calls send for so many intervals, and counts what comes back.
func (c *contestant) turn(t *testing.T, echo net.Addr, intervals int) figure {
	t.Helper()
	number := c.turns.Add(1)
	c.back.Store(0)
	packet := make([]byte, packetSize)
	_, _ = rand.Read(packet) // never errs
	binary.BigEndian.PutUint64(packet, number)
	pid := c.pid(t)
	used, began := cpuTime(t, pid), time.Now()
	tick := time.NewTicker(sendEvery)
	defer tick.Stop()
	for range intervals {
		<-tick.C
		for _, a := range c.calls {
			for range packetsEach {
				if _, err := a.relay.WriteTo(packet, echo); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	f := figure{sent: len(c.calls) * intervals * packetsEach, lasts: time.Since(began)}
	for deadline := time.Now().Add(time.Second); int(c.back.Load()) < f.sent && time.Now().Before(deadline); {
		<-tick.C // the last are on their way
	}
	f.used, f.back = cpuTime(t, pid)-used, int(c.back.Load())
	return f
}

// count counts the packets of the turn.
func (c *contestant) count(a *allocation) {
	buffer := make([]byte, 2*packetSize)
	for {
		size, _, err := a.relay.ReadFrom(buffer)
		if err != nil {
			return // closed
		}
		if size == packetSize && binary.BigEndian.Uint64(buffer) == c.turns.Load() {
			c.back.Add(1)
		}
	}
}

func (s *server) pid(t *testing.T) string {
	t.Helper()
	pid := docker(t, "inspect", "--format", "{{.State.Pid}}", s.name)
	name, err := os.ReadFile("/proc/" + pid + "/comm")
	if err != nil || strings.TrimSpace(string(name)) != "turnserver" {
		t.Fatalf("the container's process is %q, %v", name, err)
	}
	return pid
}

// cpuTime is what a process's threads have used of the cores, in its own code and in the kernel, to the nanosecond.
func cpuTime(t *testing.T, pid string) (used time.Duration) {
	t.Helper()
	threads, err := filepath.Glob("/proc/" + pid + "/task/*/schedstat")
	if err != nil || len(threads) == 0 {
		t.Fatalf("no thread of %s: %v", pid, err)
	}
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		if err != nil {
			t.Fatal(err)
		}
		on, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		used += time.Duration(on)
	}
	return used
}
