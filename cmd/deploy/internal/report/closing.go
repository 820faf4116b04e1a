package report

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"secureconnect/cmd/deploy/internal/exit"
)

// closing is the end of every human report: what failed and where to look, a table, one line.
func closing(result Result, variables Variables, paint ink) string {
	var b strings.Builder
	if result.Code != exit.OK {
		for _, failure := range result.Failures {
			writeFailure(&b, failure, variables, paint)
		}
		if len(result.Failures) == 0 && result.Code != exit.Cancelled {
			writeError(&b, result.Error, paint)
		}
	}
	writeTable(&b, result.Hosts)
	took := time.Duration(result.Seconds * float64(time.Second)).Round(100 * time.Millisecond)
	changed := 0
	for _, host := range result.Hosts {
		changed += host.Changed
	}
	switch result.Code {
	case exit.OK:
		fmt.Fprintf(&b, "%s %s of %s in %s, %s\n", paint.green("Done:"), result.What, result.Inventory, took, changes(changed))
	case exit.Cancelled:
		fmt.Fprintf(&b, "%s %s of %s after %s; running it again finishes it\n", paint.red("Cancelled:"), result.What, result.Inventory, took)
	default:
		fmt.Fprintf(&b, "%s %s of %s after %s, %s\n", paint.red("Failed:"), result.What, result.Inventory, took, changes(changed))
	}
	if result.Code != exit.OK && result.Log != "" {
		fmt.Fprintf(&b, "The whole log: %s\n", result.Log)
	}
	return b.String()
}

func writeFailure(b *strings.Builder, failure Failure, variables Variables, paint ink) {
	fmt.Fprintf(b, "\n%s %s · %s\n", paint.red("✗"), paint.bold(failure.Host), clean(failure.Task))
	for line := range strings.Lines(failure.Msg) {
		fmt.Fprintf(b, "    %s\n", clean(line))
	}
	for line := range strings.Lines(failure.Detail) {
		fmt.Fprintf(b, "    %s\n", paint.dim("│ "+clean(line)))
	}
	for _, variable := range variables.NamedIn(failure.Msg) {
		fmt.Fprintf(b, "    look at: %s (%s)\n", variable.Name, variable.File)
	}
}

// writeError is for what went wrong outside of any task.
func writeError(b *strings.Builder, message string, paint ink) {
	for line := range strings.Lines(message) {
		fmt.Fprintf(b, "%s %s\n", paint.red("✗"), clean(line))
	}
}

func writeTable(b *strings.Builder, hosts []Host) {
	if len(hosts) == 0 {
		return
	}
	b.WriteString("\n")
	table := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(table, "host\tok\tchanged\tfailed\tseconds\t")
	for _, host := range hosts {
		_, _ = fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%.1f\t\n", host.Name, host.OK, host.Changed, host.Failed, host.Seconds)
	}
	_ = table.Flush()
	b.WriteString("\n")
}

func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func changes(n int) string {
	if n == 0 {
		return "nothing changed"
	}
	return fmt.Sprintf("%d changed", n)
}

func clock(d time.Duration) string {
	seconds := int(d.Seconds())
	return fmt.Sprintf("%d:%02d", seconds/60, seconds%60)
}
