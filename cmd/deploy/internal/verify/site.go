package verify

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"secureconnect/cmd/deploy/internal/inventory"
	"secureconnect/services/client"
)

// site is the deployment as the rungs see it: its description, the trust to judge it by, a way in.
type site struct {
	*inventory.Description
	shell Shell
	vault vault
	roots *x509.CertPool // nil means the system's
	// lookup is the resolver of this machine.
	lookup func(ctx context.Context, name string) ([]string, error)
}

// survey gathers what every rung needs, and refuses a description with a hole in it.
func survey(desc *inventory.Description, opt Options) (*site, error) {
	s := &site{
		Description: desc,
		shell:       opt.Shell,
		vault:       vault{root: cmp.Or(opt.Root, desc.Root), passwordFile: opt.VaultPasswordFile},
		lookup:      net.DefaultResolver.LookupHost,
	}
	for _, group := range []string{"lb", "app", "db", "storage"} {
		if len(desc.Groups[group]) == 0 {
			return nil, fail(desc.InventoryDir+"/hosts.yml", "the inventory has no host in group %s", group)
		}
	}
	if desc.CAFile == "" {
		return s, nil
	}
	pem, err := os.ReadFile(desc.CAFile)
	if err != nil {
		return nil, fail("pki_dir", "read the deployment's authority: %v", err)
	}
	s.roots = x509.NewCertPool()
	if !s.roots.AppendCertsFromPEM(pem) {
		return nil, fail("pki_dir", "%s holds no certificate", desc.CAFile)
	}
	return s, nil
}

// secure says whether the edge speaks TLS.
func (s *site) secure() bool { return s.EdgeTLS != "off" }

// trustedByAll says whether strangers' machines are expected to know the names and the authority.
func (s *site) trustedByAll() bool { return s.EdgeTLS == "provided" || s.EdgeTLS == "acme" }

// lbs are the load balancers, first the one that is used when any will do.
func (s *site) lbs() []string { return s.Groups["lb"] }

// first is the host of a group that stands for it.
func (s *site) first(group string) string { return s.Groups[group][0] }

// port is where the port table puts a name, or otherwise.
func (s *site) port(name string, otherwise int) int {
	for _, p := range s.Ports {
		if n, err := strconv.Atoi(p.Port); err == nil && p.Name == name {
			return n
		}
	}
	return otherwise
}

// url is where a public name serves a path.
func (s *site) url(name, path string) string {
	if s.secure() {
		return "https://" + name + suffix(s.port("https", 443), 443) + path
	}
	return s.plainURL(name, path)
}

// plainURL is where a public name answers without TLS.
func (s *site) plainURL(name, path string) string {
	return "http://" + name + suffix(s.port("http", 80), 80) + path
}

func suffix(port, usual int) string {
	if port == usual {
		return ""
	}
	return fmt.Sprintf(":%d", port)
}

// dialTo connects to one host's public address whatever name was asked for, so that a missing line in
// /etc/hosts is one note and not twenty failures.
func (s *site) dialTo(host string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		d := net.Dialer{Timeout: 5 * time.Second}
		return d.DialContext(ctx, network, net.JoinHostPort(s.Hosts[host].PublicAddress, port))
	}
}

func (s *site) tlsConfig(name string) *tls.Config {
	return &tls.Config{RootCAs: s.roots, ServerName: name, MinVersion: tls.VersionTLS12}
}

// httpClient speaks to the public names through one load balancer and follows no redirect.
func (s *site) httpClient(lb string) *http.Client {
	return &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			DialContext:       s.dialTo(lb),
			TLSClientConfig:   s.tlsConfig(""),
			ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// queueing is how long a call may wait at the platform's own rate limits, which a ladder run twice in a row meets.
const queueing = 8 * time.Second

// client speaks to the API as a user's program does, through one load balancer, and asks it for an app host.
func (s *site) client(name, lb, prefer string) (*client.Client, error) {
	return client.New(client.Options{
		BaseURL:    s.url(name, ""),
		Dial:       s.dialTo(lb),
		RootCAs:    s.roots,
		PreferHost: prefer,
		UserAgent:  "secureconnect-verify",
		Patience:   queueing,
	})
}

// compose is the command line of a project's docker compose on its host.
func (s *site) compose(project string, args ...string) []string {
	dir := s.RemoteRoot + "/" + project
	return append([]string{"docker", "compose", "--project-directory", dir, "-f", dir + "/compose.yml"}, args...)
}

// listing joins names as a sentence would.
func listing(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
