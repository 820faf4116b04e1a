// Package coturn tries the image with the configuration that the role writes.
package coturn

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" // what TURN's REST credentials are made with
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v5"
)

const (
	realm    = "turn.test"
	turnPort = "3478"
	tlsPort  = "5349"
	patience = 20 * time.Second
)

// server is a container of the image.
type server struct {
	name    string
	address string // its own
	peer    string // the machine's on the same network: the only one it relays to
	config  string // the folder that it sees as /etc/secureconnect/coturn
}

// deployed runs the image with what the role writes, and these secrets.
func deployed(t *testing.T, n *network, secrets ...string) *server {
	t.Helper()
	s := n.server(t, "deployed")
	root := filepath.Dir(s.config)
	n.role(t, root, map[string]any{
		"coturn_address": s.address, "coturn_public_address": s.address, "coturn_host_addresses": []string{s.address},
		"coturn_peers": []string{s.peer}, "coturn_secrets": secrets,
		"coturn_certificate": "", "coturn_certificate_key": newCertificate(t),
	})
	n.run(t, s, "--health-cmd", "coturn-health", n.image)
	s.await(t, "coturn-health")
	return s
}

// role has the deployment's own role write its files below root, with the quotas of group_vars.
func (n *network) role(t *testing.T, root string, variables map[string]any) {
	t.Helper()
	for name, value := range map[string]any{
		"coturn_root": root, "coturn_uid": n.uid, "coturn_realm": realm, "coturn_port": 3478, "coturn_tls_port": 5349,
		"coturn_relay_port_min": 49152, "coturn_relay_port_max": 57343,
	} {
		variables[name] = value
	}
	playbook := filepath.Join(t.TempDir(), "role.json") // YAML knows JSON
	play := []map[string]any{{
		"hosts": "localhost", "gather_facts": false, "roles": []string{"coturn"},
		"vars": map[string]any{"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}, "vars_files": []string{filepath.Join(n.root, "group_vars/all/sizes.yml")},
	}}
	for path, content := range map[string]any{playbook: play, playbook + ".vars": variables} {
		text, err := json.Marshal(content)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.Command(filepath.Join(n.root, ".venv/bin/ansible-playbook"), "-i", "localhost,", "-e", "@"+playbook+".vars", playbook)
	command.Dir = n.root
	command.Env = append(os.Environ(), "ANSIBLE_CONFIG="+filepath.Join(n.root, "ansible.cfg"))
	if said, err := command.CombinedOutput(); err != nil {
		t.Fatalf("the role: %v\n%s", err, said)
	}
}

// network is a bridge of the engine's with servers on it; the machine has its first address.
type network struct {
	name    string
	root    string // the repository
	image   string
	uid     int // of the containers' processes, who owns what they read
	gateway netip.Addr
	used    netip.Addr
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, ".build/images/manifest.json"))
	if err != nil {
		t.Fatalf("%v: run `make images`", err)
	}
	var manifest struct {
		Images map[string]struct {
			Ref string `json:"ref"`
		} `json:"images"`
	}
	if err := json.Unmarshal(text, &manifest); err != nil {
		t.Fatal(err)
	}
	n := &network{name: "secureconnect-turn-" + strings.ToLower(rand.Text()[:8]), root: root, image: manifest.Images["coturn"].Ref, uid: 9005}
	if os.Getuid() != 0 {
		n.uid = os.Getuid() // who may give files to nobody else
	}
	subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 97, byte(os.Getpid()), byte(networks.Add(1) << 4)}), 28)
	n.gateway = subnet.Addr().Next()
	n.used = n.gateway
	docker(t, "network", "create", "--subnet", subnet.String(), "--gateway", n.gateway.String(), n.name)
	t.Cleanup(func() { docker(t, "network", "rm", n.name) })
	return n
}

// networks are those this process has made: a container chooses its address only where the network's was chosen.
var networks atomic.Uint32

// server has an address and an empty folder.
func (n *network) server(t *testing.T, name string) *server {
	t.Helper()
	n.used = n.used.Next()
	s := &server{name: n.name + "-" + name, address: n.used.String(), peer: n.gateway.String(), config: filepath.Join(t.TempDir(), "coturn")}
	for folder := s.config; folder != os.TempDir(); folder = filepath.Dir(folder) { // the container's user looks in
		if err := errors.Join(os.MkdirAll(folder, 0o755), os.Chmod(folder, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// run starts a container as the deployment does, but for its limits.
func (n *network) run(t *testing.T, s *server, arguments ...string) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s said:\n%s", s.name, docker(t, "logs", "--tail", "20", s.name))
		}
		docker(t, "rm", "--force", s.name)
	})
	docker(t, append([]string{
		"run", "--detach", "--name", s.name, "--label", "secureconnect.testkit=" + n.root, "--network", n.name, "--ip", s.address,
		"--user", strconv.Itoa(n.uid), "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true", "--tmpfs", "/tmp",
		"--tmpfs", fmt.Sprintf("/run/coturn:uid=%d,mode=0700", n.uid), "--volume", s.config + ":/etc/secureconnect/coturn:ro",
	}, arguments...)...)
}

func docker(t *testing.T, arguments ...string) string {
	t.Helper()
	said, err := exec.Command("docker", arguments...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(arguments, " "), err, said)
	}
	return strings.TrimSpace(string(said))
}

// await runs a command in the container until it succeeds.
func (s *server) await(t *testing.T, command ...string) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		said, err := exec.Command("docker", append([]string{"exec", s.name}, command...)...).CombinedOutput()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s in %s: %v\n%s", strings.Join(command, " "), s.name, err, said)
		}
	}
}

// write replaces a file of the configuration as the deployment does: whole, and by a rename.
func (s *server) write(t *testing.T, n *network, name, content string) {
	t.Helper()
	path := filepath.Join(s.config, name)
	if err := errors.Join(os.WriteFile(path+".new", []byte(content), 0o400), os.Chown(path+".new", n.uid, -1), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

// newCertificate is a key with its certificate, in PEM.
func newCertificate(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), NotAfter: time.Now().Add(time.Hour)}
	leaf, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf})) +
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

// allocation is a client's relayed address.
type allocation struct {
	relay  net.PacketConn
	conn   net.PacketConn
	client *turn.Client
	serial string // of the certificate it was made under, over TLS
}

func (s *server) allocate(t *testing.T, way, secret string) (*allocation, error) {
	t.Helper()
	a, at := &allocation{}, net.JoinHostPort(s.address, turnPort)
	switch way {
	case "udp":
		conn, err := net.ListenPacket("udp4", net.JoinHostPort(s.peer, "0"))
		if err != nil {
			return nil, err
		}
		a.conn = conn
	case "tls":
		at = net.JoinHostPort(s.address, tlsPort)
		conn, err := tls.Dial("tcp", at, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			return nil, err
		}
		a.conn, a.serial = turn.NewSTUNConn(conn), conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	username := strconv.FormatInt(time.Now().Add(time.Minute).Unix(), 10) + ":" + rand.Text()
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(username))
	client, err := turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: at, Conn: a.conn, Username: username, Password: base64.StdEncoding.EncodeToString(mac.Sum(nil)),
		LoggerFactory:          &logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled},
		RequestedAddressFamily: turn.RequestedAddressFamilyIPv4,
	})
	if err != nil {
		return nil, errors.Join(err, a.conn.Close())
	}
	a.client = client
	if err := client.Listen(); err != nil {
		return nil, errors.Join(err, a.close())
	}
	a.relay, err = client.Allocate()
	if err != nil {
		return nil, errors.Join(err, a.close())
	}
	t.Cleanup(func() { _ = a.close() })
	return a, nil
}

func (a *allocation) close() error {
	if a.relay != nil {
		_ = a.relay.Close()
	}
	a.client.Close()
	return a.conn.Close()
}

func (s *server) mustAllocate(t *testing.T, way, secret string) *allocation {
	t.Helper()
	a, err := s.allocate(t, way, secret)
	if err != nil {
		t.Fatalf("allocate over %s: %v", way, err)
	}
	return a
}

// echo sends everything back that is relayed to it.
func (n *network) echo(t *testing.T) net.Addr {
	t.Helper()
	conn, err := net.ListenPacket("udp4", net.JoinHostPort(n.gateway.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buffer := make([]byte, 2000)
		for {
			size, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return // closed
			}
			_, _ = conn.WriteTo(buffer[:size], from) // what is lost is missed by who waits for it
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-ended
	})
	return conn.LocalAddr()
}

// mustRelay sends a packet to the echo and wants it back.
func (a *allocation) mustRelay(t *testing.T, echo net.Addr) {
	t.Helper()
	word, buffer := rand.Text(), make([]byte, 2000)
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) { // the first packets pass before the permission does
		if _, err := a.relay.WriteTo([]byte(word), echo); err != nil {
			t.Fatal(err)
		}
		if err := a.relay.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if size, _, err := a.relay.ReadFrom(buffer); err == nil && string(buffer[:size]) == word {
			return
		}
	}
	t.Fatal("nothing comes back through the relay")
}
