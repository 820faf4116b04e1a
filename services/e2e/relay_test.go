//go:build lab

package e2e

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" // what TURN's REST credentials are made with
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/pion/stun/v4"
	"gopkg.in/yaml.v3"
)

// What the TURN server is asked for here, in forms that no client library sends: RFC 8656, and RFC 6062 for TCP.
const (
	mediaPort  = 10000
	userQuota  = 40 // coturn_user_quota
	protoUDP   = 17
	protoTCP   = 6
	familyIPv4 = 1
	familyIPv6 = 2
	turnWaits  = 3 * time.Second

	attrRequestedAddressFamily stun.AttrType = 0x0017
)

// strangers are addresses that nobody may be relayed to, of every range there is (RFC 6890), and in every form in which an
// address of IPv4 can stand in one of IPv6.
func strangers(prefix string) (found []netip.Addr) {
	for _, text := range []string{
		"0.0.0.0", "0.255.255.255", "1.2.3.4", "10.0.0.1", "10.255.255.255", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254",
		"172.16.0.1", "172.17.0.1", "172.29.0.1", "172.30.0.1", "172.31.255.255", "192.0.0.8", "192.0.0.170", "192.0.2.1", "192.31.196.1",
		"192.52.193.1", "192.88.99.1", "192.168.0.1", "192.175.48.1",
		"192.168.255.255", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
		prefix + ".0", prefix + ".1", prefix + ".10", prefix + ".13", prefix + ".14", prefix + ".15", prefix + ".255",
		"::", "::1", "100::1", "fe80::1", "fec0::1", "fc00::1", "fd00::1", "ff02::1", "ff05::2", "2001:db8::1", "2001::1", "2606:4700::1111",
	} {
		found = append(found, netip.MustParseAddr(text))
	}
	for _, text := range []string{"127.0.0.1", "169.254.169.254", prefix + ".13", prefix + ".11"} {
		four := netip.MustParseAddr(text).As4()
		within := func(begins string, at int, four [4]byte) {
			six := netip.MustParseAddr(begins).As16()
			copy(six[at:], four[:])
			found = append(found, netip.AddrFrom16(six))
		}
		// Mapped, compatible, translated (RFC 7915), NAT64 (RFC 6052, 8215), ISATAP (RFC 5214).
		for _, begins := range []string{"::ffff:0:0", "::", "::ffff:0:0:0", "64:ff9b::", "64:ff9b:1::", "fe80::5efe:0:0"} {
			within(begins, 12, four)
		}
		within("2002::", 2, four)                                             // 6to4
		within("2001::", 4, four)                                             // Teredo's server (RFC 4380 §4)
		within("2001::", 12, [4]byte{^four[0], ^four[1], ^four[2], ^four[3]}) // and its client
	}
	return found
}

func relaysToAppHostsOnly(t *testing.T, s *system) {
	secret := s.turnSecret(t)
	apps := []netip.Addr{netip.MustParseAddr(s.prefix + ".11"), netip.MustParseAddr(s.prefix + ".12")}
	forms := map[string]func(a *turnClient, peers ...netip.Addr) (int, error){
		"permission": (*turnClient).permit,
		"channel":    func(a *turnClient, peers ...netip.Addr) (int, error) { return a.bind(peers[0]) },
	}
	for _, way := range []string{"udp", "tcp"} {
		for name, ask := range forms {
			t.Run(name+" over "+way, func(t *testing.T) {
				a := dialTURN(t, s, way, secret, "deny-"+name+way)
				a.mustAllocate(t)
				for _, app := range apps {
					if code, err := ask(a, app); code != 0 || err != nil {
						t.Errorf("the app host %s: %d %v", app, code, err)
					}
				}
				for _, stranger := range strangers(s.prefix) {
					if code, err := ask(a, stranger); err != nil || !refusesPeer(code) {
						t.Errorf("%s: answered %d %v", stranger, code, err)
					}
				}
			})
		}
	}
	t.Run("a stranger beside an app host", func(t *testing.T) {
		a := dialTURN(t, s, "udp", secret, "beside")
		a.mustAllocate(t)
		if code, err := a.permit(apps[0], netip.MustParseAddr(s.prefix+".13")); err != nil || !refusesPeer(code) {
			t.Errorf("answered %d %v", code, err)
		}
	})
	t.Run("a relay of TCP", func(t *testing.T) {
		a := dialTURN(t, s, "tcp", secret, "tcp")
		if code, err := a.allocate(protoTCP, 0); err != nil || code != int(stun.CodeUnsupportedTransProto) {
			t.Errorf("answered %d %v", code, err)
		}
	})
	t.Run("a connection over TCP", func(t *testing.T) {
		a := dialTURN(t, s, "tcp", secret, "connect")
		a.mustAllocate(t)
		for _, peer := range []netip.Addr{apps[0], netip.MustParseAddr(s.prefix + ".13")} {
			if code, err := a.ask(stun.MethodConnect, peerAddress(peer)); err != nil || code == 0 {
				t.Errorf("%s: answered %d %v", peer, code, err)
			}
		}
	})
	t.Run("a relay of IPv6", func(t *testing.T) {
		a := dialTURN(t, s, "udp", secret, "six")
		if code, err := a.allocate(protoUDP, familyIPv6); err != nil || code != int(stun.CodeAddrFamilyNotSupported) {
			t.Errorf("answered %d %v", code, err)
		}
	})
	t.Run("more allocations than a device may hold in a call", func(t *testing.T) {
		user := rand.Text() // the server counts for a while what was given back
		for i := range userQuota {
			a := dialTURN(t, s, "udp", secret, user)
			if code, err := a.allocate(protoUDP, 0); code != 0 || err != nil {
				t.Fatalf("the allocation %d: %d %v", i+1, code, err)
			}
		}
		a := dialTURN(t, s, "udp", secret, user)
		if code, err := a.allocate(protoUDP, 0); err != nil || code != int(stun.CodeAllocQuotaReached) {
			t.Errorf("one too many: answered %d %v", code, err)
		}
	})
}

// gathers asks a browser for its candidates by a TURN server, and says what it finds.
const gathers = `new Promise(done => {
	const connection = new RTCPeerConnection({iceTransportPolicy: "relay", iceServers: [%s]});
	const problems = [];
	connection.onicecandidateerror = e => problems.push(e.errorCode + " " + e.errorText);
	connection.onicecandidate = e => {
		if (e.candidate === null) done("none: " + problems.join(", "));
		else if (e.candidate.type === "relay") done(e.candidate.address);
	};
	connection.createDataChannel("");
	connection.setLocalDescription();
	setTimeout(() => done("nothing within 10 s: " + problems.join(", ")), 10_000);
})`

// A browser's own way in: it resolves the name, and trusts the certificate by the chain that is served.
func relaysForBrowsers(t *testing.T, s *system) {
	page := browser(t, s, s.prefix+".10")
	username, password := credential(s.turnSecret(t), "browser", 10*time.Minute)
	for _, url := range []string{
		"turn:turn.secureconnect.com:3478?transport=udp",
		"turn:turn.secureconnect.com:3478?transport=tcp",
		"turns:turn.secureconnect.com:5349?transport=tcp",
	} {
		server, err := json.Marshal(map[string]string{"urls": url, "username": username, "credential": password})
		if err != nil {
			t.Fatal(err)
		}
		found := read(t, page, chromedp.Evaluate[string](fmt.Sprintf(gathers, server), chromedp.EvalAwaitPromise))
		if want := s.prefix + ".14"; found != want {
			t.Errorf("by %s a browser is relayed from %q, want %q", url, found, want)
		}
	}
}

// refusesPeer: forbidden, or of a family that the allocation does not relay to (RFC 8656 §9.2).
func refusesPeer(code int) bool {
	return code == int(stun.CodeForbidden) || code == int(stun.CodePeerAddrFamilyMismatch)
}

func (s *system) turnAddress() string {
	if slices.Contains(s.hosts, "storage-01") {
		return s.prefix + ".14"
	}
	return s.prefix + ".10"
}

func (s *system) turnSecret(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.inventory(), "secrets.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var secrets struct {
		Turn string `yaml:"turn_secret"`
	}
	if err := yaml.Unmarshal(text, &secrets); err != nil || secrets.Turn == "" {
		t.Fatal("secrets.yml has no turn_secret")
	}
	return secrets.Turn
}

// turnClient speaks with the TURN server message by message.
type turnClient struct {
	conn     net.Conn
	username string
	password string
	realm    stun.Realm
	nonce    stun.Nonce
	channel  uint16
}

// dialTURN connects over udp or tcp and learns realm and nonce; whoever it is gives the allocation back when the test ends.
func dialTURN(t *testing.T, s *system, way, secret, user string) *turnClient {
	t.Helper()
	conn, err := net.Dial(way, s.turnAddress()+":3478")
	if err != nil {
		t.Fatal(err)
	}
	c := &turnClient{conn: conn, channel: 0x4000}
	c.username, c.password = credential(secret, user, 10*time.Minute)
	t.Cleanup(func() {
		_, _ = c.ask(stun.MethodRefresh, attribute(stun.AttrLifetime, 0, 0, 0, 0)) // the server takes it back by itself, later
		_ = conn.Close()
	})
	answer, err := c.exchange(stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest), attribute(stun.AttrRequestedTransport, protoUDP, 0, 0, 0)))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.realm.GetFrom(answer), c.nonce.GetFrom(answer)); err != nil {
		t.Fatal(err)
	}
	return c
}

// credential is one of draft-uberti-behave-turn-rest-00.
func credential(secret, user string, lasts time.Duration) (username, password string) {
	username = strconv.FormatInt(time.Now().Add(lasts).Unix(), 10) + ":" + user
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(username))
	return username, base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func attribute(kind stun.AttrType, value ...byte) stun.RawAttribute {
	return stun.RawAttribute{Type: kind, Value: value}
}

func (c *turnClient) mustAllocate(t *testing.T) {
	t.Helper()
	if code, err := c.allocate(protoUDP, 0); code != 0 || err != nil {
		t.Fatalf("allocate: %d %v", code, err)
	}
}

func (c *turnClient) allocate(protocol, family byte) (int, error) {
	wanted := []stun.Setter{attribute(stun.AttrRequestedTransport, protocol, 0, 0, 0)}
	if family != 0 {
		wanted = append(wanted, attribute(attrRequestedAddressFamily, family, 0, 0, 0))
	}
	return c.ask(stun.MethodAllocate, wanted...)
}

func (c *turnClient) permit(peers ...netip.Addr) (int, error) {
	var wanted []stun.Setter
	for _, p := range peers {
		wanted = append(wanted, peerAddress(p))
	}
	return c.ask(stun.MethodCreatePermission, wanted...)
}

func (c *turnClient) bind(peer netip.Addr) (int, error) {
	number := c.channel
	c.channel++
	return c.ask(stun.MethodChannelBind, attribute(stun.AttrChannelNumber, byte(number>>8), byte(number), 0, 0), peerAddress(peer))
}

// peerAddress is XOR-PEER-ADDRESS (RFC 8656 §18.3), an address of IPv4 within one of IPv6 as what it is.
type peerAddress netip.Addr

func (p peerAddress) AddTo(m *stun.Message) error {
	address := netip.Addr(p)
	value := []byte{0, familyIPv4}
	if address.Is6() {
		value[1] = familyIPv6
	}
	mask := binary.BigEndian.AppendUint32(nil, 0x2112A442)
	mask = append(mask, m.TransactionID[:]...)
	value = binary.BigEndian.AppendUint16(value, mediaPort^0x2112)
	for i, b := range address.AsSlice() {
		value = append(value, b^mask[i])
	}
	m.Add(stun.AttrXORPeerAddress, value)
	return nil
}

// ask gives the error code the server answered with, 0 where it did what was asked.
func (c *turnClient) ask(method stun.Method, wanted ...stun.Setter) (int, error) {
	for range 2 { // the nonce may be too old
		setters := append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, wanted...)
		setters = append(setters, stun.NewUsername(c.username), c.realm, c.nonce, stun.NewLongTermIntegrity(c.username, c.realm.String(), c.password))
		request, err := stun.Build(setters...)
		if err != nil {
			return 0, err
		}
		answer, err := c.exchange(request)
		if err != nil {
			return 0, err
		}
		if answer.Type.Class == stun.ClassSuccessResponse {
			return 0, nil
		}
		var refused stun.ErrorCodeAttribute
		if err := refused.GetFrom(answer); err != nil {
			return 0, fmt.Errorf("an error without a code: %w", err)
		}
		if refused.Code != stun.CodeStaleNonce {
			return int(refused.Code), nil
		}
		if err := c.nonce.GetFrom(answer); err != nil {
			return 0, err
		}
	}
	return int(stun.CodeStaleNonce), nil
}

// exchange sends a request and waits for its answer. A packet that is lost on the way fails the test: there is one machine.
func (c *turnClient) exchange(request *stun.Message) (*stun.Message, error) {
	if err := c.conn.SetDeadline(time.Now().Add(turnWaits)); err != nil {
		return nil, err
	}
	if _, err := c.conn.Write(request.Raw); err != nil {
		return nil, err
	}
	for {
		answer := &stun.Message{Raw: make([]byte, 0, 1500)}
		if _, err := answer.ReadFrom(c.conn); err != nil {
			return nil, fmt.Errorf("no answer: %w", err)
		}
		if answer.TransactionID == request.TransactionID {
			return answer, nil
		}
	}
}
