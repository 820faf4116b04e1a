// Package report tells what a run does while it does it, and what came of it.
// It only listens: nothing it does or fails to do changes a run.
package report

import (
	"slices"
	"time"

	"secureconnect/cmd/deploy/internal/exit"
	"secureconnect/cmd/deploy/internal/run"
)

// Tally adds the events up.
type Tally struct {
	hosts    map[string]*Host
	failures []Failure
}

// Host is what happened on one host.
type Host struct {
	Name    string  `json:"host"`
	OK      int     `json:"ok"`
	Changed int     `json:"changed"`
	Failed  int     `json:"failed"`
	Seconds float64 `json:"seconds"`
}

// Failure is one task that failed on one host, or a host that could not be reached.
type Failure struct {
	Host   string `json:"host"`
	Play   string `json:"play"`
	Task   string `json:"task"`
	Msg    string `json:"msg"`
	Detail string `json:"detail,omitempty"`
}

// Result is how a run ended, as result.json and as the last line of --json.
type Result struct {
	Event     string    `json:"event"` // always "result"
	Run       string    `json:"run"`
	Inventory string    `json:"inventory"`
	What      string    `json:"what"`
	Started   time.Time `json:"started"`
	Seconds   float64   `json:"seconds"`
	Code      exit.Code `json:"code"`
	Error     string    `json:"error,omitempty"`
	Hosts     []Host    `json:"hosts"`
	Failures  []Failure `json:"failures,omitempty"`
	Log       string    `json:"log"`
}

// NewTally starts at nothing.
func NewTally() *Tally { return &Tally{hosts: make(map[string]*Host)} }

// Note adds one event.
func (t *Tally) Note(event run.Event) {
	if event.Event == "stats" && event.Stats != nil {
		// Ansible's last word: it knows which failures were rescued.
		host := t.host(event.Host)
		host.OK = event.Stats.OK - event.Stats.Changed
		host.Changed = event.Stats.Changed
		host.Failed = event.Stats.Failures + event.Stats.Unreachable
		return
	}
	if event.Event != "result" {
		return
	}
	host := t.host(event.Host)
	host.Seconds += event.Duration
	switch event.Status {
	case "ok", "ignored":
		host.OK++
	case "changed":
		host.Changed++
	case "failed", "unreachable":
		host.Failed++
		t.failures = append(t.failures, Failure{
			Host: event.Host, Play: event.Play, Task: event.Task, Msg: event.Msg, Detail: event.Detail,
		})
	}
}

func (t *Tally) host(name string) *Host {
	host, ok := t.hosts[name]
	if !ok {
		host = &Host{Name: name}
		t.hosts[name] = host
	}
	return host
}

// Hosts are the counts by host, in alphabetical order.
func (t *Tally) Hosts() []Host {
	hosts := make([]Host, 0, len(t.hosts))
	for _, host := range t.hosts {
		hosts = append(hosts, *host)
	}
	slices.SortFunc(hosts, func(a, b Host) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return hosts
}

// Failures are the failed tasks in the order they failed. In a run that succeeded they were rescued.
func (t *Tally) Failures() []Failure { return t.failures }
