package verify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1" // #nosec G505 -- what TURN's REST credentials are defined with; HMAC does not need collision resistance
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pion/logging"
	"github.com/pion/stun/v4"
	"github.com/pion/turn/v5"
	"gopkg.in/yaml.v3"
)

// turnSecret is what coturn shares with whoever may hand out credentials.
type turnSecret string

func (turnSecret) String() string   { return "[secret]" }
func (turnSecret) GoString() string { return "[secret]" }

// credential opens one allocation. It prints without its password.
type credential struct {
	username string
	password string
}

func (c credential) String() string { return c.username }

// credentialFor makes a REST credential: the user name says when it ends, the password proves who made it
// (draft-uberti-behave-turn-rest-00 §2.2).
func credentialFor(secret turnSecret, user string, ends time.Time) credential {
	username := strconv.FormatInt(ends.Unix(), 10) + ":" + user
	mac := hmac.New(sha1.New, []byte(secret))
	_, _ = mac.Write([]byte(username)) // a hash never errs
	return credential{username, base64.StdEncoding.EncodeToString(mac.Sum(nil))}
}

var vaultMark = []byte("$ANSIBLE_VAULT;")

// turnSecret reads the secret from the inventory's file, through ansible-vault where it is encrypted.
func (s *site) turnSecret(ctx context.Context) (turnSecret, error) {
	text, err := os.ReadFile(s.SecretsFile) // #nosec G304 -- the operator's own file
	if err != nil {
		return "", fail("secrets_file", "read the secrets: %v", err)
	}
	if bytes.HasPrefix(text, vaultMark) {
		if text, err = s.vault.decrypt(ctx, s.SecretsFile); err != nil {
			return "", err
		}
	}
	var secrets struct {
		Turn string `yaml:"turn_secret"`
	}
	if err := yaml.Unmarshal(text, &secrets); err != nil {
		return "", fail("secrets_file", "%s is no YAML", s.SecretsFile) // the parser's words may quote a secret
	}
	if secrets.Turn == "" {
		return "", fail("secrets_file", "%s has no turn_secret", s.SecretsFile)
	}
	return turnSecret(secrets.Turn), nil
}

// vault is how an encrypted secrets file is opened.
type vault struct{ root, passwordFile string }

// decrypt asks ansible-vault, which must find its password without a terminal: the ladder never asks.
func (v vault) decrypt(ctx context.Context, path string) ([]byte, error) {
	program := filepath.Join(v.root, ".venv", "bin", "ansible-vault")
	if _, err := os.Stat(program); err != nil {
		program = "ansible-vault"
	}
	args := []string{"view"}
	if v.passwordFile != "" {
		args = append(args, "--vault-password-file", v.passwordFile)
	}
	cmd := exec.CommandContext(ctx, program, append(args, path)...) // #nosec G204 -- the pinned Ansible of the repository
	cmd.Env = append(os.Environ(), "PAGER=cat", "ANSIBLE_CONFIG="+filepath.Join(v.root, "ansible.cfg"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var said bytes.Buffer
	cmd.Stderr = &said
	text, err := cmd.Output()
	if err != nil {
		return nil, fail("--vault-password-file, or ANSIBLE_VAULT_PASSWORD_FILE",
			"%s is encrypted, and ansible-vault could not open it: %v: %s", path, err, lastLine(said.String()))
	}
	return text, nil
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// allocation is a relayed address on the TURN server and the way to it.
type allocation struct {
	relay  net.PacketConn
	client *turn.Client
	conn   net.PacketConn
}

// relayed is the address peers see.
func (a *allocation) relayed() *net.UDPAddr {
	at, _ := a.relay.LocalAddr().(*net.UDPAddr) // pion's relay is always UDP here
	return at
}

// close gives the allocation back at once: quotas count those that were only dropped.
func (a *allocation) close() {
	_ = a.relay.Close()
	a.client.Close()
	_ = a.conn.Close()
}

// allocateTimeout bounds one way in; pion itself would ask for a minute.
const allocateTimeout = 5 * time.Second

// allocateAgain is how often an allocation is asked for anew where the answer to it cannot be used, as was seen once of a busy coturn.
const allocateAgain = 2

// allocate asks for a relayed address over udp, tcp or tls.
func (s *site) allocate(ctx context.Context, way string, c credential) (*allocation, error) {
	ctx, cancel := context.WithTimeout(ctx, allocateTimeout)
	defer cancel()
	for again := 0; ; again++ {
		a, err := s.allocateOnce(ctx, way, c)
		if !errors.Is(err, stun.ErrAttributeNotFound) || again == allocateAgain {
			return a, err
		}
	}
}

func (s *site) allocateOnce(ctx context.Context, way string, c credential) (*allocation, error) {
	conn, at, err := s.dialTURN(ctx, way)
	if err != nil {
		return nil, err
	}
	client, err := turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: at,
		Conn:           conn,
		Username:       c.username,
		Password:       c.password,
		LoggerFactory:  &logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled},
		// Peers are app hosts, which have IPv4; a client would take after its own socket.
		RequestedAddressFamily: turn.RequestedAddressFamilyIPv4,
	})
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("make a TURN client: %w", err)
	}
	relay, err := allocated(ctx, client)
	if err != nil {
		client.Close()
		_ = conn.Close()
		return nil, s.explainTURN(ctx, err, way, at)
	}
	return &allocation{relay: relay, client: client, conn: conn}, nil
}

func allocated(ctx context.Context, client *turn.Client) (net.PacketConn, error) {
	if err := client.Listen(); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, client.Close) // ends pion's transactions, which know no context
	defer stop()
	return client.Allocate()
}

func (s *site) dialTURN(ctx context.Context, way string) (net.PacketConn, string, error) {
	at := net.JoinHostPort(s.Turn.PublicAddress, strconv.Itoa(s.Turn.Port))
	switch way {
	case "udp":
		conn, err := net.ListenPacket("udp", ":0") // #nosec G102 -- a client's socket: the route decides its address
		return conn, at, err
	case "tcp":
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", at)
		if err != nil {
			return nil, at, s.explainDial(err, at)
		}
		return turn.NewSTUNConn(conn), at, nil
	default:
		at = net.JoinHostPort(s.Turn.PublicAddress, strconv.Itoa(s.Turn.TLSPort))
		d := tls.Dialer{Config: s.tlsConfig(s.Names.Turn)}
		conn, err := d.DialContext(ctx, "tcp", at)
		if err != nil {
			return nil, at, s.explainTLS(err, s.Names.Turn, at)
		}
		return turn.NewSTUNConn(conn), at, nil
	}
}

// turnCode is the error code the TURN server answered with, or 0 where it did not answer so.
func turnCode(err error) int {
	var answered *stun.TurnError
	if errors.As(err, &answered) {
		return int(answered.ErrorCodeAttr.Code)
	}
	return 0
}

func (s *site) explainTURN(ctx context.Context, err error, way, at string) error {
	storage := s.first("storage")
	switch code := turnCode(err); {
	case code == int(stun.CodeUnauthorized):
		return &refusedTURN{code: code, Failure: Failure{
			Cause: fmt.Sprintf("coturn at %s refuses the credential (401)", at),
			Look:  "secrets_file, and the secrets beside coturn's configuration on " + storage,
		}}
	case code == int(stun.CodeAllocQuotaReached):
		return fail("coturn_user_quota and coturn_total_quota in group_vars/all/sizes.yml", "coturn at %s has no allocation left (486)", at)
	case code != 0:
		return fail("docker compose logs coturn on "+storage, "coturn at %s answers %d", at, code)
	case ctx.Err() != nil:
		return fail("docker compose ps on "+storage+", and turn_port in ports.yml", "coturn does not answer over %s at %s within %s", way, at, allocateTimeout)
	default:
		return fmt.Errorf("allocate over %s at %s: %w", way, at, err)
	}
}

// refusedTURN is a Failure that a check of forged credentials hopes for.
type refusedTURN struct {
	Failure
	code int
}

func (r *refusedTURN) Unwrap() error { return &r.Failure }
