package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

const repository = "../../../.."

func TestGeneratedInventory(t *testing.T) {
	for _, topology := range []string{topologyFive, topologyOne} {
		t.Run(topology, func(t *testing.T) {
			p, err := newPlan(Options{Name: "test", Topology: topology, Subnet: "10.91.0.0/24"})
			if err != nil {
				t.Fatal(err)
			}
			l := &lab{plan: p, root: copyInventories(t), say: func(string) {}}
			if err := l.writeInventory(); err != nil {
				t.Fatal(err)
			}
			checkAddresses(t, l)
			hosts := read(t, filepath.Join(l.dir(), "inventory/hosts.yml"))
			if !strings.Contains(hosts, ".build/lab/test/id_ed25519") || strings.Contains(hosts, ".build/lab/"+topology+"/") {
				t.Errorf("keys of another lab in\n%s", hosts)
			}
		})
	}
}

// checkAddresses compares the inventory's addresses with those the servers get.
func checkAddresses(t *testing.T, l *lab) {
	t.Helper()
	text := read(t, filepath.Join(l.dir(), "inventory/group_vars/secureconnect.yml"))
	var vars struct {
		Addresses map[string]string `yaml:"addresses"`
	}
	if err := yaml.Unmarshal([]byte(text), &vars); err != nil {
		t.Fatal(err)
	}
	if len(vars.Addresses) != len(l.nodes)-1 {
		t.Errorf("%d addresses for %d servers and a stranger", len(vars.Addresses), len(l.nodes)-1)
	}
	for _, n := range l.nodes {
		if got := vars.Addresses[n.host]; n.host != strangerHost && got != l.address(n.last) {
			t.Errorf("%s at %q in the inventory, at %s in the lab", n.host, got, l.address(n.last))
		}
	}
	if strings.Contains(text, strings.TrimSuffix(subnets[l.topology], "0/24")) {
		t.Errorf("addresses of another lab in\n%s", text)
	}
}

func TestInventoryOfTheRepositoryIsLeftAlone(t *testing.T) {
	p, err := newPlan(Options{})
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{plan: p, root: copyInventories(t), say: func(string) {}}
	if err := l.writeInventory(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(l.dir(), "inventory")); !os.IsNotExist(err) {
		t.Errorf("a second inventory for the lab: %v", err)
	}
}

// copyInventories is a repository with inventories and nothing else.
func copyInventories(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, topology := range []string{topologyFive, topologyOne} {
		for _, file := range inventoryFiles {
			to := filepath.Join(root, "inventories", topology, file)
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(to, []byte(read(t, filepath.Join(repository, "inventories", topology, file))), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return root
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
