package report

import (
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"secureconnect/cmd/deploy/internal/run"
)

// Report is shown a run from its first step to its result. Its methods may be called from any
// goroutine; Close is the last.
type Report interface {
	// Step names what comes next.
	Step(title string)
	// Hear is told everything Ansible does.
	Hear(event run.Event)
	// Say shows a line that somebody else wrote.
	Say(line string)
	// Close shows how it ended.
	Close(result Result)
}

// For is the report that suits where it is read.
func For(out *os.File, asJSON bool, variables Variables) Report {
	switch {
	case asJSON:
		return newLines(out)
	case term.IsTerminal(int(out.Fd())) && os.Getenv("TERM") != "dumb": // #nosec G115 -- a descriptor is a small number
		return newTerminal(out, time.Now, width(out), variables)
	}
	return newPlain(out, time.Now, variables)
}

func width(out *os.File) func() int {
	return func() int {
		columns, _, err := term.GetSize(int(out.Fd())) // #nosec G115 -- a descriptor is a small number
		if err != nil || columns < 20 {
			return 80
		}
		return columns
	}
}

func newPlain(out io.Writer, now func() time.Time, variables Variables) *plain {
	return &plain{out: out, now: now, began: now(), variables: variables}
}
