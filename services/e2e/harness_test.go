//go:build lab

// Package e2e drives a running system from outside, as an operator and as a user.
// It makes labs of its own beside `make lab`'s and takes them away again.
package e2e

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// system is one lab under test: its name is also its inventory's.
type system struct {
	root   string // the repository
	name   string
	prefix string // the first three octets of its network
	hosts  []string
}

// result is what a finished command left behind.
type result struct {
	code   int
	stdout string
	stderr string
	took   time.Duration
}

// testTimeout bounds any one command; the longest is a first apply.
const testTimeout = 15 * time.Minute

func repository(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "site.yml")); err != nil {
		t.Fatalf("the repository's root is not at %s: %v", root, err)
	}
	return root
}

// newSystem brings up a fresh lab and removes it when the test ends.
// KEEP_LAB=1 keeps the lab of a failed test, and REUSE_LAB=1 goes on in one that was kept: for working on one act.
func newSystem(t *testing.T, name, topology, prefix string, hosts ...string) *system {
	t.Helper()
	s := &system{root: repository(t), name: name, prefix: prefix, hosts: hosts}
	if os.Getenv("REUSE_LAB") != "" {
		return s
	}
	s.mustDeploy(t, "lab", "down", "--name", name)
	s.prefix = s.freePrefix(t)
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("KEEP_LAB") != "" {
			t.Logf("the lab %s is kept: bin/deploy lab down --name %s removes it", name, name)
			return
		}
		s.mustDeploy(t, "lab", "down", "--name", name)
	})
	s.mustDeploy(t, "lab", "up", "--name", name, "--topology", topology, "--subnet", s.prefix+".0/24")
	return s
}

// freePrefix is the system's own, or the next one that no other network of this machine's engine has.
func (s *system) freePrefix(t *testing.T) string {
	t.Helper()
	ids := strings.Fields(s.must(t, "docker", "network", "ls", "--quiet", "--filter", "driver=bridge").stdout)
	taken := s.must(t, "docker", append([]string{"network", "inspect", "--format", "{{range .IPAM.Config}}{{.Subnet}} {{end}}"}, ids...)...).stdout
	base := strings.TrimSuffix(s.prefix, "0")
	for i := range 256 {
		if prefix := base + strconv.Itoa(i); !strings.Contains(taken, prefix+".") {
			return prefix
		}
	}
	t.Fatalf("every network of %s0.0/16 is taken:\n%s", base, taken)
	return ""
}

func (s *system) run(t *testing.T, stdin io.Reader, name string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	if t.Context().Err() != nil { // a cleanup runs after the test's own context has ended
		ctx, cancel = context.WithTimeout(context.Background(), testTimeout)
	}
	defer cancel()
	var stdout, stderr bytes.Buffer
	command := exec.CommandContext(ctx, name, args...)
	command.Dir, command.Stdin, command.Stdout, command.Stderr = s.root, stdin, &stdout, &stderr
	command.Env = append(os.Environ(), "ANSIBLE_CONFIG="+filepath.Join(s.root, "ansible.cfg"), "ANSIBLE_NOCOLOR=1")
	start := time.Now()
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return result{command.ProcessState.ExitCode(), stdout.String(), stderr.String(), time.Since(start)}
}

func (s *system) must(t *testing.T, name string, args ...string) result {
	t.Helper()
	r := s.run(t, nil, name, args...)
	if r.code != 0 {
		t.Fatalf("%s %s: exit %d after %s\n%s\n%s", filepath.Base(name), strings.Join(args, " "), r.code, r.took.Round(time.Second), tail(r.stdout, 80), tail(r.stderr, 40))
	}
	return r
}

func (s *system) deploy(t *testing.T, args ...string) result {
	t.Helper()
	return s.run(t, nil, filepath.Join(s.root, "bin/deploy"), args...)
}

// start begins a deploy command and leaves it running, in a process group of its own.
func (s *system) start(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	command := exec.CommandContext(t.Context(), filepath.Join(s.root, "bin/deploy"), args...)
	command.Dir = s.root
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	return command
}

func (s *system) mustDeploy(t *testing.T, args ...string) result {
	t.Helper()
	return s.must(t, filepath.Join(s.root, "bin/deploy"), args...)
}

// node names the container that plays a host.
func (s *system) node(host string) string { return "secureconnect-lab-" + s.name + "-" + host }

// on runs a command on a node, or on the stranger.
func (s *system) on(t *testing.T, host string, argv ...string) result {
	t.Helper()
	return s.deploy(t, append([]string{"lab", "run", "--name", s.name, host, "--"}, argv...)...)
}

func (s *system) mustOn(t *testing.T, host string, argv ...string) string {
	t.Helper()
	return s.mustDeploy(t, append([]string{"lab", "run", "--name", s.name, host, "--"}, argv...)...).stdout
}

func (s *system) inventory() string {
	generated := filepath.Join(s.root, ".build/lab", s.name, "inventory")
	if _, err := os.Stat(generated); err == nil {
		return generated
	}
	return filepath.Join(s.root, "inventories", s.name)
}

// playbook runs ansible-playbook as an operator would by hand.
func (s *system) playbook(t *testing.T, playbook string, args ...string) result {
	t.Helper()
	all := append([]string{playbook, "-i", s.inventory()}, args...)
	return s.run(t, nil, filepath.Join(s.root, ".venv/bin/ansible-playbook"), all...)
}

var recapLine = regexp.MustCompile(`(?m)^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)`)

func (s *system) authorityFile() string { return filepath.Join(s.inventory(), "pki/ca.crt") }

// authority is the certificate of the system's own CA.
func (s *system) authority(t *testing.T) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(s.authorityFile())
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("pki/ca.crt is not PEM")
	}
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func (s *system) roots(t *testing.T) *x509.CertPool {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(s.authority(t))
	return roots
}

// recap is what Ansible's closing lines say of one host.
type recap struct{ ok, changed, unreachable, failed int }

func (r result) recap(t *testing.T) map[string]recap {
	t.Helper()
	hosts := map[string]recap{}
	for _, m := range recapLine.FindAllStringSubmatch(r.stdout, -1) {
		var n [4]int
		for i := range n {
			n[i], _ = strconv.Atoi(m[i+2])
		}
		hosts[m[1]] = recap{n[0], n[1], n[2], n[3]}
	}
	if len(hosts) == 0 {
		t.Fatalf("Ansible printed no recap:\n%s\n%s", tail(r.stdout, 60), tail(r.stderr, 20))
	}
	return hosts
}

// changes lists the tasks that changed something, for a message that helps.
func (r result) changes() string {
	var task string
	var lines []string
	for line := range strings.Lines(r.stdout) {
		switch {
		case strings.HasPrefix(line, "TASK ["), strings.HasPrefix(line, "RUNNING HANDLER ["):
			task = strings.TrimSpace(line)
		case strings.HasPrefix(line, "changed: "):
			lines = append(lines, task+" "+strings.TrimSpace(line))
		}
	}
	return strings.Join(lines, "\n")
}

// containers maps host/container to the moment it was started.
func (s *system) containers(t *testing.T) map[string]string {
	t.Helper()
	started := map[string]string{}
	for _, host := range s.hosts {
		out := s.mustOn(t, host, "sh", "-c", `docker inspect --format '{{.Name}} {{.State.StartedAt}}' $(docker ps -q)`)
		for line := range strings.Lines(out) {
			if name, at, found := strings.Cut(strings.TrimSpace(line), " "); found {
				started[host+name] = at
			}
		}
	}
	if len(started) == 0 {
		t.Fatal("no container runs on any host")
	}
	return started
}

// eventually asks until the answer is yes, or fails with the last reason.
func eventually(t *testing.T, within time.Duration, what string, ask func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		<-tick.C
	}
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, tail(text, 20))
	}
}

func sortedDifference(before, after map[string]string) []string {
	var changed []string
	for name, at := range after {
		if before[name] != at {
			changed = append(changed, fmt.Sprintf("%s: %s, was %s", name, at, before[name]))
		}
	}
	for name := range before {
		if _, still := after[name]; !still {
			changed = append(changed, name+": gone")
		}
	}
	slices.Sort(changed)
	return changed
}
