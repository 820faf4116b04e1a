//go:build lab

package e2e

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// ordinaryTalk is what people and clients really send; a WAF that refuses any of it is broken for us.
var ordinaryTalk = []string{
	`Let's SELECT a place FROM the list WHERE it's cheap; or 1=1 :)`,
	`<b>bold</b> move! 5 < 6 && 7 > 3 -- agreed?`,
	`cat /etc/passwd is the first thing everybody types, isn't it?`,
	`https://example.com/?next=../../home&x=%00`,
	`Tôi đến lúc 7 giờ; đừng quên mang theo “bánh mì” & cà phê!`,
	`() { :; }; echo "shellshock was in 2014"`,
	`<script>alert("I teach web security")</script>`,
	`java.lang.Runtime is a class; ${jndi:ldap://x} was log4shell`,
	`aGVsbG87IERST1AgVEFCTEUgdXNlcnM7IC0tIFVOSU9O`,
}

func switchesWAF(t *testing.T, s *system) {
	person := s.newPerson(t, "")
	edge := s.edgeClient(t)
	get := func(url string) int { return status(t, edge, http.MethodGet, url, "", "") }
	const api, injection = "https://api.secureconnect.com", "?q=1'%20or%20'1'='1"
	const attack = api + "/v1/auth/login" + injection

	if got := get(attack); got == http.StatusForbidden {
		t.Errorf("edge_waf: off answers an attack with %d", got)
	}
	for _, mode := range []struct {
		name    string
		refused bool
	}{{"detect", false}, {"block", true}} {
		r := s.playbookWithVariable(t, "edge_waf: "+mode.name)
		if r.code != 0 {
			t.Fatalf("edge_waf: %s: exit %d\n%s\n%s", mode.name, r.code, tail(r.stdout, 40), tail(r.stderr, 20))
		}
		if got := get(attack); (got == http.StatusForbidden) != mode.refused {
			t.Errorf("edge_waf: %s answers an attack with %d", mode.name, got)
		}
		for _, socket := range []string{"/v1/ws", "/v1/calls/0b8f4c1e-5d3a-4f6b-9c2d-7e8a9b0c1d2e/ws"} {
			if got := get(api + socket + injection); got == http.StatusForbidden {
				t.Errorf("edge_waf: %s inspects the socket %s", mode.name, socket)
			}
		}
		for _, text := range ordinaryTalk {
			if got := person.rename(t, edge, text); got != http.StatusOK {
				t.Errorf("edge_waf: %s answers ordinary text with %d: %s", mode.name, got, text)
			}
			if err := person.talk(t, text); err != nil {
				t.Errorf("edge_waf: %s: %v: %s", mode.name, err, text)
			}
		}
		person.login(t)
	}
	s.mustDeploy(t, "apply", "-i", s.name)
	if got := get(attack); got == http.StatusForbidden {
		t.Errorf("switched off again, an attack is answered with %d", got)
	}
}

// edgeClient is an HTTP client on this machine that finds the public names at lb-01 and trusts the lab's CA.
func (s *system) edgeClient(t *testing.T) *http.Client {
	t.Helper()
	var dialer net.Dialer
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: s.roots(t), MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return dialer.DialContext(ctx, network, net.JoinHostPort(s.prefix+".10", port))
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

func status(t *testing.T, client *http.Client, method, url, token, body string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	_, _ = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode
}
