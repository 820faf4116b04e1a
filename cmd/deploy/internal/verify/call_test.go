package verify

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"secureconnect/services/client"
	"secureconnect/services/client/calls"
	"secureconnect/services/client/calls/callstest"
	"secureconnect/services/client/e2ee"
)

const (
	linh client.UserID = "linh"
	mai  client.UserID = "mai"
)

// called is two people on a platform of the tests' own, in the middle of what the rung does.
func called(t *testing.T, setup callstest.Setup) (*dialling, *callstest.Platform) {
	t.Helper()
	setup.Members = []client.UserID{linh, mai}
	p := callstest.New(t, setup)
	desc := describedLoopback()
	desc.Names.Turn, desc.Turn.Port, desc.Turn.TLSPort = callstest.Name, p.TURN.Port, p.TURN.TLSPort
	s := surveyed(t, desc, nowhere)
	s.roots = p.TURN.Roots
	person := func(user client.UserID, host string) *visitor {
		self := callstest.Phone(user)
		token, err := callstest.Token(self)(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return &visitor{site: s, lb: "lb-01", host: host, api: p.Client(), tokens: client.Tokens{AccessToken: token, DeviceID: self.Device, User: client.User{ID: user}}}
	}
	d := &dialling{
		talk: &talk{site: s, writer: person(linh, "app-01"), reader: person(mai, "app-02")}, sends: soundAndPicture, patience: 20 * time.Second,
		call: callstest.Call, nearKeys: p.Post.Box(callstest.Phone(linh)), farKeys: p.Post.Box(callstest.Phone(mai)),
	}
	t.Cleanup(d.leave)
	return d, p
}

func TestCall_is_heard(t *testing.T) {
	t.Parallel()
	d, _ := called(t, callstest.Setup{})
	joined, err := d.joins(t.Context())
	if err != nil || !strings.Contains(joined, "good for 10m") || d.issued.host != callstest.Host || d.issued.username == "" {
		t.Fatalf("%s, %v, %+v", joined, err, d.issued)
	}
	if heard, err := d.hear(t.Context(), calls.OverUDP); err != nil || !strings.Contains(heard, "relayed by 127.0.0.1:") {
		t.Errorf("%s, %v", heard, err)
	}
	if resumed, err := d.resumes(t.Context()); err != nil {
		t.Errorf("%s, %v", resumed, err)
	}
}

// Whatever is broken of a call whose probes pass, the failure names it and where to look.
func TestCall_broken(t *testing.T) {
	connected := func(s calls.State) bool { return s.Up.State == "connected" && s.Down.State == "connected" }
	unread := func(s calls.State) bool { return s.Unheard.NoKey > 20 }
	for name, c := range map[string]struct {
		setup  callstest.Setup
		breaks func(*dialling, *callstest.Platform)
		near   func(calls.State) bool // how it stands with the one when it is judged; nil: however
		far    func(calls.State) bool // and with the other
		cause  []string
		look   string
	}{
		"the API gives no credentials": {
			callstest.Setup{ICE: func(client.ICE) client.ICE { return client.ICE{} }}, nil, nil, nil, []string{"the API gives no credentials"}, "TURN_SECRET_FILE",
		},
		"the API names another TURN server": {
			callstest.Setup{ICE: func(ice client.ICE) client.ICE {
				ice.Servers[0].URLs = []string{"turn:elsewhere.test:3478?transport=udp"}
				return ice
			}}, nil, nil, nil, []string{"names no TURN server over udp", "it names turn:elsewhere.test"}, "TURN_HOST",
		},
		"the API does not name TLS": {
			callstest.Setup{ICE: func(ice client.ICE) client.ICE {
				ice.Servers[0].URLs = ice.Servers[0].URLs[:2]
				return ice
			}}, nil, nil, nil, []string{"names no TURN server over tls"}, "TURN_TLS_PORT",
		},
		"the SFU forwards nothing": {
			callstest.Setup{Passes: func(_, _ client.UserID) bool { return false }}, nil, connected, connected,
			[]string{"signalling works", "no frame comes from app-02 to app-01", "forwards nothing"}, "docker compose logs video on app-01",
		},
		"media one way only": {
			callstest.Setup{Passes: func(from, _ client.UserID) bool { return from == linh }}, nil, connected,
			func(s calls.State) bool { return countOf(s) > 0 },
			[]string{"one way only", "what is sent on app-02 reaches nobody on app-01"}, "docker compose logs video",
		},
		"keys do not arrive": {
			callstest.Setup{}, func(_ *dialling, p *callstest.Platform) { p.Post.Fail(http.ErrServerClosed) }, unread, unread,
			[]string{"cannot be decrypted", "their keys do not arrive"}, "docker compose logs auth",
		},
		"a device is not trusted": {
			callstest.Setup{}, func(_ *dialling, p *callstest.Platform) { p.Post.Refuse(callstest.Phone(mai), e2ee.ErrUnsigned) },
			func(s calls.State) bool { return countOf(s) > 0 && len(s.Untrusted) > 0 }, unread,
			[]string{"frames come from app-01 to app-02", "cannot be decrypted", "app-01 gives none to device mai-phone: sent by a device that its owner has not signed"}, "docker compose logs auth",
		},
		"coturn relays nothing": {
			callstest.Setup{TURN: callstest.TURNSettings{Relay: func(conn net.PacketConn) net.PacketConn { return mute{conn} }}}, nil,
			func(s calls.State) bool {
				return s.Up.State == "checking" && s.Down.State == "checking" && s.Up.Gathered == 1 && s.Down.Gathered == 1
			}, nil,
			[]string{"signalling works and probes pass over udp", "no media connection", `it is "checking" with 1 relays`}, "docker compose logs video on app-01, and media_port",
		},
		"coturn gives no relay": {
			callstest.Setup{TURN: callstest.TURNSettings{Full: true}}, nil,
			func(s calls.State) bool { return s.Up.GatherEnded && s.Down.GatherEnded }, nil, []string{"is given no relay"}, "docker compose logs coturn on storage-01",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, p := called(t, c.setup)
			if c.breaks != nil {
				c.breaks(d, p)
			}
			_, err := d.joins(t.Context())
			if err == nil {
				d.patience = 0
				await(t, d.near, c.near)
				await(t, d.far, c.far)
				_, err = d.hear(t.Context(), calls.OverUDP)
			}
			got := verdict("call", "", "", err, 0)[0]
			if got.Status != Failed || !strings.Contains(got.Look, c.look) {
				t.Errorf("got %+v", got)
			}
			for _, cause := range c.cause {
				if !strings.Contains(got.Cause, cause) {
					t.Errorf("%q says nothing of %q", got.Cause, cause)
				}
			}
		})
	}
}

// await waits until a call stands so.
func await(t *testing.T, c *calls.Call, so func(calls.State) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if so == nil {
		return
	}
	if err := c.Await(ctx, so); err != nil {
		t.Fatalf("%v; it is %+v", err, c.Look())
	}
}

// mute is a relay's socket that sends nothing.
type mute struct{ net.PacketConn }

func (mute) WriteTo(packet []byte, _ net.Addr) (int, error) { return len(packet), nil }

func TestCall_ends(t *testing.T) {
	t.Parallel()
	d, p := called(t, callstest.Setup{Passes: func(_, _ client.UserID) bool { return false }})
	if _, err := d.joins(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.Hang(mai, 4511)
	<-d.far.Over()
	d.patience = 0
	_, err := d.hear(t.Context(), calls.OverUDP)
	if got := verdict("call", "", "", err, 0)[0]; !strings.Contains(got.Cause, "the socket of the call on app-02 does not last: ") || !strings.Contains(got.Cause, "4511") {
		t.Errorf("got %+v", got)
	}
}

func TestCall_is_forgotten(t *testing.T) {
	t.Parallel()
	d, p := called(t, callstest.Setup{})
	if _, err := d.joins(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.hear(t.Context(), calls.OverUDP); err != nil {
		t.Fatal(err)
	}
	p.Forget(4001)
	_, err := d.resumes(t.Context())
	if got := verdict("resume", "", "", err, 0)[0]; !strings.Contains(got.Cause, "had to join anew") || !strings.Contains(got.Look, "docker compose logs video on app-01") {
		t.Errorf("got %+v", got)
	}
}

func TestCall_loses_media_when_it_is_cut(t *testing.T) {
	t.Parallel()
	var loses atomic.Bool
	d, _ := called(t, callstest.Setup{Passes: func(_, _ client.UserID) bool { return !loses.Load() }})
	if _, err := d.joins(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.hear(t.Context(), calls.OverUDP); err != nil {
		t.Fatal(err)
	}
	loses.Store(true)
	defer time.AfterFunc(150*time.Millisecond, func() { loses.Store(false) }).Stop()
	_, err := d.resumes(t.Context())
	if got := verdict("resume", "", "", err, 0)[0]; !strings.Contains(got.Cause, "when its socket was cut, the call on app-01 lost") {
		t.Errorf("got %+v", got)
	}
}

// Sound alone is not enough.
func TestCall_is_not_seen(t *testing.T) {
	t.Parallel()
	d, _ := called(t, callstest.Setup{})
	d.sends = func() []calls.Track { return soundAndPicture()[:1] }
	if _, err := d.joins(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*calls.Call{d.near, d.far} {
		await(t, c, func(s calls.State) bool { return countOf(s) > 0 })
	}
	d.patience = 0
	_, err := d.hear(t.Context(), calls.OverUDP)
	if got := verdict("call", "", "", err, 0)[0]; !strings.Contains(got.Cause, "frames of sound and 0 of picture came") {
		t.Errorf("got %+v", got)
	}
}

// office answers what the rung asks of calls over HTTP, as told.
func office(t *testing.T, answers map[string]any) *dialling {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, known := answers[r.Method+" "+r.URL.Path]
		if !known {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"code":"no_such_call","status":404}`))
			return
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(server.Close)
	api, err := client.New(client.Options{BaseURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.Close)
	s := surveyed(t, describedLoopback(), nowhere)
	person := func(user client.UserID, host string) *visitor {
		return &visitor{site: s, lb: "lb-01", host: host, api: api, tokens: client.Tokens{User: client.User{ID: user}}}
	}
	return &dialling{talk: &talk{site: s, writer: person(linh, "app-01"), reader: person(mai, "app-02")}, stranger: person("bao", "app-01"), call: callstest.Call}
}

func TestCall_rings(t *testing.T) {
	t.Parallel()
	call := client.Call{ID: callstest.Call, Members: []client.CallMember{{UserID: linh, State: "joined"}, {UserID: mai, State: "ringing"}}}
	for name, c := range map[string]struct {
		ongoing []client.Call
		told    bool
		cause   string
	}{
		"at the other":       {[]client.Call{call}, true, ""},
		"nowhere":            {nil, false, "does not ring on app-02"},
		"at the one only":    {[]client.Call{{ID: call.ID, Members: call.Members[:1]}}, true, "does not ring on app-02"},
		"and nobody is told": {[]client.Call{call}, false, "the device there is not told of it"},
	} {
		t.Run(name, func(t *testing.T) {
			d := office(t, map[string]any{"POST /v1/calls": call, "GET /v1/calls": map[string]any{"calls": c.ongoing}})
			d.patience, d.reading = 200*time.Millisecond, &device{calls: make(chan struct{}, 1)}
			if c.told {
				d.reading.notice(frameCalls, nil)
			}
			_, err := d.rings(t.Context())
			if got := verdict("ring", "", "", err, 0)[0]; (c.cause == "") != (got.Status == Passed) || !strings.Contains(got.Cause, c.cause) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestCall_shown_to_an_outsider(t *testing.T) {
	d := office(t, map[string]any{"GET /v1/calls/" + string(callstest.Call): client.Call{ID: callstest.Call}})
	_, err := d.outsiderRefused(t.Context())
	if got := verdict("outsider", "", "", err, 0)[0]; !strings.Contains(got.Cause, "is shown its call") {
		t.Errorf("got %+v", got)
	}
	// A platform that lets everybody in who finds the way.
	open, p := called(t, callstest.Setup{})
	open.stranger = open.writer
	hidden := office(t, nil)
	hidden.stranger.api = p.Client()
	hidden.stranger.tokens = open.writer.tokens
	_, err = hidden.outsiderRefused(t.Context())
	if got := verdict("outsider", "", "", err, 0)[0]; !strings.Contains(got.Cause, "is let in to its call") {
		t.Errorf("got %+v", got)
	}
	if proved, err := office(t, nil).outsiderRefused(t.Context()); err != nil {
		t.Errorf("%s, %v", proved, err)
	}
}

func TestCall_logged(t *testing.T) {
	t.Parallel()
	good := client.CallRecord{CallID: callstest.Call, StartedBy: linh, Outcome: "answered", EndedAt: time.Now()}
	missed, unended, others := good, good, good
	missed.Outcome, unended.EndedAt, others.StartedBy = "missed", time.Time{}, mai
	for name, c := range map[string]struct {
		log    []client.CallRecord
		passes bool
	}{
		"as it was": {[]client.CallRecord{{CallID: "another"}, good}, true}, "not at all": {nil, false}, "as missed": {[]client.CallRecord{missed}, false},
		"without an end": {[]client.CallRecord{unended}, false}, "as another's": {[]client.CallRecord{others}, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := office(t, map[string]any{"GET /v1/calls/history": client.CallHistory{Calls: c.log}})
			d.had = []client.CallID{callstest.Call}
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if c.passes {
				ctx = t.Context()
			}
			_, err := d.logged(ctx)
			if got := verdict("log", "", "", err, 0)[0]; (got.Status == Passed) != c.passes || !c.passes && !strings.Contains(got.Cause, "of 1 calls, 1 are not in the call log") {
				t.Errorf("got %+v", got)
			}
		})
	}
	if _, err := office(t, nil).logged(t.Context()); err == nil {
		t.Error("no call at all is in the log")
	}
}

func TestMemory(t *testing.T) {
	for name, c := range map[string]struct {
		counts []int
		cause  string
	}{
		"clean": {[]int{0, 7}, ""}, "in clear": {[]int{1, 7}, "in clear"}, "a blind search": {[]int{0, 0}, "proves nothing"}, "no counts": {nil, "tells of 0 words"},
	} {
		_, err := judgeMemory("app-01", found{Counts: c.counts})
		if got := verdict("memory", "", "", err, 0)[0]; (c.cause == "") != (got.Status == Passed) || !strings.Contains(got.Cause, c.cause) {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

// held is a program that holds a word a thousand times, and lets anybody look (prctl(2), PR_SET_PTRACER).
const held = `
import ctypes, sys
ctypes.CDLL(None).prctl(0x59616d61, ctypes.c_ulong(-1), 0, 0, 0)
word = bytes.fromhex(sys.argv[1]) * 1000
print("ready", flush=True)
sys.stdin.read()
`

func TestMemory_is_searched(t *testing.T) {
	t.Parallel()
	const there, absent = "00ff10203040506070", "a1b2c3d4e5f60718"
	holder := exec.CommandContext(t.Context(), "python3", "-c", held, there)
	input, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = input.Close(); _ = holder.Wait() }()
	if _, err := bufio.NewReader(output).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	search := exec.CommandContext(t.Context(), "python3", "-c", memorySource, strconv.Itoa(holder.Process.Pid))
	search.Stdin = strings.NewReader(`["` + there + `", "` + absent + `"]`)
	out, err := search.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got found
	if err := json.Unmarshal(out, &got); err != nil || len(got.Counts) != 2 || got.Counts[0] < 1000 || got.Counts[1] != 0 || got.Read < 1<<20 {
		t.Errorf("found %+v, %v", got, err)
	}
}

// The frames that are overheard hold the words where they belong: one where it stays clear, the other only behind.
func TestOverhear_plants_words(t *testing.T) {
	o := overhear(&talk{})
	tracks := o.tracks()
	picture, _ := tracks[1].Layers[0].Next()
	sound, _ := tracks[0].Layers[0].Next()
	const stays = 10
	if !slices.Equal(picture[1:stays], o.clear) || strings.Contains(string(picture[:stays]), string(o.secret)) || strings.Count(string(picture[stays:]), string(o.secret)) < 10 ||
		strings.Count(string(sound), string(o.secret)) < 4 || picture[0]&1 != 0 {
		t.Errorf("%x, %x", picture[:40], sound[:20])
	}
}
