package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"
)

// UDP does not say whether it arrived: silence may be a closed door, an open one or a lost packet. So
// datagrams are sent and the target's own firewall is asked which rule counted them.
const (
	// datagrams to each door; fewer would drown in what a network says by itself.
	datagrams = 20

	counterDropped = "drop_udp_in"
	counterPrefix  = "udp_" // and the name of the table's entry
)

// tally is a host's counters by name.
type tally map[string]int

// climbUDP lets one observer after the other send, and reads the counters between them.
func (s *scan) climbUDP(ctx context.Context, p *proofs) {
	var before map[string]tally
	reading := func(ctx context.Context) (string, error) {
		var err error
		before, err = s.readCounters(ctx)
		return "read before the first datagram", err
	}
	if !p.prove(ctx, "udp counters", "nft list table inet secureconnect", reading) {
		return
	}
	for _, o := range append([]observer{fromThisMachine}, s.insiders()...) {
		p.prove(ctx, "udp from "+o.name, "nft list counters table inet secureconnect", func(ctx context.Context) (string, error) {
			return s.sendAndCount(ctx, o, before)
		})
	}
}

// firewallsLoaded asks every host, and names each that has none.
func (s *scan) firewallsLoaded(ctx context.Context) (string, error) {
	counted, err := s.readCounters(ctx)
	return fmt.Sprintf("%d hosts have theirs loaded, and it counts what it drops", len(counted)), err
}

// sendAndCount sends from o and judges the rise since before, which it brings up to date. A network may
// lose datagrams, so a round that falls short is repeated once.
func (s *scan) sendAndCount(ctx context.Context, o observer, before map[string]tally) (string, error) {
	doors := s.udpDoors(o)
	send := s.sender(o)
	var wrong several
	for range 2 {
		if err := send(ctx, doors); err != nil {
			return "", err
		}
		after, err := s.readCounters(ctx)
		if err != nil {
			return "", err
		}
		wrong = nil
		for _, host := range s.HostNames() {
			wrong = append(wrong, s.table.judgeUDP(o, host, doors, before[host], after[host])...)
			before[host] = after[host]
		}
		if len(wrong) == 0 {
			return s.udpWords(o, doors), nil
		}
	}
	return "", wrong
}

func (s *scan) udpWords(o observer, doors []door) string {
	let := []string{}
	for _, d := range doors {
		if entry, admitted := s.table.admitting(o, d); admitted {
			let = append(let, entry.Name+" of "+d.host)
		}
	}
	if len(let) == 0 {
		return fmt.Sprintf("%d datagrams to each of %d ports, all dropped", datagrams, len(doors))
	}
	return fmt.Sprintf("%d datagrams to each of %d ports: let in at %s, dropped elsewhere", datagrams, len(doors), listing(let))
}

// udpDoors are every UDP entry of every other host, and one port that nobody opened.
func (s *scan) udpDoors(o observer) []door {
	var doors []door
	for _, host := range s.HostNames() {
		if host == o.name {
			continue
		}
		address := s.Hosts[host].Address
		doors = append(doors, door{host: host, address: address, proto: "udp", port: s.unopened(host)})
		for _, p := range s.table.ports {
			if _, high, err := portRange(p.Port); err == nil && p.Proto == "udp" && s.table.covers(p, host) {
				doors = append(doors, door{host: host, address: address, proto: "udp", port: high})
			}
		}
	}
	return doors
}

// unopened is a UDP port of host that no entry names.
func (s *scan) unopened(host string) int {
	port := 40999
	for len(s.table.entries(door{host: host, proto: "udp", port: port})) > 0 {
		port--
	}
	return port
}

func (s *scan) sender(o observer) func(context.Context, []door) error {
	if o.name == fromThisMachine.name {
		return sendHere
	}
	return func(ctx context.Context, doors []door) error {
		_, err := s.runScanner(ctx, o.name, plan{UDP: targets(doors), Datagrams: datagrams})
		return err
	}
}

// sendHere sends from a new source port every time: connection tracking must not take the second datagram
// for a follower of the first.
func sendHere(ctx context.Context, doors []door) error {
	var dialer net.Dialer
	for _, d := range doors {
		for range datagrams {
			conn, err := dialer.DialContext(ctx, "udp", net.JoinHostPort(d.address, strconv.Itoa(d.port)))
			if err != nil {
				return fmt.Errorf("send to %s: %w", d, err)
			}
			_, err = conn.Write([]byte("secureconnect verify"))
			_ = conn.Close()
			if err != nil {
				return fmt.Errorf("send to %s: %w", d, err)
			}
		}
	}
	return nil
}

// readCounters asks every host's firewall at once.
func (s *scan) readCounters(ctx context.Context) (map[string]tally, error) {
	all := map[string]tally{}
	var wrong several
	var mu sync.Mutex
	var g errgroup.Group
	for _, host := range s.HostNames() {
		g.Go(func() error {
			counted, problem := s.counters(ctx, host)
			mu.Lock()
			defer mu.Unlock()
			if problem != nil {
				wrong = append(wrong, problem)
				return nil
			}
			all[host] = counted
			return nil
		})
	}
	_ = g.Wait() // problems are collected
	if len(wrong) > 0 {
		return nil, wrong
	}
	return all, nil
}

// counters asks one host's firewall.
func (s *site) counters(ctx context.Context, host string) (tally, *Failure) {
	out, err := s.shell.Run(ctx, host, nil, "nft", "-j", "list", "counters", "table", "inet", "secureconnect")
	if err != nil {
		return nil, &Failure{Cause: fmt.Sprintf("the firewall of %s is not loaded: %v", host, err), Look: "systemctl status secureconnect-firewall on " + host}
	}
	counted, err := parseCounters(out)
	if err != nil {
		return nil, &Failure{Cause: fmt.Sprintf("the counters of %s cannot be read: %v", host, err)}
	}
	if _, ok := counted[counterDropped]; !ok {
		return nil, &Failure{Cause: fmt.Sprintf("the firewall of %s has no counter %s", host, counterDropped), Look: "roles/firewall"}
	}
	return counted, nil
}

// parseCounters reads `nft -j list counters`.
func parseCounters(out []byte) (tally, error) {
	var document struct {
		Nftables []struct {
			Counter *struct {
				Name    string `json:"name"`
				Packets int    `json:"packets"`
			} `json:"counter"`
		} `json:"nftables"`
	}
	if err := json.Unmarshal(out, &document); err != nil {
		return nil, err
	}
	counted := tally{}
	for _, item := range document.Nftables {
		if item.Counter != nil {
			counted[item.Counter.Name] = item.Counter.Packets
		}
	}
	return counted, nil
}

// judgeUDP holds the rise of a host's counters against what the table says of the doors that o sent to.
func (t table) judgeUDP(o observer, host string, doors []door, before, after tally) several {
	wanted := map[string]int{}
	var counters []string
	first := map[string]door{}
	for _, d := range doors {
		if d.host != host {
			continue
		}
		counter := counterDropped
		if entry, admitted := t.admitting(o, d); admitted {
			counter = counterPrefix + entry.Name
		}
		if wanted[counter] += datagrams; wanted[counter] == datagrams {
			counters, first[counter] = append(counters, counter), d
		}
	}
	var wrong several
	for _, counter := range counters {
		if rise := after[counter] - before[counter]; rise < wanted[counter] {
			d := first[counter]
			wrong = append(wrong, &Failure{
				Cause: fmt.Sprintf("%s sent %d datagrams to %s that %s of %s should have counted; it counted %d", o.name, wanted[counter], d, counter, host, rise),
				Look:  t.source(d) + "; nft list table inet secureconnect on " + host,
			})
		}
	}
	return wrong
}
