//go:build goolm

// The machines need the tag: without it their library wants a C library that nothing here is built with.

package keys_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/crypto/goolm/account"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"secureconnect/services/auth/keys"
)

const room = id.RoomID("!0192f0c0-0000-7000-8000-000000000000:secureconnect")

// ourPaths sends a Matrix client's requests to our paths; nothing else of them changes.
type ourPaths struct{ http.RoundTripper }

func (o ourPaths) RoundTrip(request *http.Request) (*http.Response, error) {
	mapped := request.Clone(request.Context())
	path, found := strings.CutPrefix(mapped.URL.Path, "/_matrix/client/v3/")
	if !found {
		return nil, fmt.Errorf("not a path of ours: %s", mapped.URL.Path)
	}
	mapped.URL.Path, mapped.URL.RawPath = "/v1/keys/"+strings.TrimPrefix(path, "keys/"), ""
	return o.RoundTripper.RoundTrip(mapped)
}

// everyRoom is encrypted and shared by all.
type everyRoom struct{}

func (everyRoom) IsEncrypted(context.Context, id.RoomID) (bool, error) { return true, nil }
func (everyRoom) GetEncryptionEvent(context.Context, id.RoomID) (*event.EncryptionEventContent, error) {
	return &event.EncryptionEventContent{Algorithm: id.AlgorithmMegolmV1}, nil
}
func (everyRoom) GetHistoryVisibility(context.Context, id.RoomID) (*event.HistoryVisibilityEventContent, error) {
	return &event.HistoryVisibilityEventContent{HistoryVisibility: event.HistoryVisibilityJoined}, nil
}
func (everyRoom) FindSharedRooms(context.Context, id.UserID) ([]id.RoomID, error) {
	return []id.RoomID{room}, nil
}

// machine is a real client's cryptography on a device.
type machine struct {
	*device
	*crypto.OlmMachine
	since string
}

// machine is username's first device, signed by a new identity.
func (w *world) machine(username string) *machine {
	w.t.Helper()
	m := w.unsignedMachine(username)
	m.bootstrap()
	return m
}

// unsignedMachine logs a device of username in and publishes its keys. It sends keys to devices that their owners have
// signed, and trusts the identity it sees first.
func (w *world) unsignedMachine(username string) *machine {
	w.t.Helper()
	d := w.login(username, "")
	client, err := mautrix.NewClient(w.server.URL, id.UserID(d.user()), d.token)
	if err != nil {
		w.t.Fatal(err)
	}
	client.DeviceID, client.DefaultHTTPRetries = id.DeviceID(d.id()), 0
	client.Client = &http.Client{Transport: ourPaths{w.server.Client().Transport}}
	m := &machine{device: d, OlmMachine: crypto.NewOlmMachine(client, nil, crypto.NewMemoryStore(nil), everyRoom{})}
	m.SendKeysMinTrust = id.TrustStateCrossSignedTOFU
	w.t.Cleanup(m.Destroy)
	m.must(m.Load(w.t.Context()))
	m.must(m.ShareKeys(w.t.Context(), 0))
	return m
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) bootstrap() {
	m.t.Helper()
	self, err := m.GenerateCrossSigningKeys()
	m.must(err)
	m.must(m.PublishCrossSigningKeys(m.t.Context(), self, nil))
	_, err = m.FetchKeys(m.t.Context(), []id.UserID{m.Client.UserID}, true)
	m.must(err)
	m.must(m.SignOwnDevice(m.t.Context(), m.OwnIdentity()))
	m.must(m.SignOwnMasterKey(m.t.Context()))
}

// read takes in all that is queued for the device.
func (m *machine) read() {
	m.t.Helper()
	for {
		raw := m.get("sync?since=" + m.since)
		page := into[mautrix.RespSync](m.t, raw)
		if m.since = page.NextBatch; len(page.ToDevice.Events) == 0 && page.DeviceLists.IsZero() {
			m.HandleOTKCounts(m.t.Context(), &page.DeviceOTKCount)
			return
		}
		m.ProcessSyncResponse(m.t.Context(), &page, "")
	}
}

var sent int

// say encrypts text to the others, and gives what the server sees.
func (m *machine) say(text string, others ...*machine) *event.Event {
	m.t.Helper()
	var users []id.UserID
	for _, other := range others {
		users = append(users, other.Client.UserID)
	}
	if session, err := m.CryptoStore.GetOutboundGroupSession(m.t.Context(), room); err != nil || session == nil || session.Expired() {
		m.must(m.ShareGroupSession(m.t.Context(), room, users))
	}
	content, err := m.EncryptMegolmEvent(m.t.Context(), room, event.EventMessage, &event.MessageEventContent{MsgType: event.MsgText, Body: text})
	m.must(err)
	raw, err := json.Marshal(content)
	m.must(err)
	if strings.Contains(string(raw), text) {
		m.t.Errorf("%q is sent in clear", text)
	}
	sent++
	return &event.Event{
		ID: id.EventID(fmt.Sprintf("$%d", sent)), RoomID: room, Sender: m.Client.UserID, Type: event.EventEncrypted,
		Timestamp: time.Now().UnixMilli(), Content: event.Content{VeryRaw: raw, Parsed: content},
	}
}

// understands decrypts what another said, as a client that demands a signed device.
func (m *machine) understands(said *event.Event) (string, error) {
	m.t.Helper()
	copied := *said
	decrypted, err := m.DecryptMegolmEvent(m.t.Context(), &copied)
	if err != nil {
		return "", err
	}
	if decrypted.Mautrix.TrustState < id.TrustStateCrossSignedTOFU {
		return "", fmt.Errorf("sent by a device that is %s", decrypted.Mautrix.TrustState)
	}
	return decrypted.Content.AsMessage().Body, nil
}

func (m *machine) wantText(said *event.Event, text string) {
	m.t.Helper()
	if got, err := m.understands(said); err != nil || got != text {
		m.t.Errorf("%s understood %q, %v", m.user(), got, err)
	}
}

func TestMachinesTalk(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"ada", "bob", "carol"} {
		w.add(name)
	}
	ada, bob := w.machine("ada"), w.machine("bob")
	hello := ada.say("hello bob", bob)
	if _, err := bob.understands(hello); err == nil {
		t.Error("bob read it before he had the key")
	}
	// A thousand people with two devices each are served in one request.
	if n := w.count(`SELECT length(content) FROM key_inbox WHERE type = 'm.room.encrypted'`); 2000*(n+100) > keys.BodyLimit {
		t.Errorf("a room key takes %d bytes a device", n)
	}
	bob.read()
	bob.wantText(hello, "hello bob")
	answer := bob.say("hello ada", ada)
	ada.read()
	ada.wantText(answer, "hello ada")

	carol := w.machine("carol")
	if _, err := carol.understands(hello); err == nil {
		t.Error("a newcomer reads what was said before")
	}
	ada.must(ada.CryptoStore.RemoveOutboundGroupSession(t.Context(), room))
	all := ada.say("hello all", bob, carol)
	bob.read()
	carol.read()
	bob.wantText(all, "hello all")
	carol.wantText(all, "hello all")

	t.Run("one_time_keys_are_made_anew", func(t *testing.T) {
		bob.read()
		if n := bob.mustUpload(object{}); n != 50 {
			t.Errorf("bob has %d one-time keys", n)
		}
	})
	t.Run("out_of_one_time_keys_the_fallback_key_serves", func(t *testing.T) {
		internal := bob.GetAccount().Internal.(*account.Account)
		bob.must(internal.GenFallbackKey())
		for keyID, key := range internal.FallbackKey() {
			signature, err := bob.GetAccount().SignJSON(object{"key": key, "fallback": true})
			bob.must(err)
			bob.mustUpload(object{"fallback_keys": object{"signed_curve25519:" + keyID: object{
				"key": key, "fallback": true, "signatures": object{bob.user(): object{"ed25519:" + bob.id(): signature}},
			}}})
		}
		w.exec(`UPDATE key_one_time SET claimed_at = now() WHERE user_id = $1`, bob.session.UserID)
		said := carol.say("nothing left?", bob)
		if unused := bob.sync("").DeviceUnusedFallbackKeys; len(unused) != 0 {
			t.Error("the fallback key was not handed out")
		}
		bob.read()
		bob.wantText(said, "nothing left?")
	})
}

// The server is the adversary here: it writes into its own tables what it likes.
func TestLyingServer(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"ada", "bob", "eve"} {
		w.add(name)
	}
	ada, bob, eve := w.machine("ada"), w.machine("bob"), w.machine("eve")
	ghost := &device{world: w, session: bob.session, key: newKey()}
	ghost.session.DeviceID = "GHOST"
	haunt := func() {
		published, err := json.Marshal(ghost.deviceKeys())
		bob.must(err)
		w.exec(`INSERT INTO key_devices (user_id, device_id, incarnation, device_keys, inbox_head, inbox_gone, created_at) VALUES ($1, 'GHOST', 'X', $2, 0, 0, now())`,
			bob.session.UserID, string(published))
		key, err := json.Marshal(ghost.oneTimeKey())
		bob.must(err)
		w.exec(`INSERT INTO key_one_time (user_id, device_id, key_id, body, uploaded_at)
SELECT $1, 'GHOST', 'signed_curve25519:' || n, $2, now() FROM generate_series(1, 9) AS n`, bob.session.UserID, string(key))
	}
	roomKeys := func(device string) int {
		return w.count(`SELECT count(*) FROM key_inbox WHERE user_id = $1 AND device_id = $2 AND type = 'm.room.encrypted'`, bob.session.UserID, device)
	}

	t.Run("a_ghost_device_gets_no_keys", func(t *testing.T) {
		haunt()
		said := ada.say("for bob alone", bob)
		if _, shown := ada.query(bob.device).DeviceKeys[bob.user()]["GHOST"]; !shown {
			t.Fatal("the ghost is not in the directory: nothing is shown")
		}
		if roomKeys("GHOST") != 0 || roomKeys(bob.id()) != 1 {
			t.Errorf("%d keys for the ghost, %d for bob", roomKeys("GHOST"), roomKeys(bob.id()))
		}
		bob.read()
		bob.wantText(said, "for bob alone")
	})
	t.Run("who_asks_for_no_signature_is_fooled", func(t *testing.T) {
		careless := w.unsignedMachine("eve")
		careless.SendKeysMinTrust = id.TrustStateUnset
		careless.say("for whom?", bob)
		if roomKeys("GHOST") == 0 {
			t.Error("the ghost got no key even so: the test before proves nothing")
		}
	})
	t.Run("a_relabelled_ciphertext_is_refused", func(t *testing.T) {
		said := ada.say("from ada, here and once", bob)
		bob.read()
		for name, change := range map[string]func(*event.Event){
			"other_sender": func(e *event.Event) { e.Sender = eve.Client.UserID },
			"other_room":   func(e *event.Event) { e.RoomID = "!other:secureconnect" },
		} {
			forged := *said
			change(&forged)
			if text, err := bob.understands(&forged); err == nil {
				t.Errorf("%s: bob believes %q", name, text)
			}
		}
		bob.wantText(said, "from ada, here and once")
		again := *said
		again.ID = "$again"
		if text, err := bob.understands(&again); err == nil {
			t.Errorf("bob believes a second %q", text)
		}
	})
	t.Run("a_swapped_identity_is_noticed", func(t *testing.T) {
		thief := newSelf(ghost)
		for usage, body := range map[string]any{"master": thief.upload()["master_key"], "self_signing": thief.upload()["self_signing_key"]} {
			raw, err := json.Marshal(body)
			bob.must(err)
			key := public(thief.master)
			if usage == "self_signing" {
				key = public(thief.selfSigning)
			}
			w.exec(`UPDATE key_identities SET public_key = $3, body = $4 WHERE user_id = $1 AND usage = $2`, bob.session.UserID, usage, key, string(raw))
		}
		signed := thief.signDevice(ghost)[thief.user].(object)["GHOST"].(object)["signatures"].(object)[thief.user].(object)
		w.exec(`INSERT INTO key_signatures (user_id, target, signer_id, signer_key, signature) VALUES ($1, 'device:GHOST', $1, $2, $3)`,
			bob.session.UserID, "ed25519:"+public(thief.selfSigning), signed["ed25519:"+public(thief.selfSigning)])
		devices, err := ada.FetchKeys(t.Context(), []id.UserID{bob.Client.UserID}, true)
		ada.must(err)
		shown := devices[bob.Client.UserID]["GHOST"]
		if shown == nil {
			t.Fatal("the ghost is not in the directory: nothing is shown")
		}
		trust, err := ada.ResolveTrustContext(t.Context(), shown)
		if err != nil || trust != id.TrustStateCrossSignedUntrusted {
			t.Errorf("ada takes the thief's device for %s, %v", trust, err)
		}
		before := roomKeys("GHOST")
		ada.must(ada.CryptoStore.RemoveOutboundGroupSession(t.Context(), room))
		ada.say("to the true bob", bob)
		if roomKeys("GHOST") != before {
			t.Error("the thief got a key")
		}
	})
}
