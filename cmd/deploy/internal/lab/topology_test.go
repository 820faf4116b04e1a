package lab

import "testing"

func TestNewPlan(t *testing.T) {
	for name, c := range map[string]struct {
		options        Options
		name, gateway  string
		nodes          int
		firstsAddress  string
		firstContainer string
	}{
		"nothing chosen": {Options{}, "lab", "10.89.0.1", 6, "10.89.0.10", "secureconnect-lab-lab-lb-01"},
		"one node, by topology": {Options{Topology: "all-in-one"}, "all-in-one", "10.90.0.1", 2,
			"10.90.0.10", "secureconnect-lab-all-in-one-node-01"},
		"one node, by name": {Options{Name: "all-in-one"}, "all-in-one", "10.90.0.1", 2,
			"10.90.0.10", "secureconnect-lab-all-in-one-node-01"},
		"a lab of one's own": {Options{Name: "mine", Subnet: "192.168.77.0/24"}, "mine", "192.168.77.1", 6,
			"192.168.77.10", "secureconnect-lab-mine-lb-01"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := newPlan(c.options)
			if err != nil {
				t.Fatal(err)
			}
			if p.name != c.name || p.gateway() != c.gateway || len(p.nodes) != c.nodes {
				t.Errorf("plan %+v", p)
			}
			if got := p.address(p.nodes[0].last); got != c.firstsAddress {
				t.Errorf("address %s, want %s", got, c.firstsAddress)
			}
			if got := p.container(p.nodes[0]); got != c.firstContainer {
				t.Errorf("container %s, want %s", got, c.firstContainer)
			}
		})
	}
}

func TestNewPlanRefuses(t *testing.T) {
	for name, o := range map[string]Options{
		"an unknown topology":                    {Topology: "seven"},
		"a name that is a path":                  {Name: "../x", Subnet: "10.91.0.0/24"},
		"a name of capitals":                     {Name: "Test", Subnet: "10.91.0.0/24"},
		"another lab without a subnet":           {Name: "test"},
		"a subnet that is none":                  {Name: "test", Subnet: "ten"},
		"a subnet of another size":               {Name: "test", Subnet: "10.91.0.0/16"},
		"an address instead of a subnet":         {Name: "test", Subnet: "10.91.0.7/24"},
		"IPv6":                                   {Name: "test", Subnet: "fd00::/24"},
		"another subnet under a known name":      {Name: "lab", Subnet: "10.91.0.0/24"},
		"another topology under a known name":    {Name: "lab", Topology: "all-in-one"},
		"the other topology under the one name":  {Name: "all-in-one", Topology: "lab"},
		"another subnet under the all-in-one":    {Name: "all-in-one", Subnet: "10.91.0.0/24"},
		"the five's subnet under the all-in-one": {Name: "all-in-one", Subnet: "10.89.0.0/24"},
	} {
		t.Run(name, func(t *testing.T) {
			if p, err := newPlan(o); err == nil {
				t.Errorf("planned %+v", p)
			}
		})
	}
}
