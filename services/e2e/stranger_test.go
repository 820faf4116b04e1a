//go:build lab

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// scanner prints "host port" for every TCP port of the hosts in argv that takes a connection.
const scanner = `
import asyncio, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
async def probe(host, port, gate):
    async with gate:
        try:
            _, w = await asyncio.wait_for(asyncio.open_connection(host, port), 1.5)
            w.close()
            print(host, port)
        except (OSError, asyncio.TimeoutError):
            pass
async def main():
    gate = asyncio.Semaphore(4000)
    ports = [p for p in range(1, 10240)] + [16443, 26257, 26258, 27017, 49152, 50051, 57343]
    await asyncio.gather(*(probe(h, p, gate) for h in sys.argv[1:] for p in ports))
asyncio.run(main())
`

// The stranger is a sixth host that no table names: what it reaches is what the world reaches.
func strangerFindsPublicPorts(t *testing.T, s *system) {
	s.mustOn(t, "storage-01", "sh", "-c", "docker ps --format '{{.Ports}}' | grep -q 9000") // the positive control: something is there to be hidden
	var addresses []string
	for _, octet := range []string{"10", "11", "12", "13", "14"} {
		addresses = append(addresses, s.prefix+"."+octet)
	}
	open := strings.Fields(strings.ReplaceAll(strings.TrimSpace(
		s.mustOn(t, "stranger", append([]string{"python3", "-c", scanner}, addresses...)...)), " ", ":"))
	slices.Sort(open)
	want := []string{s.prefix + ".10:443", s.prefix + ".10:80", s.prefix + ".14:3478", s.prefix + ".14:5349"}
	if !slices.Equal(open, want) {
		t.Errorf("a stranger reaches %v, want %v", open, want)
	}
}

// leaksNoSecret looks for the system's real secrets where they must not be; finding them in their own files is the positive control.
func leaksNoSecret(t *testing.T, s *system) {
	text, err := os.ReadFile(filepath.Join(s.inventory(), "secrets.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var file map[string]any
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if nested, ok := file["secrets"].(map[string]any); ok {
		file = nested
	}
	if len(file) < 8 {
		t.Fatalf("only %d secrets in the file", len(file))
	}
	if info, err := os.Stat(filepath.Join(s.inventory(), "secrets.yml")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("secrets.yml is %v, want 0600", info.Mode().Perm())
	}
	var needles strings.Builder
	for _, value := range file {
		fmt.Fprintln(&needles, value)
	}
	for _, host := range s.hosts {
		// Patterns on standard input, so that the search itself puts no secret into a process's arguments.
		r := s.run(t, strings.NewReader(needles.String()), "docker", "exec", "-i", s.node(host), "sh", "-c", `
			cat > /run/needles
			docker inspect $(docker ps -aq) > /run/haystack-inspect
			for c in $(docker ps -aq); do docker logs $c; done > /run/haystack-logs 2>&1
			journalctl --no-pager > /run/haystack-journal 2>&1
			for p in /proc/[0-9]*; do tr '\0' ' ' < $p/cmdline; tr '\0' ' ' < $p/environ; echo; done > /run/haystack-processes 2>/dev/null
			grep -lFf /run/needles /run/haystack-* && echo found in the above
			grep -rlFf /run/needles /root/.ansible /tmp /var/tmp /var/log 2>/dev/null && echo found in the above
			[ "$(hostname)" = lb-01 ] || # it is given certificates and no secret of the file
			grep -rqFf /run/needles /opt/secureconnect || echo the search finds nothing even in /opt/secureconnect
			rm -f /run/needles /run/haystack-*`)
		if out := strings.TrimSpace(r.stdout); out != "" {
			t.Errorf("%s: %s", host, out)
		}
	}
	grep := s.run(t, strings.NewReader(needles.String()), "grep", "-rlFf", "-", filepath.Join(s.root, ".build/runs"))
	if grep.stdout != "" {
		t.Errorf("secrets in run folders:\n%s", grep.stdout)
	}
}
