package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"secureconnect/cmd/deploy/internal/inventory"
)

func TestParseListeners(t *testing.T) {
	got := parseListeners(`LISTEN 0      128          0.0.0.0:22         0.0.0.0:*    users:(("sshd",pid=31,fd=3))
LISTEN 0      4096      10.89.0.13:26257      0.0.0.0:*    users:(("docker-proxy",pid=300,fd=4),("docker-proxy",pid=301,fd=4))
LISTEN 0      128             [::]:22            [::]:*    users:(("sshd",pid=31,fd=4))
LISTEN 0      4096       127.0.0.1:9090       0.0.0.0:*
`)
	want := map[int]string{
		22:    "sshd on 0.0.0.0:22, sshd on [::]:22",
		26257: "docker-proxy on 10.89.0.13:26257",
		9090:  "127.0.0.1:9090",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestParseCounters(t *testing.T) {
	got, err := parseCounters([]byte(`{"nftables": [{"metainfo": {"version": "1.1.3"}},
		{"counter": {"family": "inet", "name": "drop_udp_in", "table": "secureconnect", "handle": 4, "packets": 41, "bytes": 1968}},
		{"counter": {"family": "inet", "name": "udp_turn", "table": "secureconnect", "handle": 5, "packets": 0, "bytes": 0}}]}`))
	if want := (tally{"drop_udp_in": 41, "udp_turn": 0}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

// openAndClosed is a port that listens and one that does not.
func openAndClosed(t *testing.T) (listening, closed int) {
	t.Helper()
	kept, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kept.Close() })
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed = portOf(t, gone.Addr())
	_ = gone.Close()
	return portOf(t, kept.Addr()), closed
}

func TestTriers_see_the_same(t *testing.T) {
	listening, closed := openAndClosed(t)
	s := &scan{site: surveyed(t, describedLoopback(), here)}
	doors := []door{at("lb-01", listening), at("db-01", closed)}
	for name, try := range map[string]trier{"this machine": tryHere, "a host's python": s.tryFrom("app-01")} {
		t.Run(name, func(t *testing.T) {
			got, err := try(t.Context(), doors, patience)
			if want := []outcome{open, refused}; err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got %v, %v, want %v", got, err, want)
			}
		})
	}
}

func TestSenders_send_every_datagram_from_a_new_port(t *testing.T) {
	s := &scan{site: surveyed(t, describedLoopback(), here)}
	for _, o := range []observer{fromThisMachine, {name: "app-01"}} {
		t.Run(o.name, func(t *testing.T) {
			sink, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = sink.Close() }()
			to := door{host: "storage-01", address: "127.0.0.1", proto: "udp", port: portOf(t, sink.LocalAddr())}
			if err := s.sender(o)(t.Context(), []door{to}); err != nil {
				t.Fatal(err)
			}
			senders := map[string]bool{}
			buffer := make([]byte, 100)
			for range datagrams {
				_, from, err := sink.ReadFrom(buffer)
				if err != nil {
					t.Fatal(err)
				}
				senders[from.String()] = true
			}
			if len(senders) < datagrams/2 { // a port may be given twice, but not to all
				t.Errorf("%d datagrams came from %d ports", datagrams, len(senders))
			}
		})
	}
}

func TestTryFrom_an_answer_with_a_hole(t *testing.T) {
	var mute shellFunc = func(context.Context, string, io.Reader, ...string) ([]byte, error) { return []byte("[]"), nil }
	s := &scan{site: surveyed(t, describedLoopback(), mute)}
	if got, err := s.tryFrom("app-01")(t.Context(), []door{at("db-01", 1)}, patience); err == nil {
		t.Errorf("got %v and no error", got)
	}
}

func TestJudgeAll_asks_a_silent_door_again(t *testing.T) {
	s := &scan{site: surveyed(t, describedLoopback(), nowhere), table: guide(t), listeners: map[string]map[int]string{}}
	asked := 0
	slow := func(_ context.Context, doors []door, _ time.Duration) ([]outcome, error) {
		asked++
		did := make([]outcome, len(doors))
		for i := range doors {
			did[i] = silent
			if asked == 2 {
				did[i] = open
			}
		}
		return did, nil
	}
	if _, err := s.judgeAll(t.Context(), fromThisMachine, []door{at("lb-01", 443), at("db-01", 26257)}, slow); err != nil {
		t.Error(err)
	}
	if asked != 2 {
		t.Errorf("asked %d times", asked)
	}
}

// network answers scans and counts datagrams as the firewalls of the five hosts would, from the table itself.
type network struct {
	t      *testing.T
	site   *site
	table  table
	mu     sync.Mutex
	counts map[string]tally
	opens  map[string]bool // doors that are open to everybody though the table closes them
}

func (n *network) Run(_ context.Context, host string, _ io.Reader, argv ...string) ([]byte, error) {
	switch argv[0] {
	case "ss":
		return []byte("LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:((\"sshd\",pid=1,fd=3))\nLISTEN 0 128 0.0.0.0:9001 0.0.0.0:* users:((\"minio\",pid=2,fd=3))\n"), nil
	case "nft":
		return n.list(host)
	case "python3":
		return n.scan(host, argv[2])
	}
	return nil, errors.New("no such program")
}

func (n *network) list(host string) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var items []any
	for name, packets := range n.counts[host] {
		items = append(items, map[string]any{"counter": map[string]any{"name": name, "packets": packets}})
	}
	return json.Marshal(map[string]any{"nftables": items})
}

func (n *network) scan(host, encoded string) ([]byte, error) {
	var p plan
	if err := json.Unmarshal([]byte(encoded), &p); err != nil {
		return nil, err
	}
	from := n.table.inside(host, n.site.Hosts[host].Address)
	for _, target := range p.UDP {
		n.count(from, n.door(target, "udp"), p.Datagrams)
	}
	rows := [][3]any{}
	for _, target := range p.TCP {
		d := n.door(target, "tcp")
		did := silent
		if _, admitted := n.table.admitting(from, d); admitted || n.opens[d.String()] {
			did = open
		}
		rows = append(rows, [3]any{d.address, d.port, did})
	}
	return json.Marshal(rows)
}

func (n *network) door(target [2]any, proto string) door {
	address, _ := target[0].(string)
	port, _ := target[1].(float64)
	for name, h := range n.site.Hosts {
		if h.Address == address {
			return door{host: name, address: address, proto: proto, port: int(port)}
		}
	}
	n.t.Errorf("scan of %s, which is no host", address)
	return door{}
}

func (n *network) count(from observer, d door, packets int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	counter := counterDropped
	if entry, admitted := n.table.admitting(from, d); admitted || n.opens[d.String()] {
		counter = counterPrefix + entry.Name
	}
	n.counts[d.host][counter] += packets
}

// newNetwork is the guide's five hosts, at addresses of their own.
func newNetwork(t *testing.T) *network {
	t.Helper()
	desc := describedLoopback()
	desc.Hosts = map[string]inventory.Host{}
	n := &network{t: t, table: guide(t), counts: map[string]tally{}, opens: map[string]bool{}}
	for i, name := range []string{"lb-01", "app-01", "app-02", "db-01", "storage-01"} {
		address := fmt.Sprintf("10.89.0.%d", 10+i)
		desc.Hosts[name] = inventory.Host{Address: address, PublicAddress: address}
		n.counts[name] = tally{counterDropped: 0}
	}
	desc.Ports = n.table.ports
	n.site = surveyed(t, desc, n)
	return n
}

func (n *network) scanFrom(host string) error {
	s := &scan{site: n.site, table: n.table}
	if _, err := s.findListeners(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
	_, err := s.fromInside(n.t.Context(), n.table.inside(host, n.site.Hosts[host].Address))
	return err
}

func TestScan_from_every_group(t *testing.T) {
	n := newNetwork(t)
	s := &scan{site: n.site, table: n.table}
	var names []string
	for _, o := range s.insiders() {
		names = append(names, o.name)
		if err := n.scanFrom(o.name); err != nil {
			t.Errorf("from %s: %v", o.name, err)
		}
	}
	if got := strings.Join(names, " "); got != "lb-01 app-01 db-01 storage-01" {
		t.Errorf("scanned from %s", got)
	}
}

func TestScan_finds_an_open_console_and_who_opened_it(t *testing.T) {
	n := newNetwork(t)
	n.opens["storage-01:9001/tcp"] = true
	err := n.scanFrom("db-01")
	checks := verdict("tcp", "", "", err, 0)
	if len(checks) != 1 || checks[0].Cause != "storage-01:9001/tcp is open to db-01, whom no entry admits; there listens minio on 0.0.0.0:9001" {
		t.Errorf("got %+v", checks)
	}
}

func TestSendAndCount(t *testing.T) {
	for name, c := range map[string]struct {
		opens string
		look  string
	}{
		"closed as the table says":       {"", ""},
		"media that takes anybody":       {"app-02:10000/udp", "no entry of port_table"},
		"a port that nobody should know": {"db-01:40999/udp", "no entry of port_table"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork(t)
			n.opens[c.opens] = c.opens != ""
			s := &scan{site: n.site, table: n.table}
			before, err := s.readCounters(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.sendAndCount(t.Context(), n.table.inside("lb-01", "10.89.0.10"), before)
			got := verdict("udp", "", "", err, 0)[0]
			if c.look == "" && got.Status != Passed || c.look != "" && !strings.Contains(got.Look, c.look) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestReadCounters_without_a_firewall(t *testing.T) {
	s := &scan{site: surveyed(t, describedLoopback(), nowhere)}
	_, err := s.readCounters(t.Context())
	if c := verdict("udp", "", "", err, 0)[0]; !strings.HasPrefix(c.Look, "systemctl status secureconnect-firewall on ") {
		t.Errorf("got %+v", c)
	}
}

func TestUnopened_is_no_port_of_the_table(t *testing.T) {
	s := &scan{table: guide(t)}
	s.table.ports = append(s.table.ports, inventory.Port{Name: "wide", Group: "all", Proto: "udp", Port: "30000-" + strconv.Itoa(60000)})
	if got := s.unopened("db-01"); got != 29999 {
		t.Errorf("got %d", got)
	}
}
