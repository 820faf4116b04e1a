//go:build lab

package e2e

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The story of five servers, in order: each act starts where the one before it ended, so a failed act ends the story.
func TestFiveServers(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "test", "lab", "10.91.0", "lb-01", "app-01", "app-02", "db-01", "storage-01")
	for _, act := range []struct {
		name string
		play func(*testing.T, *system)
	}{
		{"a wrong variable is refused by name before anything is touched", refusesWrongVariables},
		{"check mode changes nothing on untouched hosts", checksUntouchedHosts},
		{"apply ends with a green ladder", applies},
		{"a person logs in with a browser", logsInWithBrowser},
		{"two people talk with browsers, one on each app host", talksWithBrowsers},
		{"the stranger finds only the public ports", strangerFindsPublicPorts},
		{"the TURN server relays to the app hosts and to nothing else", relaysToAppHostsOnly},
		{"a browser is relayed over UDP, TCP and TLS", relaysForBrowsers},
		{"a broken relay ends an apply, and is named", testsRelay},
		{"no secret is in a process, a container, a log or a run folder", leaksNoSecret},
		{"a second apply changes nothing and restarts nothing", changesNothing},
		{"both entry points see the same variables", entryPointsAgree},
		{"a file edited by hand is repaired", repairsEditedFile},
		{"a lost secrets file is asked for", asksForLostSecrets},
		{"two applies do not meet", locks},
		{"a cancelled apply is finished by the next", cancels},
		{"the WAF refuses attacks and lets people talk", switchesWAF},
		{"login works with app-01 stopped", survivesStoppedApp},
		{"no acknowledged message is lost, doubled or out of order under faults", keepsHistoryUnderFaults},
		{"calls come back from what breaks them", survivesBrokenCalls},
		{"every node restarted, verify is green", survivesRestarts},
		{"the figures are reached", reachesFigures},
	} {
		if !t.Run(act.name, func(t *testing.T) { act.play(t, s) }) {
			t.FailNow()
		}
	}
}

// One server carries every group: the same plays, the same proof. It is over long before the five are measured.
func TestAllInOne(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "test-one", "all-in-one", "10.94.0", "node-01")
	s.mustDeploy(t, "apply", "-i", s.name)
	s.mustDeploy(t, "verify", "-i", s.name)
	changesNothing(t, s)
	rotatesTURNSecret(t, s)
}

func refusesWrongVariables(t *testing.T, s *system) {
	for _, mistake := range []struct{ line, named string }{
		{`edge_wfa: "off"`, "edge_waf"},
		{`edge_waf: loud`, "edge_waf"},
		{`sql_engine: cockroachdb`, "sql_engine"},
		{`gateway_port: "many"`, "gateway_port"},
		{`admin_networks: [not-a-network]`, "admin_networks"},
	} {
		t.Run(mistake.line, func(t *testing.T) {
			r := s.playbookWithVariable(t, mistake.line)
			if r.code == 0 {
				t.Fatalf("accepted")
			}
			if text := r.stdout + r.stderr; !strings.Contains(text, mistake.named) {
				t.Errorf("the message does not name %s:\n%s", mistake.named, tail(text, 30))
			}
			if r.took > 15*time.Second {
				t.Errorf("took %s, want at most 15s", r.took.Round(time.Second))
			}
		})
	}
}

// playbookWithVariable runs site.yml with one more line in the operator's file, and puts the file back.
func (s *system) playbookWithVariable(t *testing.T, line string) result {
	t.Helper()
	file := filepath.Join(s.inventory(), "group_vars/secureconnect.yml")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.WriteFile(file, before, 0o600); err != nil {
			t.Fatal(err)
		}
	}()
	name, _, _ := strings.Cut(line, ":")
	kept := regexp.MustCompile(`(?m)^`+name+`:.*(\n[ -].*)*\n?`).ReplaceAllString(string(before), "")
	if err := os.WriteFile(file, []byte(kept+"\n"+line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return s.playbook(t, "site.yml")
}

func checksUntouchedHosts(t *testing.T, s *system) {
	for _, host := range s.hosts {
		s.mustOn(t, host, "touch", "/var/marker")
	}
	r := s.playbook(t, "site.yml", "--check", "--diff")
	if r.code != 0 {
		t.Fatalf("exit %d\n%s\n%s", r.code, tail(r.stdout, 60), tail(r.stderr, 20))
	}
	for _, host := range s.hosts {
		newer := s.mustOn(t, host, "find", "/etc", "/opt", "/usr", "/root", "/var", "-xdev", "-newer", "/var/marker", "-type", "f",
			"-not", "-path", "/var/log/*", "-not", "-path", "/root/.ansible/*", "-not", "-path", "/var/lib/systemd/*", "-not", "-path", "/var/cache/*")
		if newer != "" {
			t.Errorf("check mode wrote on %s:\n%s", host, newer)
		}
	}
}

func applies(t *testing.T, s *system) {
	r := s.mustDeploy(t, "apply", "-i", s.name)
	t.Logf("first apply with verify: %s", r.took.Round(time.Second))
	t.Log(tail(r.stdout, 60))
}

func changesNothing(t *testing.T, s *system) {
	before := s.containers(t)
	r := s.playbook(t, "site.yml")
	if r.code != 0 {
		t.Fatalf("exit %d\n%s\n%s", r.code, tail(r.stdout, 60), tail(r.stderr, 20))
	}
	for host, n := range r.recap(t) {
		if n.changed != 0 {
			t.Errorf("%s: changed=%d\n%s", host, n.changed, r.changes())
		}
	}
	if restarted := sortedDifference(before, s.containers(t)); len(restarted) > 0 {
		t.Errorf("containers were restarted:\n%s", strings.Join(restarted, "\n"))
	}
}

func entryPointsAgree(t *testing.T, s *system) {
	variables := func(directory string) map[string]any {
		r := s.must(t, filepath.Join(s.root, ".venv/bin/ansible-inventory"), "-i", s.inventory(), "--list", "--playbook-dir", directory)
		var listed struct {
			Meta struct {
				Hostvars map[string]map[string]any `json:"hostvars"`
			} `json:"_meta"`
		}
		decode(t, r.stdout, &listed)
		flat := map[string]any{}
		for host, vars := range listed.Meta.Hostvars {
			for name, value := range vars {
				flat[host+" "+name] = fmt.Sprint(value)
			}
		}
		return flat
	}
	site, operations := variables(s.root), variables(filepath.Join(s.root, "deployment"))
	if len(site) < 50 {
		t.Fatalf("only %d variables were read", len(site))
	}
	if !maps.Equal(site, operations) {
		t.Error("site.yml and the playbooks in deployment/ see different variables")
	}
	tasks := func(playbook string) string {
		_, listed, _ := strings.Cut(s.must(t, filepath.Join(s.root, ".venv/bin/ansible-playbook"), "-i", s.inventory(), "--list-tasks", playbook).stdout, "\n\n")
		return strings.TrimSpace(listed)
	}
	if one, other := tasks("site.yml"), tasks("deployment/ansible-playbook.yml"); one != other || !strings.Contains(one, "TAGS") {
		t.Errorf("the two entry points run different tasks:\n%s\n---\n%s", one, other)
	}
}

func repairsEditedFile(t *testing.T, s *system) {
	const file = "/opt/secureconnect/lb/nginx/nginx.conf"
	s.mustOn(t, "lb-01", "sh", "-c", "echo '# edited by hand' >> "+file)
	edited := s.mustOn(t, "lb-01", "sha256sum", file)

	r := s.playbook(t, "site.yml", "--check")
	if n := r.recap(t)["lb-01"]; n.changed == 0 || r.code != 0 {
		t.Errorf("check mode did not announce the repair: %+v\n%s", n, tail(r.stdout, 30))
	}
	if now := s.mustOn(t, "lb-01", "sha256sum", file); now != edited {
		t.Error("check mode repaired the file")
	}
	r = s.playbook(t, "site.yml")
	for host, n := range r.recap(t) {
		if (n.changed > 0) != (host == "lb-01") || n.failed > 0 {
			t.Errorf("%s: %+v\n%s", host, n, r.changes())
		}
	}
	if found := s.on(t, "lb-01", "grep", "-c", "edited by hand", file); found.code == 0 {
		t.Error("the edit is still there")
	}
}

func asksForLostSecrets(t *testing.T, s *system) {
	file := filepath.Join(s.inventory(), "secrets.yml")
	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.Rename(file+".away", file); err != nil {
			t.Fatal(err)
		}
	}()
	r := s.deploy(t, "apply", "-i", s.name)
	if r.code != 3 {
		t.Errorf("exit %d, want 3 (preflight)", r.code)
	}
	if text := r.stdout + r.stderr; !strings.Contains(text, "secrets.yml") {
		t.Errorf("the message does not name the file:\n%s", tail(text, 30))
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("new secrets were made over a system that has some")
	}
}

// startApply begins an apply and returns when it holds the lock.
func (s *system) startApply(t *testing.T) *exec.Cmd {
	t.Helper()
	apply := s.start(t, "apply", "-i", s.name, "--no-verify")
	eventually(t, 60*time.Second, "the apply takes the lock", func() error {
		if r := s.on(t, "lb-01", "test", "-e", "/run/secureconnect-lock/owner.json"); r.code != 0 {
			return fmt.Errorf("no lock on lb-01")
		}
		return nil
	})
	return apply
}

func locks(t *testing.T, s *system) {
	first := s.startApply(t)
	second := s.deploy(t, "apply", "-i", s.name, "--no-verify")
	if second.code != 5 {
		t.Errorf("the second apply: exit %d, want 5 (locked)\n%s", second.code, tail(second.stdout+second.stderr, 20))
	}
	if err := first.Wait(); err != nil {
		t.Errorf("the first apply: %v", err)
	}
	if r := s.on(t, "lb-01", "test", "-e", "/run/secureconnect-lock"); r.code == 0 {
		t.Error("the lock is still there")
	}
}

func cancels(t *testing.T, s *system) {
	first := s.startApply(t)
	asked := time.Now()
	if err := first.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait() // the exit code is judged below
	if code := first.ProcessState.ExitCode(); code != 130 {
		t.Errorf("exit %d, want 130", code)
	}
	if took := time.Since(asked); took > 25*time.Second {
		t.Errorf("it took %s to stop", took.Round(time.Second))
	}
	s.mustDeploy(t, "apply", "-i", s.name, "--no-verify")
}

func survivesStoppedApp(t *testing.T, s *system) {
	s.mustOn(t, "app-01", "docker", "compose", "--project-directory", "/opt/secureconnect/app", "-f", "/opt/secureconnect/app/compose.yml", "stop")
	defer s.mustOn(t, "app-01", "docker", "compose", "--project-directory", "/opt/secureconnect/app", "-f", "/opt/secureconnect/app/compose.yml", "start")
	person := s.newPerson(t, "app-02")
	for i := range 5 {
		if served := person.login(t); served != "app-02" {
			t.Errorf("login %d was served by %q", i, served)
		}
	}
}

func survivesRestarts(t *testing.T, s *system) {
	before := map[string]string{}
	for _, host := range []string{"storage-01", "lb-01", "app-01", "app-02", "db-01"} {
		before[host] = s.bootID(t, host)
		s.must(t, "docker", "restart", "--time", "20", s.node(host))
	}
	for _, host := range slices.Sorted(maps.Keys(before)) {
		if s.bootID(t, host) == before[host] {
			t.Errorf("%s was not restarted", host)
		}
	}
	eventually(t, 4*time.Minute, "every container is healthy again", func() error {
		for host := range before {
			if sick := s.on(t, host, "docker", "ps", "--all", "--format", "{{.Names}} {{.Status}}", "--filter", "health=starting", "--filter", "health=unhealthy"); sick.code != 0 || sick.stdout != "" {
				return fmt.Errorf("%s: %s%s", host, sick.stdout, sick.stderr)
			}
			if running := s.on(t, host, "docker", "ps", "--quiet"); running.stdout == "" {
				return fmt.Errorf("%s: no container runs", host)
			}
		}
		return nil
	})
	eventually(t, time.Minute, "verify is green after every node restarted", func() error {
		if r := s.deploy(t, "verify", "-i", s.name); r.code != 0 {
			return fmt.Errorf("exit %d\n%s", r.code, tail(r.stdout, 30))
		}
		return nil
	})
	changesNothing(t, s)
}

// bootID tells one boot of a node from the next: when its first process started.
func (s *system) bootID(t *testing.T, host string) string {
	t.Helper()
	return s.must(t, "docker", "inspect", "--format", "{{.State.StartedAt}}", s.node(host)).stdout
}
