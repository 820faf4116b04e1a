package verify

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Status says how a check ended.
type Status string

const (
	Passed Status = "passed"
	Failed Status = "failed"
	// Noted is for what an operator should know and what breaks nothing.
	Noted Status = "noted"
)

// Check is one thing the ladder set out to prove.
type Check struct {
	Rung   string `json:"rung"`
	Name   string `json:"name"`
	Status Status `json:"status"`
	Proved string `json:"proved,omitempty"`
	Cause  string `json:"cause,omitempty"`
	Look   string `json:"look,omitempty"`
	Millis int64  `json:"ms"`
}

// Report is everything one run of the ladder found.
type Report struct {
	Inventory string    `json:"inventory"`
	Started   time.Time `json:"started"`
	Millis    int64     `json:"ms"`
	Passed    bool      `json:"passed"`
	Checks    []Check   `json:"checks"`
}

// Failures are the checks that did not hold.
func (r Report) Failures() []Check {
	var failed []Check
	for _, c := range r.Checks {
		if c.Status == Failed {
			failed = append(failed, c)
		}
	}
	return failed
}

// Failure is an error that knows what an operator should look at: a variable, a file or a command.
type Failure struct {
	Cause string
	Look  string
}

func (f *Failure) Error() string { return f.Cause }

// fail says what is wrong and where to look.
func fail(look, cause string, args ...any) error {
	return &Failure{Cause: fmt.Sprintf(cause, args...), Look: look}
}

// note is an "error" that breaks nothing: the check is reported as noted.
type note struct{ text, look string }

func (n *note) Error() string { return n.text }

func noted(look, text string, args ...any) error {
	return &note{text: fmt.Sprintf(text, args...), look: look}
}

// several are failures that one look at the system found together.
type several []*Failure

func (s several) Error() string {
	causes := make([]string, len(s))
	for i, f := range s {
		causes[i] = f.Cause
	}
	return strings.Join(causes, "; ")
}

// maxTold bounds the lines one check may cost: a firewall that is gone fails for a hundred ports.
const maxTold = 8

// verdict turns what a proof returned into checks; look is where to look when the error does not know.
func verdict(name, look, proved string, err error, took time.Duration) []Check {
	c := Check{Name: name, Status: Passed, Proved: proved, Millis: took.Milliseconds()}
	var n *note
	var f *Failure
	var many several
	switch {
	case err == nil:
		return []Check{c}
	case errors.As(err, &n):
		c.Status, c.Proved, c.Look = Noted, n.text, n.look
		return []Check{c}
	case errors.As(err, &many) && len(many) > 0:
		return many.checks(c, look)
	case errors.As(err, &f):
		return several{f}.checks(c, look)
	default:
		return several{{Cause: err.Error()}}.checks(c, look)
	}
}

func (s several) checks(c Check, look string) []Check {
	c.Status, c.Proved = Failed, ""
	var all []Check
	for i, f := range s {
		c.Cause, c.Look = oneLine(f.Cause), f.Look
		if c.Look == "" {
			c.Look = look
		}
		if i == maxTold-1 && len(s) > maxTold {
			c.Cause = fmt.Sprintf("and %d more of this kind, such as: %s", len(s)-i, c.Cause)
			return append(all, c)
		}
		all = append(all, c)
	}
	return all
}

// oneLine keeps what a program said in several lines from tearing the ladder apart.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// narrator writes the ladder as text while it is climbed.
type narrator struct {
	out  io.Writer
	rung string
}

var marks = map[Status]string{Passed: "ok  ", Failed: "FAIL", Noted: "note"}

func (n *narrator) begin(number int, name, promise string) {
	n.rung = name
	_, _ = fmt.Fprintf(n.out, "%d %s: %s\n", number, name, promise)
}

func (n *narrator) tell(c Check) {
	words := c.Proved
	if c.Status == Failed {
		words = c.Cause
	}
	_, _ = fmt.Fprintf(n.out, "  %s %s: %s (%d ms)\n", marks[c.Status], c.Name, words, c.Millis)
	if c.Look != "" {
		_, _ = fmt.Fprintf(n.out, "       look at: %s\n", c.Look)
	}
}

func (n *narrator) end(r Report) {
	seconds := time.Duration(r.Millis) * time.Millisecond
	if failed := len(r.Failures()); failed > 0 {
		_, _ = fmt.Fprintf(n.out, "%d of %d checks failed in %s\n", failed, len(r.Checks), seconds.Round(100*time.Millisecond))
		return
	}
	_, _ = fmt.Fprintf(n.out, "%d checks passed in %s\n", len(r.Checks), seconds.Round(100*time.Millisecond))
}

// WriteJSON writes the report for a machine.
func (r Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Time     string       `xml:"time,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Time     string      `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitFailure `xml:"failure,omitempty"`
	Out     string        `xml:"system-out,omitempty"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// WriteJUnit writes the report for a CI system: a rung is a suite, a check is a case.
func (r Report) WriteJUnit(w io.Writer) error {
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(r.junit()); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (r Report) junit() junitSuites {
	all := junitSuites{Tests: len(r.Checks), Failures: len(r.Failures()), Time: seconds(r.Millis)}
	var spent int64
	for _, c := range r.Checks {
		if n := len(all.Suites); n == 0 || all.Suites[n-1].Name != c.Rung {
			all.Suites, spent = append(all.Suites, junitSuite{Name: c.Rung}), 0
		}
		suite := &all.Suites[len(all.Suites)-1]
		spent += c.Millis
		suite.Tests, suite.Time = suite.Tests+1, seconds(spent)
		one := junitCase{Class: "verify." + c.Rung, Name: c.Name, Time: seconds(c.Millis), Out: c.Proved}
		if c.Status == Failed {
			suite.Failures++
			one.Failure = &junitFailure{Message: c.Cause, Text: "look at: " + c.Look}
		}
		suite.Cases = append(suite.Cases, one)
	}
	return all
}

func seconds(millis int64) string { return fmt.Sprintf("%.3f", float64(millis)/1000) }
