// Package hosts knows the lines of /etc/hosts that make a deployment's names lead to it, and puts
// them there and takes them away again. Everything else in the file stays as it was.
package hosts

import (
	"fmt"
	"strings"

	"secureconnect/cmd/deploy/internal/inventory"
)

// Lines are the hosts lines of a deployment: the names of the load balancer, and TURN's.
func Lines(d *inventory.Description) ([]string, error) {
	lb, err := address(d, "lb")
	if err != nil {
		return nil, err
	}
	turn := d.Turn.PublicAddress
	if turn == "" {
		if turn, err = address(d, "storage"); err != nil {
			return nil, err
		}
	}
	return []string{
		fmt.Sprintf("%s %s %s %s", lb, d.Names.API, d.Names.Chat, d.Names.Files),
		fmt.Sprintf("%s %s", turn, d.Names.Turn),
	}, nil
}

func address(d *inventory.Description, group string) (string, error) {
	name, err := d.First(group)
	if err != nil {
		return "", err
	}
	host := d.Hosts[name]
	if host.PublicAddress != "" {
		return host.PublicAddress, nil
	}
	return host.Address, nil
}

// Edit gives the content of a hosts file with the block of the domain replaced by lines; no lines
// remove the block. Two deployments of one domain share one block, since a name leads to one place.
func Edit(content, domain string, lines []string) string {
	begin, end := "# begin secureconnect "+domain, "# end secureconnect "+domain
	var kept []string
	block := -1 // where the first of our blocks stood
	inside := false
	for line := range strings.Lines(content) {
		switch bare := strings.TrimSpace(line); {
		case bare == begin:
			inside = true
			if block < 0 {
				block = len(kept)
			}
		case inside && bare == end:
			inside = false
		case !inside:
			kept = append(kept, line)
		}
	}
	if inside {
		// The end is missing: somebody edited the block, and what follows may be theirs.
		return Edit(strings.Replace(content, begin, "# was: secureconnect "+domain, 1), domain, lines)
	}
	if len(lines) == 0 {
		return strings.Join(kept, "")
	}
	if block < 0 {
		block = len(kept)
	}
	before := strings.Join(kept[:block], "")
	if before != "" && !strings.HasSuffix(before, "\n") {
		before += "\n"
	}
	ours := begin + "\n" + strings.Join(lines, "\n") + "\n" + end + "\n"
	return before + ours + strings.Join(kept[block:], "")
}
