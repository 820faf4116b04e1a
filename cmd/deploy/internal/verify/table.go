package verify

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"secureconnect/cmd/deploy/internal/inventory"
)

// outcome is what a door did when it was tried.
type outcome string

const (
	open    outcome = "open"
	refused outcome = "refused" // the host answered that nothing listens: no firewall was in the way
	silent  outcome = "silent"
)

// observer is where a door is tried from.
type observer struct {
	name   string
	groups []string
	admin  bool
}

// door is a TCP or UDP port of a host.
type door struct {
	host    string
	address string
	proto   string
	port    int
	outside bool // an address that may lie behind somebody else's firewall, which may close more than ours
}

func (d door) String() string { return fmt.Sprintf("%s:%d/%s", d.host, d.port, d.proto) }

// table is the port table with the hosts it speaks of.
type table struct {
	ports  []inventory.Port
	groups map[string][]string // group → hosts
	admins []netip.Prefix
	plain  bool // edge_tls is off, so nothing need listen for https
}

func newTable(d *inventory.Description) (table, error) {
	t := table{ports: d.Ports, groups: d.Groups, plain: d.EdgeTLS == "off"}
	for _, network := range d.AdminNetworks {
		prefix, err := parsePrefix(network)
		if err != nil {
			return t, fail("admin_networks", "%q is no network", network)
		}
		t.admins = append(t.admins, prefix)
	}
	for _, p := range d.Ports {
		if _, _, err := portRange(p.Port); err != nil {
			return t, fail("port_table in group_vars/all/ports.yml", "entry %s: %v", p.Name, err)
		}
	}
	return t, nil
}

func parsePrefix(network string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(network); err == nil {
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	return netip.ParsePrefix(network)
}

// portRange reads "443" and "49152-57343".
func portRange(text string) (low, high int, err error) {
	first, last, isRange := strings.Cut(text, "-")
	if low, err = strconv.Atoi(first); err != nil {
		return 0, 0, fmt.Errorf("port %q is no number", text)
	}
	if !isRange {
		return low, low, nil
	}
	if high, err = strconv.Atoi(last); err != nil {
		return 0, 0, fmt.Errorf("port range %q has no end", text)
	}
	return low, high, nil
}

// inside is a host of the inventory as an observer.
func (t table) inside(host, address string) observer {
	o := observer{name: host}
	for group, hosts := range t.groups {
		if slices.Contains(hosts, host) {
			o.groups = append(o.groups, group)
		}
	}
	slices.Sort(o.groups)
	at, err := netip.ParseAddr(address)
	o.admin = err == nil && slices.ContainsFunc(t.admins, func(p netip.Prefix) bool { return p.Contains(at) })
	return o
}

// entries are the rows that speak of a door.
func (t table) entries(d door) []inventory.Port {
	var found []inventory.Port
	for _, p := range t.ports {
		low, high, err := portRange(p.Port)
		if err == nil && p.Proto == d.proto && low <= d.port && d.port <= high && t.covers(p, d.host) {
			found = append(found, p)
		}
	}
	return found
}

func (t table) covers(p inventory.Port, host string) bool {
	return p.Group == "all" || slices.Contains(t.groups[p.Group], host)
}

func (t table) admits(p inventory.Port, o observer) bool {
	return slices.ContainsFunc(p.From, func(from string) bool {
		return from == "everyone" || from == "admin" && o.admin || slices.Contains(o.groups, from)
	})
}

// admitting is the row that lets o reach d, if there is one.
func (t table) admitting(o observer, d door) (inventory.Port, bool) {
	for _, p := range t.entries(d) {
		if t.admits(p, o) {
			return p, true
		}
	}
	return inventory.Port{}, false
}

// judge holds what a TCP door did against the table: nil where it is as promised.
func (t table) judge(o observer, d door, did outcome, listener string) *Failure {
	entry, admitted := t.admitting(o, d)
	switch {
	case admitted && did == open, !admitted && did == silent:
		return nil
	case d.outside && did != open:
		return nil
	case admitted && did == refused && t.plain && entry.Name == "https":
		return nil
	case admitted && did == refused:
		return &Failure{
			Cause: fmt.Sprintf("%s: %s may reach it (entry %s), but nothing listens", d, o.name, entry.Name),
			Look:  "docker compose ps on " + d.host,
		}
	case admitted:
		return &Failure{
			Cause: fmt.Sprintf("%s: %s may reach it (entry %s), but gets no answer", d, o.name, entry.Name),
			Look:  t.source(d) + "; nft list table inet secureconnect on " + d.host,
		}
	case did == refused:
		return &Failure{
			Cause: fmt.Sprintf("%s: nothing listens, but the firewall let %s through to find that out", d, o.name),
			Look:  t.source(d) + "; nft list table inet secureconnect on " + d.host,
		}
	default:
		return &Failure{
			Cause: fmt.Sprintf("%s is open to %s, whom no entry admits; there listens %s", d, o.name, listener),
			Look:  t.source(d) + "; nft list table inet secureconnect on " + d.host,
		}
	}
}

// source is the variable that decides about a door.
func (t table) source(d door) string {
	entries := t.entries(d)
	if len(entries) == 0 {
		return "no entry of port_table in group_vars/all/ports.yml names it"
	}
	if slices.Contains(entries[0].From, "admin") {
		return "admin_networks"
	}
	return fmt.Sprintf("the entry %s (from %s) of port_table in group_vars/all/ports.yml", entries[0].Name, listing(entries[0].From))
}
