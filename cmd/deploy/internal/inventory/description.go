// Package inventory finds an inventory and reads what Ansible makes of it.
// It never interprets the operator's files itself: the effective values come from Ansible.
package inventory

import (
	"fmt"
	"slices"
)

// Description is the deployment as the playbooks see it, without a secret in it.
type Description struct {
	Name         string `json:"-"`
	Root         string `json:"-"` // the repository on this machine
	InventoryDir string `json:"inventory_dir"`

	PublicDomain  string   `json:"public_domain"`
	EdgeTLS       string   `json:"edge_tls"`
	EdgeWAF       string   `json:"edge_waf"`
	Registration  string   `json:"registration"`
	SQLEngine     string   `json:"sql_engine"`
	RemoteRoot    string   `json:"root"` // the folder on every host, /opt/secureconnect
	LockHost      string   `json:"lock_host"`
	AdminNetworks []string `json:"admin_networks"`

	Groups map[string][]string `json:"groups"`
	Hosts  map[string]Host     `json:"hosts"`
	Ports  []Port              `json:"ports"`
	Names  Names               `json:"names"`

	CAFile      string `json:"ca_file"`
	SecretsFile string `json:"secrets_file"`
	Turn        Turn   `json:"turn"`
	MediaPort   int    `json:"media_port"`
	GatewayPort int    `json:"gateway_port"`
}

// Host is one server and the way to reach it by ssh.
type Host struct {
	Groups        []string `json:"groups"`
	Address       string   `json:"address"`
	PublicAddress string   `json:"public_address"`
	User          string   `json:"user"`
	Port          int      `json:"port"`
	Key           string   `json:"key"`
	SSHArgs       string   `json:"ssh_args"`
}

// Port is one row of the port table: who may reach what.
type Port struct {
	Name  string   `json:"name"`
	Group string   `json:"group"`
	Proto string   `json:"proto"`
	Port  string   `json:"port"` // "443" or "49152-57343"
	From  []string `json:"from"`
}

// Names are the public names below the domain.
type Names struct {
	API   string `json:"api"`
	Chat  string `json:"chat"`
	Files string `json:"files"`
	Turn  string `json:"turn"`
}

// Turn is where coturn is reached and what it relays from.
type Turn struct {
	Port          int    `json:"port"`
	TLSPort       int    `json:"tls_port"`
	RelayMin      int    `json:"relay_min"`
	RelayMax      int    `json:"relay_max"`
	PublicAddress string `json:"public_address"`
	Realm         string `json:"realm"`
}

// HostNames are all hosts in alphabetical order.
func (d *Description) HostNames() []string {
	names := make([]string, 0, len(d.Hosts))
	for name := range d.Hosts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// First is the first host of a group, in the inventory's order.
func (d *Description) First(group string) (string, error) {
	if hosts := d.Groups[group]; len(hosts) > 0 {
		return hosts[0], nil
	}
	return "", fmt.Errorf("inventory %s has no host in the group %s", d.Name, group)
}
