package verify

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pion/stun/v4"

	"secureconnect/services/client/calls"
)

// ways are the ways in to coturn.
var ways = []string{calls.OverUDP, calls.OverTCP, calls.OverTLS}

// A probe is what an app host's SFU gives back to whoever reaches its media port: a mark that nothing else there begins with, and a nonce.
const (
	probeMark = "\xF5SCPROBE"
	probeSize = len(probeMark) + 16
)

// Probes sent through the relay by each way in, and how many may be under way at once: a burst would measure the buffers of the two ends.
const (
	probes   = 100
	underWay = 16
)

type probe [probeSize]byte

func newProbe() (p probe) {
	_, _ = rand.Read(p[copy(p[:], probeMark):]) // never errs
	return p
}

// relay proves that a call's packets pass through coturn to the app hosts' media ports, and nothing else's.
type relay struct {
	*site
	issued issued
	traps  []*trap // one an app host
}

// issued is a credential that the API gave, and which app host made it.
type issued struct {
	credential
	host string
}

// media is the media port of an app host.
func (s *site) media(host string) (*net.UDPAddr, error) {
	ip := net.ParseIP(s.Hosts[host].Address)
	if ip == nil {
		return nil, fail("addresses", "the address of %s is no IP address", host)
	}
	return &net.UDPAddr{IP: ip, Port: s.MediaPort}, nil
}

// reach asks for a relayed address over a way in, and says why there is none.
func (r *relay) reach(ctx context.Context, way string) (*allocation, error) {
	a, err := r.allocate(ctx, way, r.issued.credential)
	var refused *refusedTURN
	if errors.As(err, &refused) {
		return nil, r.blame(ctx, refused)
	}
	return a, err
}

// carries sends probes to an app host through the relay and wants every one of them back.
func (r *relay) carries(ctx context.Context, way, host string) (string, error) {
	a, err := r.reach(ctx, way)
	if err != nil {
		return "", err
	}
	defer a.close()
	if err := r.advertised(a.relayed()); err != nil {
		return "", err
	}
	at, err := r.permits(a, host)
	if err != nil {
		return "", err
	}
	back, worst, err := exchange(ctx, a.relay, at, probes)
	if err != nil {
		return "", fmt.Errorf("probe %s through the relay: %w", host, err)
	}
	if back < probes {
		return "", r.lost(ctx, host, back)
	}
	return fmt.Sprintf("%d probes reached %s and came back, relayed from %s; the slowest took %d ms", probes, host, a.relayed(), worst.Milliseconds()), nil
}

// advertised: browsers send to the address that the server names, so it must be the one that leads there.
func (r *relay) advertised(relayed *net.UDPAddr) error {
	at, _ := netip.AddrFromSlice(relayed.IP)
	switch at = at.Unmap(); {
	case at.String() == r.Turn.PublicAddress:
	case r.hostAt(at.String()) != at.String():
		return fail("public_addresses (coturn's external-ip)", "the relayed address is %s, which is %s's own, and not the public %s", at, r.hostAt(at.String()), r.Turn.PublicAddress)
	case at.IsPrivate():
		return fail("public_addresses (coturn's external-ip), and network_mode of coturn in deployment/compose/storage.yml",
			"the relayed address is %s, which is no host's: an address of Docker's, or of another private network, and not the public %s", at, r.Turn.PublicAddress)
	default:
		return fail("public_addresses (coturn's external-ip)", "the relayed address is %s and not the public %s", at, r.Turn.PublicAddress)
	}
	if relayed.Port < r.Turn.RelayMin || relayed.Port > r.Turn.RelayMax {
		return fail("relay_port_min and relay_port_max in ports.yml", "the relayed port %d is not in %d-%d", relayed.Port, r.Turn.RelayMin, r.Turn.RelayMax)
	}
	return nil
}

// permits asks coturn to relay to an app host.
func (r *relay) permits(a *allocation, host string) (*net.UDPAddr, error) {
	at, err := r.media(host)
	if err != nil {
		return nil, err
	}
	err = a.client.CreatePermission(at)
	switch {
	case err == nil:
		return at, nil
	case turnCode(err) == int(stun.CodeForbidden):
		return nil, fail("addresses (coturn allows the app hosts as peers)", "coturn refuses to relay to %s at %s (403)", host, at.IP)
	default:
		return nil, fmt.Errorf("ask to relay to %s: %w", host, err)
	}
}

// exchange keeps a few probes under way until all have been sent, and counts those that came back. It gives up when nothing does.
func exchange(ctx context.Context, relay net.PacketConn, to net.Addr, n int) (back int, worst time.Duration, err error) {
	sent := map[probe]time.Time{}
	buffer := make([]byte, 2*probeSize)
	for total := 0; back < n; {
		for ; total < n && len(sent) < underWay; total++ {
			one := newProbe()
			sent[one] = time.Now()
			if _, err := relay.WriteTo(one[:], to); err != nil {
				return back, worst, err
			}
		}
		if err := relay.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return back, worst, err
		}
		size, _, err := relay.ReadFrom(buffer)
		var late net.Error
		if errors.As(err, &late) && late.Timeout() || ctx.Err() != nil {
			return back, worst, nil
		}
		if err != nil {
			return back, worst, err
		}
		began, ours := sent[probe(buffer[:min(size, probeSize)])]
		if !ours {
			continue
		}
		delete(sent, probe(buffer[:probeSize]))
		back, worst = back+1, max(worst, time.Since(began))
	}
	return back, worst, nil
}

// Counters of the firewall.
const (
	counterRelay = "drop_relay"            // what the output chain stops of coturn's
	counterMedia = counterPrefix + "media" // what comes to the media port and is let in
	lostProbes   = 2 * underWay            // that are sent to see where they stay
	lostTime     = 300 * time.Millisecond  // for the last of them
)

// lost finds out where probes stay: it sends some more by a new relay, and asks the firewalls on both sides what they counted. back is how
// many came back before.
func (r *relay) lost(ctx context.Context, host string, back int) error {
	storage := r.first("storage")
	before, err := r.countBoth(ctx, host)
	if err != nil {
		return err
	}
	if err := r.sendSome(ctx, host); err != nil {
		return err
	}
	after, err := r.countBoth(ctx, host)
	if err != nil {
		return err
	}
	rise := func(of, counter string) int { return after[of][counter] - before[of][counter] }
	gone := fmt.Sprintf("%d of %d probes came back from %s through the relay", back, probes, host)
	tables := fmt.Sprintf("nft list table inet secureconnect on %s and on %s", host, storage)
	switch {
	case rise(storage, counterRelay) > 0:
		return fail("media_port in ports.yml, addresses, and nft list chain inet secureconnect relay on "+storage,
			"%s: the output chain of %s stops coturn's packets to %s port %d", gone, storage, host, r.MediaPort)
	case rise(host, counterDropped) >= lostProbes/2:
		return fail("media_port in ports.yml, and nft list chain inet secureconnect input on "+host,
			"%s: the firewall of %s drops what comes to its media port %d", gone, host, r.MediaPort)
	case rise(storage, counterDropped) >= lostProbes/2:
		return fail("relay_port_min and relay_port_max in ports.yml, and nft list chain inet secureconnect input on "+storage,
			"%s: the firewall of %s drops the answers: its relay range is closed to %s", gone, storage, host)
	case rise(host, counterMedia) > 0 && back == 0:
		return fail("docker compose ps video on "+host+", and ss -lunp there",
			"%s: they are let in at its media port %d, and nobody answers", gone, r.MediaPort)
	case back > 0:
		return fail(tables, "%s: the network, or a full buffer, loses the others", gone)
	default:
		return fail("addresses, and the network between "+storage+" and "+host+"; "+tables,
			"%s: they leave %s and do not arrive at %s", gone, storage, host)
	}
}

// countBoth reads the counters of an app host and of coturn's.
func (r *relay) countBoth(ctx context.Context, host string) (map[string]tally, error) {
	both := map[string]tally{}
	for _, name := range []string{host, r.first("storage")} {
		counted, problem := r.counters(ctx, name)
		if problem != nil {
			return nil, problem
		}
		both[name] = counted
	}
	return both, nil
}

// sendSome sends probes that nobody waits for.
func (r *relay) sendSome(ctx context.Context, host string) error {
	a, err := r.reach(ctx, calls.OverUDP)
	if err != nil {
		return err
	}
	defer a.close()
	at, err := r.permits(a, host)
	if err != nil {
		return err
	}
	for range lostProbes {
		one := newProbe()
		if _, err := a.relay.WriteTo(one[:], at); err != nil {
			break // coturn gives up a relay socket that the firewall has stopped
		}
	}
	select {
	case <-ctx.Done():
	case <-time.After(lostTime):
	}
	return nil
}

// peer is an address that coturn must not relay to.
type peer struct {
	name string
	ip   net.IP
}

// strangers are all addresses of the inventory that are no app host, coturn's own loopback, and one that
// is nobody's (RFC 5737).
func (r *relay) strangers() []peer {
	var apps []string
	for _, host := range r.Groups["app"] {
		apps = append(apps, r.Hosts[host].Address)
	}
	found := []peer{{"coturn's loopback", net.IPv4(127, 0, 0, 1)}, {"the internet", net.ParseIP("192.0.2.1")}}
	for _, host := range r.HostNames() {
		h := r.Hosts[host]
		for _, address := range slices.Compact([]string{h.Address, h.PublicAddress}) {
			if ip := net.ParseIP(address); ip != nil && !slices.Contains(apps, address) && !slices.Contains(r.Groups["app"], host) {
				found = append(found, peer{host, ip})
			}
		}
	}
	return found
}

func (r *relay) refusesPeers(ctx context.Context) (string, error) {
	a, err := r.reach(ctx, calls.OverUDP)
	if err != nil {
		return "", err
	}
	defer a.close()
	var wrong several
	var names []string
	for _, stranger := range r.strangers() {
		err := a.client.CreatePermission(&net.UDPAddr{IP: stranger.ip, Port: r.MediaPort})
		if problem := refusedPeer(stranger, err); problem != nil {
			wrong = append(wrong, problem)
		}
		names = append(names, stranger.name)
	}
	if len(wrong) > 0 {
		return "", wrong
	}
	return "coturn refuses with 403 to relay to " + listing(names), nil
}

// refusedPeer judges the answer to a request to relay to a stranger. Only 403 is a refusal: any other
// error may be gone tomorrow.
func refusedPeer(stranger peer, err error) *Failure {
	const look = "denied-peer-ip and allowed-peer-ip in roles/coturn (ranges are a-b; CIDR is ignored)"
	switch code := turnCode(err); {
	case code == int(stun.CodeForbidden):
		return nil
	case err == nil:
		return &Failure{Cause: fmt.Sprintf("coturn relays to %s at %s", stranger.name, stranger.ip), Look: look}
	default:
		return &Failure{Cause: fmt.Sprintf("coturn answers a request to relay to %s at %s with %v, not with 403", stranger.name, stranger.ip, err), Look: look}
	}
}

func (r *relay) setTraps(ctx context.Context) error {
	for _, host := range r.Groups["app"] {
		t, err := r.setTrap(ctx, host)
		if err != nil {
			return err
		}
		r.traps = append(r.traps, t)
	}
	return nil
}

func (r *relay) takeTraps() {
	for _, t := range r.traps {
		_, _ = t.stop() // whoever wanted its count has it
	}
}

// refusesPorts: coturn's peer rules know addresses and no ports, so a firewall beside it must. What is sent to the port beside the media
// port must never arrive. Probes to the media port, sent later, show that it would have arrived by then.
func (r *relay) refusesPorts(ctx context.Context) (string, error) {
	before, err := r.countRelayDrops(ctx)
	if err != nil {
		return "", err
	}
	for _, t := range r.traps {
		if err := r.knockBeside(ctx, t); err != nil {
			return "", err
		}
	}
	ports, err := r.countTraps()
	if err != nil {
		return "", err
	}
	after, err := r.countRelayDrops(ctx)
	if err != nil {
		return "", err
	}
	if rise := after - before; rise < len(r.traps) {
		return "", fail("nft list chain inet secureconnect output on "+listing(r.Groups["storage"]),
			"packets to %s were lost, but the output chain stopped only %d of them", listing(ports), rise)
	}
	return "the firewall beside coturn stops relayed packets to " + listing(ports), nil
}

// knockBeside uses one allocation for the trap and another for the probes after it: coturn gives up a relay socket that the firewall has
// stopped.
func (r *relay) knockBeside(ctx context.Context, t *trap) error {
	knocker, err := r.reach(ctx, calls.OverUDP)
	if err != nil {
		return err
	}
	defer knocker.close()
	if _, err := r.permits(knocker, t.host); err != nil {
		return err
	}
	for range 10 {
		if _, err := knocker.relay.WriteTo(append(slices.Clone(t.nonce), make([]byte, probeSize)...), t.at); err != nil {
			return fmt.Errorf("send to %s through the relay: %w", t.at, err)
		}
	}
	_, err = r.carries(ctx, calls.OverUDP, t.host)
	return err
}

func (r *relay) countRelayDrops(ctx context.Context) (int, error) {
	total := 0
	for _, host := range r.Groups["storage"] {
		counted, problem := r.counters(ctx, host)
		if problem != nil {
			return 0, problem
		}
		if _, ok := counted[counterRelay]; !ok {
			return 0, fail("roles/firewall", "the firewall of %s has no counter %s", host, counterRelay)
		}
		total += counted[counterRelay]
	}
	return total, nil
}

// countTraps takes the traps away and returns the ports where nothing arrived.
func (r *relay) countTraps() ([]string, error) {
	var ports []string
	for _, t := range r.traps {
		trapped, err := t.stop()
		if err != nil {
			return nil, err
		}
		if trapped > 0 {
			return nil, fail("roles/firewall (the output chain of coturn on "+r.first("storage")+")",
				"%d packets reached %s port %d through the relay; only port %d is for calls", trapped, t.host, t.at.Port, r.MediaPort)
		}
		ports = append(ports, fmt.Sprintf("%s port %d", t.host, t.at.Port))
	}
	return ports, nil
}

// refusesCredentials tries one that nobody with the secret made, and one that ended a minute ago.
func (r *relay) refusesCredentials(ctx context.Context) (string, error) {
	tries := map[string]credential{"a forged": credentialFor(turnSecret(bytes.Repeat([]byte("x"), 40)), "verify", time.Now().Add(time.Hour))}
	refused := "a forged credential is refused with 401"
	if secret, err := r.turnSecret(ctx); err == nil {
		tries["an expired"] = credentialFor(secret, "verify", time.Now().Add(-time.Minute))
		refused = "a forged and an expired credential are refused with 401"
	}
	var wrong []string
	for name, c := range tries {
		a, err := r.allocate(ctx, calls.OverUDP, c)
		var no *refusedTURN
		switch {
		case err == nil:
			a.close()
			wrong = append(wrong, "coturn accepts "+name+" credential")
		case !errors.As(err, &no):
			return "", err
		}
	}
	if len(wrong) > 0 {
		return "", fail("use-auth-secret and static-auth-secret in coturn's configuration on "+r.first("storage"), "%s", strings.Join(wrong, "; "))
	}
	return refused, nil
}
