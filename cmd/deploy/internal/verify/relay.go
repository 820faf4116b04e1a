package verify

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/pion/stun/v4"
)

// Packets sent through the relay by each way in, and how many may be under way at once: a call sends
// hundreds a second, and a burst would measure the buffers of the two ends instead.
const (
	packetSize = 1000
	underWay   = 16
)

var packets = map[string]int{"udp": 200, "tcp": 60, "tls": 60}

func climbRelay(ctx context.Context, s *site, p *proofs) {
	var secret turnSecret
	if !p.prove(ctx, "secret", "secrets_file", func(ctx context.Context) (string, error) {
		var err error
		secret, err = s.turnSecret(ctx)
		return "turn_secret is at hand", err
	}) {
		return
	}
	r := &relay{site: s, secret: secret}
	defer r.stopEchoes()
	// The echoes live as long as the rung, not as the check that starts them.
	if !p.prove(ctx, "echo", "media_port", func(context.Context) (string, error) { return r.startEchoes(ctx) }) {
		return
	}
	passable := false
	for i, way := range ways {
		e := r.echoes[i%len(r.echoes)]
		passable = p.prove(ctx, "relay over "+way, "docker compose logs coturn on "+s.first("storage"), func(ctx context.Context) (string, error) {
			return r.carries(ctx, way, e)
		}) || passable
	}
	if !passable {
		return // no relay is no proof that a relay refuses
	}
	p.prove(ctx, "other peers", "roles/coturn (denied-peer-ip)", r.refusesPeers)
	p.prove(ctx, "other ports", "roles/firewall (the output chain of coturn)", r.refusesPorts)
	p.prove(ctx, "credentials", "roles/coturn (use-auth-secret)", r.refusesCredentials)
}

// relay proves that a call's packets pass through coturn, and nothing else's.
type relay struct {
	*site
	secret turnSecret
	echoes []*echo // one an app host
}

// ways are the ways in to coturn.
var ways = []string{"udp", "tcp", "tls"}

func (r *relay) credential() credential {
	// A name of its own each time: coturn's quota counts what earlier ladders have not given back yet.
	return credentialFor(r.secret, "verify-"+random(6), time.Now().Add(10*time.Minute))
}

func (r *relay) startEchoes(ctx context.Context) (string, error) {
	for _, host := range r.Groups["app"] {
		nonce := make([]byte, 16)
		_, _ = rand.Read(nonce) // never errs
		e, err := r.startEcho(ctx, host, nonce)
		if err != nil {
			return "", err
		}
		r.echoes = append(r.echoes, e)
	}
	return fmt.Sprintf("an echo starts on the media port of %s", listing(r.Groups["app"])), nil
}

func (r *relay) stopEchoes() {
	for _, e := range r.echoes {
		_, _ = e.stop() // whoever wanted its count has it
	}
}

// carries sends random packets to an echo through the relay and wants every one of them back unchanged.
func (r *relay) carries(ctx context.Context, way string, e *echo) (string, error) {
	a, err := r.allocate(ctx, way, r.credential())
	if err != nil {
		return "", err
	}
	defer a.close()
	if err := r.advertised(a.relayed()); err != nil {
		return "", err
	}
	if err := r.permits(a, e); err != nil {
		return "", err
	}
	if err := r.awaitEcho(ctx, a, e); err != nil {
		return "", err
	}
	n := packets[way]
	back, worst, err := exchange(ctx, a.relay, e, n)
	if err != nil {
		return "", err
	}
	if back < n {
		return "", fail("relay_port_min and relay_port_max in ports.yml; nft list counters table inet secureconnect on "+e.host,
			"%d of %d packets came back from %s through the relay", back, n, e.host)
	}
	return fmt.Sprintf("%d packets of %d bytes went to %s and came back unchanged, relayed from %s; the slowest took %d ms",
		n, packetSize, e.host, a.relayed(), worst.Milliseconds()), nil
}

// advertised: browsers send to the address that the server names, so it must be the one that leads there.
func (r *relay) advertised(relayed *net.UDPAddr) error {
	if !relayed.IP.Equal(net.ParseIP(r.Turn.PublicAddress)) {
		return fail("public_addresses (coturn's external-ip)", "the relayed address is %s and not the public %s", relayed.IP, r.Turn.PublicAddress)
	}
	if relayed.Port < r.Turn.RelayMin || relayed.Port > r.Turn.RelayMax {
		return fail("relay_port_min and relay_port_max in ports.yml", "the relayed port %d is not in %d-%d", relayed.Port, r.Turn.RelayMin, r.Turn.RelayMax)
	}
	return nil
}

func (r *relay) permits(a *allocation, e *echo) error {
	err := a.client.CreatePermission(e.media)
	if err == nil {
		return nil
	}
	if turnCode(err) == int(stun.CodeForbidden) {
		return fail("addresses (coturn allows the app hosts as peers)", "coturn refuses to relay to %s at %s", e.host, e.media.IP)
	}
	return fmt.Errorf("ask to relay to %s: %w", e.host, err)
}

// awaitEcho knocks until the echo, which is still starting, answers.
func (r *relay) awaitEcho(ctx context.Context, a *allocation, e *echo) error {
	ctx, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		back, _, err := exchangeWithin(ctx, a.relay, e, 1, 150*time.Millisecond)
		if err != nil {
			return err
		}
		if back == 1 {
			return nil
		}
		select {
		case <-e.done:
			_, err := e.stop()
			return errors.Join(err, fail("python3 on "+e.host, "the echo on %s ended early", e.host))
		default:
		}
	}
	return fail(fmt.Sprintf("media_port in ports.yml; nft list table inet secureconnect on %s and on %s", e.host, r.first("storage")),
		"nothing comes back from %s on %s through the relay", e.media, e.host)
}

// exchange keeps a few packets under way until all have been sent, and counts those that came back.
func exchange(ctx context.Context, relay net.PacketConn, e *echo, n int) (int, time.Duration, error) {
	return exchangeWithin(ctx, relay, e, n, 2*time.Second)
}

// exchangeWithin gives up when nothing comes back for as long as patience.
func exchangeWithin(ctx context.Context, relay net.PacketConn, e *echo, n int, patience time.Duration) (back int, worst time.Duration, err error) {
	sent := map[[sha256.Size]byte]time.Time{}
	buffer := make([]byte, 2*packetSize)
	for total := 0; back < n; {
		for ; total < n && len(sent) < underWay; total++ {
			packet := e.packet()
			sent[sha256.Sum256(packet)] = time.Now()
			if _, err := relay.WriteTo(packet, e.media); err != nil {
				return back, worst, fmt.Errorf("send to %s through the relay: %w", e.host, err)
			}
		}
		if err := relay.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return back, worst, err
		}
		size, _, err := relay.ReadFrom(buffer)
		var late net.Error
		if errors.As(err, &late) && late.Timeout() || ctx.Err() != nil {
			return back, worst, nil
		}
		if err != nil {
			return back, worst, fmt.Errorf("receive from %s through the relay: %w", e.host, err)
		}
		hash := sha256.Sum256(buffer[:size])
		began, ours := sent[hash]
		if !ours {
			continue // an answer to an earlier knock
		}
		delete(sent, hash)
		back, worst = back+1, max(worst, time.Since(began))
	}
	return back, worst, nil
}

// packet is random but for the nonce that the echo knows it by.
func (e *echo) packet() []byte {
	packet := make([]byte, packetSize)
	_, _ = rand.Read(packet) // never errs
	copy(packet, e.nonce)
	return packet
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
	a, err := r.allocate(ctx, "udp", r.credential())
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

// counterRelay counts what the firewall's output chain stops of coturn's.
const counterRelay = "drop_relay"

// refusesPorts: coturn's peer rules know addresses and no ports, so a firewall beside it must. What is sent
// to the port beside the media port must never arrive. An exchange on the media port, begun later, shows
// that it would have arrived by then.
func (r *relay) refusesPorts(ctx context.Context) (string, error) {
	before, err := r.countRelayDrops(ctx)
	if err != nil {
		return "", err
	}
	for _, e := range r.echoes {
		if err := r.knockBeside(ctx, e); err != nil {
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
	if rise := after - before; rise < len(r.echoes) {
		return "", fail("nft list chain inet secureconnect output on "+listing(r.Groups["storage"]),
			"packets to %s were lost, but the output chain stopped only %d of them", listing(ports), rise)
	}
	return "the firewall beside coturn stops relayed packets to " + listing(ports), nil
}

// knockBeside uses one allocation for the trap and another for the exchanges before and after it: coturn
// gives up a relay socket that the firewall has stopped.
func (r *relay) knockBeside(ctx context.Context, e *echo) error {
	witness, err := r.allocate(ctx, "udp", r.credential())
	if err != nil {
		return err
	}
	defer witness.close()
	if err := r.awaitEcho(ctx, witness, e); err != nil {
		return err
	}
	knocker, err := r.allocate(ctx, "udp", r.credential())
	if err != nil {
		return err
	}
	defer knocker.close()
	if err := r.permits(knocker, e); err != nil {
		return err
	}
	for range 10 {
		if _, err := knocker.relay.WriteTo(e.packet(), e.trap); err != nil {
			return fmt.Errorf("send to %s through the relay: %w", e.trap, err)
		}
	}
	return r.awaitEcho(ctx, witness, e)
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

// countTraps stops the echoes, reads what they saw and returns the ports where nothing arrived.
func (r *relay) countTraps() ([]string, error) {
	var ports []string
	for _, e := range r.echoes {
		count, err := e.stop()
		if err != nil {
			return nil, err
		}
		if count.Trapped > 0 {
			return nil, fail("roles/firewall (the output chain of coturn on "+r.first("storage")+")",
				"%d packets reached %s port %d through the relay; only port %d is for calls", count.Trapped, e.host, e.trap.Port, e.media.Port)
		}
		if !r.knownSenders(count.Senders) {
			return nil, fail("public_addresses", "%s saw relayed packets come from %s, which is no address of the storage hosts", e.host, listing(count.Senders))
		}
		ports = append(ports, fmt.Sprintf("%s port %d", e.host, e.trap.Port))
	}
	return ports, nil
}

func (r *relay) knownSenders(senders []string) bool {
	var known []string
	for _, host := range r.Groups["storage"] {
		known = append(known, r.Hosts[host].Address, r.Hosts[host].PublicAddress)
	}
	return !slices.ContainsFunc(senders, func(address string) bool { return !slices.Contains(known, address) })
}

// refusesCredentials tries one made with another secret and one that ended a minute ago.
func (r *relay) refusesCredentials(ctx context.Context) (string, error) {
	forged := credentialFor(turnSecret(bytes.Repeat([]byte("x"), 40)), "verify", time.Now().Add(time.Hour))
	expired := credentialFor(r.secret, "verify", time.Now().Add(-time.Minute))
	var wrong []string
	for name, c := range map[string]credential{"a forged": forged, "an expired": expired} {
		a, err := r.allocate(ctx, "udp", c)
		var refused *refusedTURN
		switch {
		case err == nil:
			a.close()
			wrong = append(wrong, "coturn accepts "+name+" credential")
		case !errors.As(err, &refused):
			return "", err
		}
	}
	if len(wrong) > 0 {
		return "", fail("use-auth-secret in coturn's configuration, and the secrets beside it, on "+r.first("storage"), "%s", strings.Join(wrong, "; "))
	}
	return "a forged and an expired credential are refused with 401", nil
}
