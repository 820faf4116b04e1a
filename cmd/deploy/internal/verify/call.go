package verify

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pion/stun/v4"
	"golang.org/x/sync/errgroup"

	"secureconnect/services/client"
	"secureconnect/services/client/calls"
	"secureconnect/services/client/e2ee"
	"secureconnect/services/client/e2ee/frames"
)

// climbCall lets two people call each other as their clients do, each on another app host, over each way in to coturn; and tries what coturn
// must refuse.
func climbCall(ctx context.Context, s *site, p *proofs) {
	g := &guests{site: s}
	defer g.leave(ctx, p)
	c := &dialling{talk: &talk{site: s}, sends: soundAndPicture, patience: 8 * time.Second}
	defer c.hangUp()
	defer c.leave()
	apps := s.Groups["app"]
	log := "docker compose logs video on " + listing(apps)
	if !p.prove(ctx, "people", "docker compose logs chat auth on "+listing(apps), func(ctx context.Context) (string, error) { return c.gather(ctx, g) }) ||
		!p.prove(ctx, "ring", log, c.rings) {
		return
	}
	p.prove(ctx, "outsider", log, c.outsiderRefused)
	if !p.prove(ctx, "join", log, c.joins) {
		return
	}
	r := &relay{site: s, issued: c.issued}
	defer r.takeTraps()
	open := c.relays(ctx, p, r)
	c.talks(ctx, p, open)
	if len(open) > 0 { // no relay is no proof that a relay refuses
		p.together(ctx,
			step{"other peers", "roles/coturn (denied-peer-ip)", r.refusesPeers},
			step{"other ports", "roles/firewall (the output chain of coturn)", r.refusesPorts},
			step{"credentials", "roles/coturn (use-auth-secret)", r.refusesCredentials},
		)
	}
	p.prove(ctx, "call log", "docker compose logs video on "+listing(apps)+", and cassandra on "+s.first("db"), c.logged)
}

// dialling is two people who call each other, and somebody who is not asked.
type dialling struct {
	*talk
	stranger *visitor
	sends    func() []calls.Track
	patience time.Duration // for what is to be heard

	call client.CallID   // the one that goes on
	had  []client.CallID // that both were in
	near *calls.Call     // the writer's, who calls
	far  *calls.Call     // the reader's

	nearKeys, farKeys calls.Keys // the machines of both

	issued issued
}

// gather makes the three, and keys for two.
func (d *dialling) gather(ctx context.Context, g *guests) (string, error) {
	apps := d.Groups["app"]
	if _, err := d.meet(ctx, g, []string{apps[0], apps[len(apps)-1], apps[0]}); err != nil {
		return "", err
	}
	d.stranger = g.made[len(g.made)-1]
	if _, err := d.makeKeys(ctx); err != nil {
		return "", err
	}
	d.nearKeys, d.farKeys = d.writing.machine, d.reading.machine
	return fmt.Sprintf("one person on %s and one on %s have a conversation and keys; a third is not in it", d.writer.host, d.reader.host), nil
}

// rings begins a call, and waits until it rings at the other.
func (d *dialling) rings(ctx context.Context) (string, error) {
	began := time.Now()
	call, _, err := d.writer.api.BeginCall(ctx, d.writer.tokens.AccessToken, client.CallRequest{
		ConversationID: d.with, ClientID: newMessageID(), Media: "video",
	})
	if err != nil {
		return "", d.writer.explain("begin a call", err)
	}
	d.call = call.ID
	told, cancel := context.WithTimeout(ctx, d.patience)
	defer cancel()
	for {
		select {
		case <-d.reading.calls:
			if ringing, err := d.ringing(ctx, call.ID); err != nil || ringing {
				return fmt.Sprintf("a call begun on %s rings on %s after %d ms", d.writer.host, d.reader.host, time.Since(began).Milliseconds()), err
			}
		case <-told.Done():
			if ringing, err := d.ringing(ctx, call.ID); err != nil || !ringing {
				return "", errors.Join(err, fail("", "a call begun on %s does not ring on %s", d.writer.host, d.reader.host))
			}
			return "", fail("docker compose logs chat on "+d.reader.host+", and redis on "+d.first("db"),
				"a call begun on %s is to ring on %s, but the device there is not told of it", d.writer.host, d.reader.host)
		}
	}
}

// ringing asks whether a call rings for the reader.
func (d *dialling) ringing(ctx context.Context, id client.CallID) (bool, error) {
	ongoing, _, err := d.reader.api.OngoingCalls(ctx, d.reader.tokens.AccessToken)
	if err != nil {
		return false, d.reader.explain("list calls", err)
	}
	return slices.ContainsFunc(ongoing, func(one client.Call) bool {
		return one.ID == id && stateOf(one, d.reader.tokens.User.ID) == "ringing"
	}), nil
}

func stateOf(call client.Call, user client.UserID) string {
	for _, member := range call.Members {
		if member.UserID == user {
			return member.State
		}
	}
	return ""
}

// outsiderRefused: who is not in the conversation learns of no call there, and is not let in.
func (d *dialling) outsiderRefused(ctx context.Context) (string, error) {
	token := d.stranger.tokens.AccessToken
	_, _, err := d.stranger.api.FindCall(ctx, token, d.call)
	problem := new(client.Problem)
	switch {
	case err == nil:
		return "", fail("services/video", "who is not in the conversation is shown its call")
	case !errors.As(err, &problem) || problem.Status != http.StatusNotFound:
		return "", d.stranger.explain("look at a call of others", err)
	}
	c, err := calls.Join(ctx, d.call, calls.Options{
		Client: d.stranger.api, Self: e2ee.Peer{User: d.stranger.tokens.User.ID, Device: d.stranger.tokens.DeviceID}, Keys: nobody{},
		Token: func(context.Context) (string, error) { return token, nil },
	})
	if err == nil {
		_ = c.Leave(ctx) // that it was in is told
		return "", fail("services/video", "who is not in the conversation is let in to its call")
	}
	if !errors.As(err, &problem) || problem.Code != "no_such_call" {
		return "", d.stranger.explain("join a call of others", err)
	}
	return "who is not in the conversation finds no call there and is not let in", nil
}

// nobody is given keys, and gives none.
type nobody struct{}

func (nobody) SendCallKey(context.Context, client.CallKey, []e2ee.Peer) (map[e2ee.Peer]error, error) {
	return nil, errors.New("an outsider has nobody to give keys to")
}

func (nobody) CallKeys(client.CallID, func(e2ee.Peer, client.CallKey)) (stop func()) {
	return func() {}
}

// joins has both join the call that rings, and looks at the credentials that they get.
func (d *dialling) joins(ctx context.Context) (string, error) {
	began := time.Now()
	if err := d.enter(ctx, calls.OverUDP); err != nil {
		return "", err
	}
	joined := time.Since(began)
	issuer, ice := d.near.Look().Host, d.near.ICE()
	if err := d.judgeICE(issuer, ice); err != nil {
		return "", err
	}
	d.issued = issued{credential{ice.Servers[0].Username, ice.Servers[0].Credential}, issuer}
	return fmt.Sprintf("both are in after %d ms; the call lives on %s, which gives credentials for %s over UDP, TCP and TLS, good for %s",
		joined.Milliseconds(), issuer, d.Names.Turn, time.Until(ice.ExpiresAt).Round(time.Second)), nil
}

// judgeICE wants credentials, and each way in to coturn where the description says it is.
func (d *dialling) judgeICE(issuer string, ice client.ICE) error {
	look := fmt.Sprintf("TURN_HOST, TURN_PORT, TURN_TLS_PORT and TURN_SECRET_FILE of video on %s (public_domain, turn_port, turn_tls_port, secrets_file)", issuer)
	if len(ice.Servers) == 0 || ice.Servers[0].Username == "" || ice.Servers[0].Credential == "" {
		return fail(look, "the API gives no credentials for the TURN server: video on %s is not told of it", issuer)
	}
	wanted := map[string]string{
		calls.OverUDP: fmt.Sprintf("turn:%s:%d?transport=udp", d.Names.Turn, d.Turn.Port),
		calls.OverTCP: fmt.Sprintf("turn:%s:%d?transport=tcp", d.Names.Turn, d.Turn.Port),
		calls.OverTLS: fmt.Sprintf("turns:%s:%d?transport=tcp", d.Names.Turn, d.Turn.TLSPort),
	}
	for _, way := range ways {
		u, err := stun.ParseURI(wanted[way])
		if err != nil {
			return fmt.Errorf("write the URL of %s: %w", d.Names.Turn, err)
		}
		if !slices.ContainsFunc(ice.Servers[0].URLs, func(text string) bool {
			given, err := stun.ParseURI(text)
			return err == nil && *given == *u
		}) {
			return fail(look, "the API names no TURN server over %s at %s; it names %s", way, wanted[way], listing(ice.Servers[0].URLs))
		}
	}
	return nil
}

// enter has both join the call with sound and picture, over one way in to coturn.
func (d *dialling) enter(ctx context.Context, way string) error {
	var joining errgroup.Group
	join := func(v *visitor, keys calls.Keys, into **calls.Call) {
		joining.Go(func() error {
			c, err := calls.Join(ctx, d.call, calls.Options{
				Client: v.api, Self: e2ee.Peer{User: v.tokens.User.ID, Device: v.tokens.DeviceID}, Keys: keys,
				Token: func(context.Context) (string, error) { return v.tokens.AccessToken, nil },
				Ways:  []string{way}, TurnAddress: v.Turn.PublicAddress, RootCAs: v.roots, Send: d.sends(),
			})
			if err != nil {
				return d.unjoined(v, err)
			}
			*into = c
			return nil
		})
	}
	join(d.writer, d.nearKeys, &d.near)
	join(d.reader, d.farKeys, &d.far)
	return joining.Wait()
}

func (d *dialling) unjoined(v *visitor, err error) error {
	problem := new(client.Problem)
	if errors.As(err, &problem) {
		return v.explain("join the call on "+v.host, err)
	}
	return fail("docker compose logs video gateway on "+v.host+", and nginx on "+v.lb, "the socket of the call on %s does not come to be: %v", v.host, err)
}

// soundAndPicture is noise as a browser's frames are long: 32 and 100 kbit a second.
func soundAndPicture() []calls.Track {
	return []calls.Track{
		{Source: sourceSound, Layers: []calls.Media{calls.Noise(frames.Audio, 80, 20*time.Millisecond)}},
		{Source: sourcePicture, Layers: []calls.Media{calls.Noise(frames.Video, 600, 50*time.Millisecond)}},
	}
}

// What is sent, as services/video/PROTOCOL.md calls it.
const (
	sourceSound   = "microphone"
	sourcePicture = "camera"
)

// leave ends the call for both.
func (d *dialling) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var leaving sync.WaitGroup
	for _, c := range []*calls.Call{d.near, d.far} {
		if c != nil {
			leaving.Go(func() { _ = c.Leave(ctx) }) // the platform notices by itself
		}
	}
	leaving.Wait()
	d.near, d.far = nil, nil
}

// relays tries each way in with probes, to one app host after the other, and gives those that are open.
func (d *dialling) relays(ctx context.Context, p *proofs, r *relay) (open []string) {
	p.prove(ctx, "traps", "python3 on "+listing(d.Groups["app"]), func(context.Context) (string, error) {
		// They stand as long as the rung, not as the check that sets them.
		return fmt.Sprintf("one is set beside the media port of %s", listing(d.Groups["app"])), r.setTraps(ctx)
	})
	for i, way := range ways {
		host := d.Groups["app"][i%len(d.Groups["app"])]
		if p.prove(ctx, "relay over "+way, "docker compose logs coturn on "+d.first("storage"), func(ctx context.Context) (string, error) {
			return r.carries(ctx, way, host)
		}) {
			open = append(open, way)
		}
	}
	return open
}

// talks lets them talk over each way that is open, in a call of its own; the first goes on.
func (d *dialling) talks(ctx context.Context, p *proofs, open []string) {
	log := "docker compose logs video on " + listing(d.Groups["app"])
	for _, way := range open {
		if !p.prove(ctx, "call over "+way, log, func(ctx context.Context) (string, error) { return d.hear(ctx, way) }) {
			d.leave()
			continue
		}
		if way == calls.OverUDP {
			p.prove(ctx, "resume", log, d.resumes)
		}
		d.had = append(d.had, d.call)
		d.leave()
	}
	d.leave()
}

// enough is heard and seen in a second and some.
const (
	enoughSound   = 50
	enoughPicture = 20
)

// hear has both in a call over a way, and waits until each has heard and seen enough of the other.
func (d *dialling) hear(ctx context.Context, way string) (string, error) {
	if d.near == nil || way != calls.OverUDP { // one call is over UDP already
		d.leave()
		if _, err := d.rings(ctx); err != nil {
			return "", err
		}
		if err := d.enter(ctx, way); err != nil {
			return "", err
		}
	}
	patience, cancel := context.WithTimeout(ctx, d.patience)
	defer cancel()
	for _, c := range []*calls.Call{d.near, d.far} {
		if err := c.Await(patience, func(s calls.State) bool {
			sound, picture := heardIn(s)
			return sound.Frames >= enoughSound && picture.Frames >= enoughPicture
		}); err != nil {
			return "", d.silent(way)
		}
	}
	return d.judge(way)
}

// heardIn is what has come of sound and picture.
func heardIn(s calls.State) (sound, picture calls.Received) {
	for of, r := range s.Received {
		into := &sound
		if of.Kind == frames.Video {
			into = &picture
		}
		into.Frames += r.Frames
		into.Gap = max(into.Gap, r.Gap)
	}
	return sound, picture
}

// judge wants all four paths relayed, over the way that was asked for, from the advertised address.
func (d *dialling) judge(way string) (string, error) {
	near, far := d.near.Look(), d.far.Look()
	var from []string
	for _, path := range []calls.Path{near.Up, near.Down, far.Up, far.Down} {
		if path.Type != "relay" || path.Protocol != way {
			return "", fail("media_port in ports.yml (storage only), and nft list table inet secureconnect on "+listing(d.Groups["app"]),
				"media of a call that was to be relayed over %s run from a %s candidate, %s, over %q", way, path.Type, path.Local, path.Protocol)
		}
		if err := (&relay{site: d.site}).advertised(net.UDPAddrFromAddrPort(path.Local)); err != nil {
			return "", err
		}
		from = append(from, path.Local.String())
	}
	there, back := countOf(far), countOf(near)
	return fmt.Sprintf("%d encrypted frames went from %s to %s and %d came back, the first after %d and %d ms, all relayed by %s",
		there, d.writer.host, d.reader.host, back, far.FirstFrame.Milliseconds(), near.FirstFrame.Milliseconds(), listing(from)), nil
}

func countOf(s calls.State) uint64 {
	sound, picture := heardIn(s)
	return sound.Frames + picture.Frames
}

// silent says why they do not hear each other.
func (d *dialling) silent(way string) error {
	near, far := side{d.writer, d.near.Look()}, side{d.reader, d.far.Look()}
	for _, s := range []side{near, far} {
		if err := s.unlinked(); err != nil {
			return err
		}
	}
	for _, s := range []side{near, far} {
		if err := s.unconnected(way); err != nil {
			return err
		}
	}
	if countOf(far.now) < countOf(near.now) {
		near, far = far, near // who hears least tells most
	}
	return near.deaf(far)
}

// side is one of the two in a call, and how it stands with them.
type side struct {
	*visitor
	now calls.State
}

func (s side) video() string { return "docker compose logs video on " + s.now.Host }

// unlinked fails where the socket does not work.
func (s side) unlinked() error {
	if s.now.Phase != calls.PhaseOver && s.now.Linked {
		return nil
	}
	return fail(s.video()+", and gateway on "+s.host, "the socket of the call on %s does not last: %v", s.host, s.now.Trouble)
}

// unconnected fails where a media connection does not work, though signalling does and probes pass.
func (s side) unconnected(way string) error {
	for name, path := range map[string]calls.Path{"up": s.now.Up, "down": s.now.Down} {
		switch {
		case path.State == "connected":
			continue
		case path.GatherEnded && path.Gathered == 0:
			return fail("docker compose logs coturn on "+s.first("storage"),
				"signalling works and probes pass over %s, but for its connection %s the client on %s is given no relay: %v", way, name, s.host, orNothing(s.now.Trouble))
		default:
			return fail(s.video()+", and media_port",
				"signalling works and probes pass over %s, but no media connection %s comes to be on %s: it is %q with %d relays", way, name, s.host, path.State, path.Gathered)
		}
	}
	return nil
}

func orNothing(err error) string {
	if err == nil {
		return "nothing is said of why"
	}
	return err.Error()
}

// deaf says why little or nothing of the other is heard, though the connections work.
func (s side) deaf(other side) error {
	heard := countOf(s.now)
	sound, picture := heardIn(s.now)
	lost := s.now.Unheard
	switch {
	case lost.NoKey > heard:
		return fail("docker compose logs auth on "+listing(s.Groups["app"])+" (keys travel through /v1/keys)",
			"frames come from %s to %s, and %d of them cannot be decrypted: their keys do not arrive%s", other.host, s.host, lost.NoKey, other.untrusting())
	case lost.Forged > heard:
		return fail(s.video(), "frames come from %s to %s, and %d of them are not as they were sent: their keys do not open them", other.host, s.host, lost.Forged)
	case heard == 0 && countOf(other.now) > 0:
		return fail(s.video(), "media pass one way only: what is sent on %s reaches nobody on %s, while the other way %d frames came", other.host, s.host, countOf(other.now))
	case heard == 0:
		return fail(s.video(), "signalling works and the media connections are there, but no frame comes from %s to %s: the SFU on %s forwards nothing", other.host, s.host, s.now.Host)
	default:
		return fail(s.video(), "only %d frames of sound and %d of picture came from %s to %s in time; %d packets were lost",
			sound.Frames, picture.Frames, other.host, s.host, lost.LostPackets)
	}
}

// untrusting tells whom a side gave no keys, and why.
func (s side) untrusting() string {
	var reasons []string
	for peer, err := range s.now.Untrusted {
		reasons = append(reasons, fmt.Sprintf("%s gives none to device %s: %v", s.host, peer.Device, err))
	}
	slices.Sort(reasons)
	if len(reasons) == 0 {
		return ""
	}
	return " (" + strings.Join(reasons, "; ") + ")"
}

// resumes cuts the caller's socket: the call comes back by itself, and no frame is lost meanwhile.
func (d *dialling) resumes(ctx context.Context) (string, error) {
	before := d.near.Look()
	began := time.Now()
	d.near.Cut()
	if err := d.near.Await(ctx, func(s calls.State) bool { return s.Linked && s.Resumed+s.Rejoined > before.Resumed+before.Rejoined }); err != nil {
		return "", fail(side{now: d.near.Look()}.video(), "after its socket was cut, the call on %s does not come back: %v", d.writer.host, err)
	}
	took := time.Since(began)
	if s := d.near.Look(); s.Rejoined > before.Rejoined {
		return "", fail(side{now: s}.video(), "after its socket was cut, the device on %s is not known any more and had to join anew", d.writer.host)
	}
	heard := countOf(d.near.Look())
	if err := d.near.Await(ctx, func(s calls.State) bool { return countOf(s) >= heard+enoughPicture }); err != nil {
		return "", d.silent(calls.OverUDP)
	}
	after := d.near.Look()
	if lost := after.Unheard.LostPackets - before.Unheard.LostPackets; lost > 0 || after.Restarted > before.Restarted {
		return "", fail(side{now: after}.video(), "when its socket was cut, the call on %s lost %d packets", d.writer.host, lost)
	}
	return fmt.Sprintf("a socket that was cut is there again after %d ms, and media went on meanwhile", took.Milliseconds()), nil
}

// logged waits until both have every call in their log.
func (d *dialling) logged(ctx context.Context) (string, error) {
	if len(d.had) == 0 {
		return "", fail("", "no call came to be that could be in the log")
	}
	ctx, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	for _, v := range []*visitor{d.writer, d.reader} {
		for {
			page, _, err := v.api.CallHistory(ctx, v.tokens.AccessToken, "", 0)
			if err != nil && ctx.Err() == nil {
				return "", v.explain("read the call log", err)
			}
			missing := d.missing(page)
			if len(missing) == 0 && err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return "", fail("", "of %d calls, %d are not in the call log of who was called on %s, as answered ones", len(d.had), len(missing), v.host)
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	return fmt.Sprintf("both have the %d calls in their log, as answered", len(d.had)), nil
}

func (d *dialling) missing(page client.CallHistory) (missing []client.CallID) {
	for _, id := range d.had {
		if !slices.ContainsFunc(page.Calls, func(r client.CallRecord) bool {
			return r.CallID == id && r.Outcome == "answered" && r.StartedBy == d.writer.tokens.User.ID && !r.EndedAt.IsZero()
		}) {
			missing = append(missing, id)
		}
	}
	return missing
}
