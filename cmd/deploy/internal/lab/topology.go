package lab

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"secureconnect/cmd/deploy/internal/images"
)

// Options choose a lab.
type Options struct {
	Name     string // of the lab and its inventory
	Topology string // "lab", five servers, or "all-in-one"
	Subnet   string // a /24 in CIDR form
}

// node is one server of a topology: last is the last octet of its address.
type node struct {
	host    string
	last    byte
	release images.Release
}

const (
	topologyFive = "lab"
	topologyOne  = "all-in-one"
	strangerHost = "stranger"
)

// stranger stands outside every inventory: what it can reach, anybody can.
var stranger = node{strangerHost, 99, images.Debian13}

// topologies have the name of the inventory that fits them.
var topologies = map[string][]node{
	topologyFive: {
		{"lb-01", 10, images.Debian13},
		{"app-01", 11, images.Debian13},
		{"app-02", 12, images.Debian12},
		{"db-01", 13, images.Debian13},
		{"storage-01", 14, images.Debian13},
		stranger,
	},
	topologyOne: {
		{"node-01", 10, images.Debian13},
		stranger,
	},
}

// subnets are those of the labs whose inventories are in the repository.
var subnets = map[string]string{topologyFive: "10.89.0.0/24", topologyOne: "10.90.0.0/24"}

// plan is a lab as it shall be: everything derived from Options, nothing done yet.
type plan struct {
	name     string
	topology string
	subnet   netip.Prefix
	nodes    []node
}

var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

func newPlan(o Options) (plan, error) {
	if o.Topology == "" && o.Name == topologyOne {
		o.Topology = topologyOne
	}
	if o.Topology == "" {
		o.Topology = topologyFive
	}
	nodes, known := topologies[o.Topology]
	if !known {
		return plan{}, fmt.Errorf("no topology %q: there are %s and %s", o.Topology, topologyFive, topologyOne)
	}
	if o.Name == "" {
		o.Name = o.Topology
	}
	if !validName.MatchString(o.Name) {
		return plan{}, fmt.Errorf("lab name %q: small letters, digits and hyphens, please", o.Name)
	}
	if o.Subnet == "" {
		o.Subnet = subnets[o.Name]
	}
	if o.Subnet == "" {
		return plan{}, fmt.Errorf("lab %s needs a subnet of its own: --subnet 10.91.0.0/24, for example", o.Name)
	}
	subnet, err := netip.ParsePrefix(o.Subnet)
	if err != nil {
		return plan{}, fmt.Errorf("subnet %q: %w", o.Subnet, err)
	}
	if subnet.Bits() != 24 || !subnet.Addr().Is4() || subnet != subnet.Masked() {
		return plan{}, fmt.Errorf("subnet %q: an IPv4 network of 24 bits, please", o.Subnet)
	}
	if own, given := subnets[o.Name]; given && (own != o.Subnet || o.Name != o.Topology) {
		return plan{}, fmt.Errorf("lab %s has topology %s at %s, as its inventory says: give another --name", o.Name, o.Name, own)
	}
	return plan{name: o.Name, topology: o.Topology, subnet: subnet, nodes: nodes}, nil
}

// prefix is the subnet without its last octet: "10.89.0.".
func prefix(subnet netip.Prefix) string {
	return strings.TrimSuffix(subnet.Addr().String(), "0")
}

func (p plan) address(last byte) string { return fmt.Sprintf("%s%d", prefix(p.subnet), last) }
func (p plan) gateway() string          { return p.address(1) }
func (p plan) network() string          { return resource(p.name) }
func (p plan) container(n node) string  { return resource(p.name, n.host) }
func (p plan) volume(n node) string     { return resource(p.name, n.host, "docker") }

// resource is the engine's name for something of a lab.
func resource(parts ...string) string {
	return strings.Join(append([]string{"secureconnect-lab"}, parts...), "-")
}

func (p plan) releases() []images.Release {
	var all []images.Release
	for _, n := range p.nodes {
		if !slices.Contains(all, n.release) {
			all = append(all, n.release)
		}
	}
	return all
}
