package report

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"secureconnect/cmd/deploy/internal/exit"
	"secureconnect/cmd/deploy/internal/run"
)

// story is a play on two hosts in which one changes something and one fails.
var story = []run.Event{
	{Event: "play", Play: "2. Database", Hosts: []string{"db-01", "db-02"}},
	{Event: "start", Play: "2. Database", Host: "db-01", Task: "SQL runs"},
	{Event: "start", Play: "2. Database", Host: "db-02", Task: "SQL runs"},
	{Event: "result", Play: "2. Database", Host: "db-01", Task: "SQL runs", Status: "changed", Duration: 1.5},
	{Event: "result", Play: "2. Database", Host: "db-02", Task: "SQL runs", Status: "failed", Duration: 2,
		Msg: "sql_port 26257 is in use\x1b[2J", Detail: "bind: address in use"},
	{Event: "stats", Host: "db-01", Stats: &run.Stats{OK: 1, Changed: 1}},
	{Event: "stats", Host: "db-02", Stats: &run.Stats{Failures: 1}},
	{Event: "end"},
}

func tell(r Report) Result {
	tally := NewTally()
	r.Step("The hosts are brought to the described state")
	for _, event := range story {
		tally.Note(event)
		r.Hear(event)
	}
	result := Result{
		Event: "result", Inventory: "lab", What: "apply", Seconds: 4, Code: exit.Failed, Error: "ansible-playbook ended with status 2",
		Hosts: tally.Hosts(), Failures: tally.Failures(), Log: "/runs/1/ansible.log",
	}
	r.Close(result)
	return result
}

func midnight() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

var named = Variables{"sql_port": "group_vars/all/ports.yml", "addresses": "group_vars/all/addresses.yml"}

const end = `
✗ db-02 · SQL runs
    sql_port 26257 is in use[2J
    │ bind: address in use
    look at: sql_port (group_vars/all/ports.yml)

   host  ok  changed  failed  seconds
  db-01   0        1       0      1.5
  db-02   0        0       1      2.0

Failed: apply of lab after 4s, 1 changed
The whole log: /runs/1/ansible.log
`

func TestPlain(t *testing.T) {
	var out strings.Builder
	tell(newPlain(&out, midnight, named))
	want := `0:00 == The hosts are brought to the described state
0:00 -- 2. Database
0:00 db-01: SQL runs: changed (1.5 s)
0:00 db-02: SQL runs: failed: sql_port 26257 is in use[2J
` + end
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

// What stays on the screen of a terminal is what was printed after the last time the live lines
// were drawn over.
func TestTerminal(t *testing.T) {
	var out strings.Builder
	terminal := newTerminal(&out, midnight, func() int { return 60 }, named)
	tell(terminal)
	screen := replay(out.String())
	for _, line := range []string{"The hosts are brought to the described state",
		"  ✗ db-02 · SQL runs: sql_port 26257 is in use[2J",
		"  ✗ 2. Database  2 tasks · 1 changed · 0s"} {
		if !slices.Contains(screen, line) {
			t.Errorf("%q is not on the screen:\n%s", line, strings.Join(screen, "\n"))
		}
	}
	if got := strings.Join(screen, "\n") + "\n"; !strings.HasSuffix(got, end) {
		t.Errorf("the screen ends with\n%s", got)
	}
	if strings.Count(strings.Join(screen, "\n"), "db-01") != 1 {
		t.Errorf("a live line stayed on the screen:\n%s", strings.Join(screen, "\n"))
	}
}

// replay is a terminal that knows the sequences the report uses, and forgets colours.
func replay(output string) []string {
	screen, row := []string{""}, 0
	for output != "" {
		switch {
		case strings.HasPrefix(output, "\x1b["):
			stop := strings.IndexAny(output[2:], "AJKm") + 2
			number, command := output[2:stop], output[stop]
			output = output[stop+1:]
			switch command {
			case 'A':
				for range int(number[0] - '0') {
					row--
				}
			case 'J':
				screen = append(slices.Clone(screen[:row]), "")
			case 'K':
				screen[row] = ""
			}
			continue
		case output[0] == '\n':
			if row++; row == len(screen) {
				screen = append(screen, "")
			}
			output = output[1:]
			continue
		}
		next := strings.IndexAny(output, "\x1b\n")
		if next < 0 {
			next = len(output)
		}
		screen[row] += output[:next]
		output = output[next:]
	}
	return screen[:row]
}

func TestJSON(t *testing.T) {
	var out strings.Builder
	want := tell(newLines(&out))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != len(story)+2 {
		t.Fatalf("%d lines", len(lines))
	}
	for _, line := range lines {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
	var last Result
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.Code != want.Code || len(last.Hosts) != 2 {
		t.Errorf("%+v, %v", last, err)
	}
}

func TestClosing(t *testing.T) {
	rescued := []Failure{{Host: "db-01", Task: "An attempt", Msg: "no"}}
	for name, c := range map[string]struct {
		result  Result
		has     string
		without string
	}{
		"a success says nothing of rescued failures": {
			Result{What: "apply", Inventory: "lab", Code: exit.OK, Failures: rescued}, "Done: apply of lab in 0s, nothing changed", "An attempt"},
		"a failure outside of any task is told": {
			Result{Code: exit.Failed, Error: "build sql: no engine"}, "✗ build sql: no engine", "Done"},
		"a cancel invites to run it again": {
			Result{What: "apply", Inventory: "lab", Code: exit.Cancelled, Error: "context canceled"}, "running it again finishes it", "context canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			got := closing(c.result, nil, ink{})
			if !strings.Contains(got, c.has) || strings.Contains(got, c.without) {
				t.Errorf("got\n%s", got)
			}
		})
	}
}

func TestNamedIn(t *testing.T) {
	for message, want := range map[string]string{
		"sql_port must be free":              "sql_port",
		"the addresses are wrong":            "",
		"addresses: lb-01 has none":          "addresses",
		"set `addresses`, then sql_port":     "addresses sql_port",
		"my_sql_port sql_port_2 and sqlport": "",
	} {
		var got []string
		for _, variable := range named.NamedIn(message) {
			got = append(got, variable.Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q names %v, want %q", message, got, want)
		}
	}
}

func TestWriter(t *testing.T) {
	var lines []string
	w := &Writer{Say: func(line string) { lines = append(lines, line) }}
	for _, part := range []string{"one\ntw", "o\n", "\nhalf"} {
		if n, err := w.Write([]byte(part)); err != nil || n != len(part) {
			t.Errorf("%d, %v", n, err)
		}
	}
	if !slices.Equal(lines, []string{"one", "two", ""}) {
		t.Errorf("%q", lines)
	}
}
