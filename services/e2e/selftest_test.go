//go:build lab

package e2e

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// relayTest asks the calls' service of a host whether calls get through.
func (s *system) relayTest(t *testing.T, host string) result {
	t.Helper()
	return s.on(t, host, "docker", "compose", "--project-directory", "/opt/secureconnect/app", "-f", "/opt/secureconnect/app/compose.yml",
		"exec", "-T", "video", "/secureconnect", "relaytest")
}

var logNamed = regexp.MustCompile(`The whole log: (\S+)`)

// Whatever breaks the relay, the test of it says what, and an apply ends with its words before the next app host is touched.
func testsRelay(t *testing.T, s *system) {
	for _, host := range []string{"app-01", "app-02"} {
		r := s.relayTest(t, host)
		for _, way := range []string{"udp", "tcp", "tls"} {
			if !strings.Contains(r.stdout, way+": 10 probes came through "+s.prefix+".14:") || r.code != 0 {
				t.Errorf("%s over %s: exit %d\n%s%s", host, way, r.code, r.stdout, r.stderr)
			}
		}
	}
	says := func(what string, words ...string) {
		t.Helper()
		eventually(t, 30*time.Second, what, func() error { // the server may be starting
			r := s.relayTest(t, "app-01")
			for _, word := range words {
				if r.code == 0 || !strings.Contains(r.stdout, word) {
					return fmt.Errorf("exit %d, and not %q:\n%s%s", r.code, word, r.stdout, r.stderr)
				}
			}
			return nil
		})
	}
	s.mustOn(t, "storage-01", "sed", "-i", "s/^external-ip=.*/external-ip=203.0.113.9/", "/opt/secureconnect/storage/coturn/turnserver.conf")
	s.mustOn(t, "storage-01", "docker", "restart", "--time", "2", "storage-coturn-1")
	says("a wrong address is advertised", "the relay advertises 203.0.113.9:", "public_addresses")
	s.mustOn(t, "storage-01", "docker", "stop", "--time", "2", "storage-coturn-1")
	says("coturn is stopped", "udp: the TURN server does not answer", "tcp: the TURN server does not take a connection", "tls: no TLS")

	// An apply mends both, but not what stands between the two hosts.
	s.mustOn(t, "storage-01", "sh", "-c", drop("ip saddr "+s.prefix+".11 meta l4proto { tcp, udp } th dport { 3478, 5349 }", ""))
	r := s.deploy(t, "apply", "-i", s.name, "--no-images", "--no-verify")
	s.mustOn(t, "storage-01", "sh", "-c", mend)
	log, err := os.ReadFile(logNamed.FindStringSubmatch(r.stdout + "The whole log: /")[1])
	if err != nil {
		t.Fatal(err)
	}
	const words = "udp: the TURN server does not answer over udp at "
	_, after, _ := strings.Cut(string(log), "fatal: [app-01]")
	if r.code != 1 || !strings.Contains(r.stdout, words) || !strings.Contains(r.stdout, "look at: turn_port") || !strings.Contains(after, words) {
		t.Errorf("an apply without a relay: exit %d\n%s", r.code, tail(r.stdout, 40))
	}
	if strings.Contains(after, "[app-02]") {
		t.Error("the next app host was touched")
	}
	if r := s.relayTest(t, "app-01"); r.code != 0 {
		t.Errorf("mended: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}
