package verify

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"secureconnect/cmd/deploy/internal/inventory"
)

const domain = "example.test"

// describedLoopback is a deployment whose every host is this machine.
func describedLoopback() *inventory.Description {
	here := inventory.Host{Address: "127.0.0.1", PublicAddress: "127.0.0.1"}
	return &inventory.Description{
		Name:          "test",
		InventoryDir:  "inventories/test",
		PublicDomain:  domain,
		EdgeTLS:       "internal_ca",
		Registration:  "invite",
		RemoteRoot:    "/opt/secureconnect",
		AdminNetworks: []string{"10.0.0.1"},
		Groups:        map[string][]string{"lb": {"lb-01"}, "app": {"app-01", "app-02"}, "db": {"db-01"}, "storage": {"storage-01"}},
		Hosts:         map[string]inventory.Host{"lb-01": here, "app-01": here, "app-02": here, "db-01": here, "storage-01": here},
		Names:         inventory.Names{API: "api." + domain, Chat: "chat." + domain, Files: "files." + domain, Turn: "turn." + domain},
		Turn:          inventory.Turn{PublicAddress: "127.0.0.1", RelayMin: 1, RelayMax: 65535, Realm: domain},
	}
}

func surveyed(t *testing.T, desc *inventory.Description, shell Shell) *site {
	t.Helper()
	s, err := survey(desc, Options{Shell: shell})
	if err != nil {
		t.Fatal(err)
	}
	s.lookup = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }
	return s
}

// climbed is what one rung reports, by check name.
func climbed(t *testing.T, s *site, rung func(context.Context, *site, *proofs)) map[string]Check {
	t.Helper()
	made := make(chan Check, 256)
	rung(t.Context(), s, &proofs{rung: "test", made: made})
	close(made)
	found := map[string]Check{}
	for c := range made {
		if known, ok := found[c.Name]; !ok || known.Status == Passed {
			found[c.Name] = c
		}
	}
	return found
}

// wantOnly wants exactly one check to fail, and its failure to name where to look.
func wantOnly(t *testing.T, found map[string]Check, name, look string) {
	t.Helper()
	if found[name].Status != Failed {
		t.Errorf("%s is %s, want a failure", name, found[name].Status)
	}
	if !strings.Contains(found[name].Look, look) {
		t.Errorf("%s names %q to look at, want %q in it", name, found[name].Look, look)
	}
	delete(found, name)
	wantPassed(t, found)
}

func wantPassed(t *testing.T, found map[string]Check) {
	t.Helper()
	if len(found) == 0 {
		t.Error("nothing was proved")
	}
	for name, c := range found {
		if c.Status != Passed {
			t.Errorf("%s: %s %s %s", name, c.Status, c.Proved, c.Cause)
		}
	}
}

// shellFunc is a Shell made of a function.
type shellFunc func(ctx context.Context, host string, stdin io.Reader, argv ...string) ([]byte, error)

func (f shellFunc) Run(ctx context.Context, host string, stdin io.Reader, argv ...string) ([]byte, error) {
	return f(ctx, host, stdin, argv...)
}

// here runs commands on this machine, whatever host they are for.
var here shellFunc = func(ctx context.Context, _ string, stdin io.Reader, argv ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = stdin
	return cmd.Output()
}

// nowhere is for rungs that must not need a shell.
var nowhere shellFunc = func(context.Context, string, io.Reader, ...string) ([]byte, error) {
	return nil, errors.New("no host can be reached")
}

// authority issues certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	der  []byte
}

func newAuthority(t *testing.T, name string, parent *authority) *authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a := &authority{}
	a.cert, a.key, a.der = sign(t, template, parent)
	return a
}

func sign(t *testing.T, template *x509.Certificate, parent *authority) (*x509.Certificate, *ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issuer, signer := template, key
	if parent != nil {
		issuer, signer = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key, der
}

// issue makes a server's certificate; the chain sent is what follows it.
func (a *authority) issue(t *testing.T, ends time.Time, names []string, chain ...*authority) tls.Certificate {
	t.Helper()
	_, key, der := sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: ends, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a)
	sent := tls.Certificate{PrivateKey: key, Certificate: [][]byte{der}}
	for _, link := range chain {
		sent.Certificate = append(sent.Certificate, link.der)
	}
	return sent
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func portOf(t *testing.T, at net.Addr) int {
	t.Helper()
	_, text, err := net.SplitHostPort(at.String())
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return port
}
