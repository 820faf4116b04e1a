//go:build lab

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestFigures measures a running system (`make lab`) and changes nothing on it.
func TestFigures(t *testing.T) {
	name := os.Getenv("FIGURES_OF")
	if name == "" {
		return // TestFiveServers measures its own
	}
	reachesFigures(t, &system{root: repository(t), name: name, hosts: []string{"lb-01", "app-01", "app-02", "db-01", "storage-01"}})
}

// pings is the reference of the same run: n ping tasks on the same five hosts.
func pings(t *testing.T, s *system, n int) time.Duration {
	t.Helper()
	playbook := filepath.Join(t.TempDir(), "pings.yml")
	text := "- hosts: secureconnect\n  gather_facts: false\n  tasks:\n" + strings.Repeat("    - ansible.builtin.ping:\n", n)
	if err := os.WriteFile(playbook, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// The addresses of the hosts are in the variables beside site.yml.
	r := s.playbook(t, playbook, "-e", "project_root="+s.root, "-e", "@"+filepath.Join(s.root, "group_vars/all/addresses.yml"), "-e", "@"+filepath.Join(s.inventory(), "group_vars/secureconnect.yml"))
	if r.code != 0 {
		t.Fatalf("ping playbook: exit %d\n%s%s", r.code, tail(r.stdout, 20), tail(r.stderr, 20))
	}
	return r.took
}

// attempts is how often a time is measured where other work on the machine disturbs it; the last one counts.
const attempts = 3

func reachesFigures(t *testing.T, s *system) {
	var idle idleApply
	for range attempts {
		if idle = measureIdleApply(t, s); idle.seconds <= 75 && idle.ratio <= 1.5 {
			break
		}
	}
	check(t, "apply that changes nothing, seconds", idle.seconds, 75)
	check(t, "tasks on the longest host", float64(idle.tasks), 100)
	check(t, "ratio to start + tasks x ping", idle.ratio, 1.5)

	for _, part := range []struct {
		what string
		only []string
		most float64
	}{
		{"deploy verify of edges, ports, login and call, seconds", []string{"--only", "edges,ports,login,call"}, 25},
		{"deploy verify, seconds", nil, 40},
	} {
		var took float64
		for range attempts {
			if took = s.mustDeploy(t, append([]string{"verify", "-i", s.name}, part.only...)...).took.Seconds(); took <= part.most {
				break
			}
		}
		check(t, part.what, took, part.most)
	}

	for _, host := range []string{"app-01", "app-02"} {
		for _, service := range []string{"gateway", "auth", "chat", "video"} {
			pid := strings.TrimSpace(s.mustOn(t, host, "docker", "inspect", "--format", "{{.State.Pid}}", "app-"+service+"-1"))
			resident := func() float64 { return residentMiB(t, s.mustOn(t, host, "cat", "/proc/"+pid+"/status")) }
			eventually(t, time.Minute, host+" "+service+" comes to rest after the ladder's logins", func() error {
				if now := resident(); now > 40 {
					return fmt.Errorf("%.1f MiB resident", now)
				}
				return nil
			})
			check(t, host+" "+service+" at rest, MiB resident", resident(), 40)
		}
	}
	size, err := strconv.ParseFloat(strings.TrimSpace(s.mustOn(t, "app-01", "sh", "-c",
		`docker image inspect --format '{{.Size}}' "$(docker inspect --format '{{.Image}}' app-gateway-1)"`)), 64)
	if err != nil {
		t.Fatal(err)
	}
	check(t, "service image, MiB", size/(1<<20), 40)

	var total float64
	for _, host := range s.hosts {
		for line := range strings.Lines(s.mustOn(t, host, "sh", "-c", "cat /proc/[0-9]*/status 2>/dev/null | grep VmRSS || true")) {
			total += kib(line) / 1024
		}
	}
	check(t, "the five nodes, MiB resident", total, 8*1024)
}

// idleApply is an apply that changes nothing, beside its reference: the start of a run and a ping for every task.
type idleApply struct {
	seconds, ratio float64
	tasks          int // on the longest host
}

func measureIdleApply(t *testing.T, s *system) idleApply {
	t.Helper()
	one := pings(t, s, 1)
	many := pings(t, s, 21)
	task := (many - one) / 20
	start := one - task

	r := s.playbook(t, "site.yml", "-e", "deploy_runs_verify=true")
	longest := 0
	for host, n := range r.recap(t) {
		if n.changed != 0 {
			t.Errorf("%s changed %d things while being measured", host, n.changed)
		}
		longest = max(longest, n.ok)
	}
	bound := start + time.Duration(longest)*task
	m := idleApply{seconds: r.took.Seconds(), ratio: r.took.Seconds() / bound.Seconds(), tasks: longest}
	t.Logf("apply that changes nothing: %.1f s, %d tasks on the longest host, a ping task on the five takes %.2f s: %.2f of start + tasks x ping",
		m.seconds, m.tasks, task.Seconds(), m.ratio)
	return m
}

func check(t *testing.T, what string, got, most float64) {
	t.Helper()
	t.Logf("%-45s %8.1f  (at most %g)", what, got, most)
	if got > most {
		t.Errorf("%s: %.1f is more than %g", what, got, most)
	}
}

var vmRSS = regexp.MustCompile(`VmRSS:\s+(\d+) kB`)

func kib(text string) float64 {
	m := vmRSS.FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	n, _ := strconv.ParseFloat(m[1], 64)
	return n
}

func residentMiB(t *testing.T, status string) float64 {
	t.Helper()
	n := kib(status)
	if n == 0 {
		t.Fatalf("no VmRSS in\n%s", status)
	}
	return n / 1024
}
