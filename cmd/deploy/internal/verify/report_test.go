package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"
)

func mixed() Report {
	return Report{
		Inventory: "lab", Started: time.Unix(1700000000, 0).UTC(), Millis: 1240,
		Checks: []Check{
			{Rung: "edges", Name: "names", Status: Noted, Proved: "api.example.test is unknown to this machine", Look: "deploy hosts --write", Millis: 2},
			{Rung: "edges", Name: "redirect", Status: Passed, Proved: "http sends readers to https", Millis: 11},
			{Rung: "login", Name: "login on app-01", Status: Failed, Cause: "login: 503 <store>", Look: "deploy status", Millis: 30},
		},
	}
}

func TestNarrator_tells_cause_and_place(t *testing.T) {
	var out bytes.Buffer
	n := narrator{out: &out}
	n.begin(1, "edges", "what the public names answer")
	for _, c := range mixed().Checks {
		n.tell(c)
	}
	n.end(mixed())
	want := `1 edges: what the public names answer
  note names: api.example.test is unknown to this machine (2 ms)
       look at: deploy hosts --write
  ok   redirect: http sends readers to https (11 ms)
  FAIL login on app-01: login: 503 <store> (30 ms)
       look at: deploy status
1 of 3 checks failed in 1.2s
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestWriteJSON_reads_back(t *testing.T) {
	var out bytes.Buffer
	if err := mixed().WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	var got Report
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, mixed()) {
		t.Errorf("got %+v", got)
	}
}

func TestWriteJUnit(t *testing.T) {
	var out bytes.Buffer
	if err := mixed().WriteJUnit(&out); err != nil {
		t.Fatal(err)
	}
	var got junitSuites
	if err := xml.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Tests != 3 || got.Failures != 1 || len(got.Suites) != 2 {
		t.Fatalf("got %+v", got)
	}
	login := got.Suites[1]
	if login.Name != "login" || login.Tests != 1 || login.Failures != 1 || login.Time != "0.030" {
		t.Errorf("got %+v", login)
	}
	if f := login.Cases[0].Failure; f == nil || f.Message != "login: 503 <store>" || f.Text != "look at: deploy status" {
		t.Errorf("got %+v", f)
	}
	if got.Suites[0].Cases[0].Failure != nil {
		t.Error("a note became a failure")
	}
}

func TestVerdict(t *testing.T) {
	wrapped := fmt.Errorf("relay: %w", fail("relay_port_min", "out of range"))
	for name, c := range map[string]struct {
		err  error
		want Check
	}{
		"proof":           {nil, Check{Status: Passed, Proved: "it holds"}},
		"note":            {noted("deploy hosts", "unknown"), Check{Status: Noted, Proved: "unknown", Look: "deploy hosts"}},
		"own place":       {wrapped, Check{Status: Failed, Cause: "out of range", Look: "relay_port_min"}},
		"place of check":  {fail("", "wrong"), Check{Status: Failed, Cause: "wrong", Look: "the logs"}},
		"any other error": {errors.New("broken pipe"), Check{Status: Failed, Cause: "broken pipe", Look: "the logs"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.want.Name, c.want.Millis = "check", 7
			got := verdict("check", "the logs", "it holds", c.err, 7*time.Millisecond)
			if len(got) != 1 || got[0] != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestVerdict_many_failures_are_told_in_few_lines(t *testing.T) {
	var many several
	for port := range 100 {
		many = append(many, &Failure{Cause: fmt.Sprint(port), Look: "port_table"})
	}
	got := verdict("tcp", "", "", many, 0)
	if len(got) != maxTold {
		t.Fatalf("told in %d lines", len(got))
	}
	if last := got[maxTold-1].Cause; last != "and 93 more of this kind, such as: 7" {
		t.Errorf("ends with %q", last)
	}
}

func TestLadder_tells_rungs_in_order_though_they_overlap(t *testing.T) {
	second := make(chan struct{})
	rungs := []rung{
		{1, "slow", "", "", func(ctx context.Context, _ *site, p *proofs) {
			<-second // proves that the rungs overlap
			p.prove(ctx, "a", "", func(context.Context) (string, error) { return "first", nil })
		}},
		{2, "quick", "", "", func(ctx context.Context, _ *site, p *proofs) {
			p.prove(ctx, "b", "", func(context.Context) (string, error) { return "", errors.New("wrong") })
			close(second)
		}},
		{3, "last", "", "slow", func(ctx context.Context, _ *site, p *proofs) {
			p.prove(ctx, "c", "", func(context.Context) (string, error) { return "third", nil })
		}},
	}
	var out bytes.Buffer
	report := climb(t.Context(), nil, rungs, &out)
	var order []string
	for _, c := range report.Checks {
		order = append(order, c.Rung+"/"+c.Name)
	}
	if want := []string{"slow/a", "quick/b", "last/c"}; !reflect.DeepEqual(order, want) {
		t.Errorf("told %v, want %v", order, want)
	}
	if report.Passed {
		t.Error("it passed")
	}
}

func TestTogether_keeps_the_order_of_steps(t *testing.T) {
	made := make(chan Check, 4)
	p := &proofs{rung: "r", made: made}
	second := make(chan struct{})
	held := p.together(t.Context(),
		step{"a", "", func(context.Context) (string, error) { <-second; return "", nil }},
		step{"b", "", func(context.Context) (string, error) { close(second); return "", nil }})
	if first := (<-made).Name; first != "a" || !held {
		t.Errorf("told %s first, held %v", first, held)
	}
}

func TestChosen(t *testing.T) {
	for name, c := range map[string]struct {
		only []string
		want []string
	}{
		"all":                   {nil, []string{"edges", "ports", "login", "authorization", "chat", "call", "blind"}},
		"by name and by number": {[]string{"7", "login"}, []string{"login", "call"}},
	} {
		t.Run(name, func(t *testing.T) {
			rungs, err := chosen(c.only)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range rungs {
				got = append(got, r.name)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
	if rungs, err := chosen([]string{"carrier pigeon"}); err == nil {
		t.Errorf("an unknown rung chose %d", len(rungs))
	}
}

func TestRun_refuses_an_inventory_with_a_hole(t *testing.T) {
	desc := describedLoopback()
	desc.Groups["storage"] = nil
	_, err := Run(t.Context(), desc, Options{Shell: nowhere})
	if c := verdict("", "", "", err, 0)[0]; c.Look != "inventories/test/hosts.yml" {
		t.Errorf("looks at %q", c.Look)
	}
}
