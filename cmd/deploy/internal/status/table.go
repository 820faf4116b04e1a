package status

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Print writes the hosts for a person.
func Print(w io.Writer, hosts []Host) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "HOST\tCONTAINER\tSTATE\tIMAGE\tSINCE")
	for _, host := range hosts {
		name := host.Name
		for _, line := range hostLines(host) {
			_, _ = fmt.Fprintf(table, "%s\t%s\n", name, line)
			name = ""
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, host := range hosts {
		if host.Err != nil {
			_, _ = fmt.Fprintf(w, "%s: %s\n", host.Name, host.Error)
		}
		if host.Audit != "" {
			_, _ = fmt.Fprintf(w, "%s last changed: %s\n", host.Name, host.Audit)
		}
	}
	return nil
}

func hostLines(host Host) []string {
	var lines []string
	if host.Err != nil {
		lines = append(lines, "unknown\t\t\t") // the reason stands below
	}
	for _, c := range host.Containers {
		state := c.State
		if c.Health != "" {
			state = c.Health
		}
		image := c.Image
		if !c.Current {
			image += " (not the one built last)"
		}
		lines = append(lines, fmt.Sprintf("%s\t%s\t%s\t%s", c.Name, state, image, c.Status))
	}
	if len(lines) == 0 && host.Err == nil {
		lines = append(lines, "none\t\t\t")
	}
	if host.UpSeconds > 0 {
		lines = append(lines, fmt.Sprintf("host up %s\t\t\t", up(host.UpSeconds)))
	}
	return lines
}

// up is a length of time as people say it: 3d4h, 2h10m, 5m.
func up(seconds int64) string {
	d := time.Duration(seconds) * time.Second
	switch {
	case d >= 24*time.Hour:
		return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dm", int(d.Minutes()))
}
