package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// inventoryFiles are what a generated inventory takes over. Secrets and certificates are made
// anew for every lab.
var inventoryFiles = []string{"hosts.yml", "group_vars/secureconnect.yml"}

// writeInventory gives a lab that has none in the repository its own, made from the topology's.
func (l *lab) writeInventory() error {
	if _, err := os.Stat(filepath.Join(l.root, "inventories", l.name)); err == nil {
		return nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("look for inventory %s: %w", l.name, err)
	}
	for _, file := range inventoryFiles {
		from := filepath.Join(l.root, "inventories", l.topology, file)
		text, err := os.ReadFile(from) // #nosec G304 -- a file of the repository
		if err != nil {
			return fmt.Errorf("generate inventory: %w", err)
		}
		to := filepath.Join(l.dir(), "inventory", file)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return fmt.Errorf("generate inventory: %w", err)
		}
		if err := writeFile(to, moved(string(text), l.plan), 0o600); err != nil {
			return err
		}
	}
	l.say("inventory: -i " + l.name)
	return nil
}

// moved is the text of the topology's own inventory for a lab of another name and subnet.
func moved(text string, p plan) string {
	own := strings.TrimSuffix(subnets[p.topology], "0/24")
	return strings.NewReplacer(
		own, prefix(p.subnet),
		".build/lab/"+p.topology+"/", ".build/lab/"+p.name+"/",
	).Replace(text)
}
