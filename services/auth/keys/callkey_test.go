//go:build goolm

package keys_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"secureconnect/services/client"
	"secureconnect/services/client/e2ee"
	"secureconnect/services/internal/wire"
)

const (
	aCall      wire.CallID = "0192f0c0-0000-7000-8000-00000000000e"
	anotherOne wire.CallID = "0192f0c0-0000-7000-8000-00000000000f"
)

// receipt is a key that a device has taken.
type receipt struct {
	from e2ee.Peer
	key  wire.CallKey
}

// caller is a device of the client library, in aCall.
type caller struct {
	*e2ee.Machine
	t     *testing.T
	peer  e2ee.Peer
	taken []receipt
}

// caller is a new device of username that its owner has not signed.
func (w *world) caller(username string) *caller {
	w.t.Helper()
	d := w.login(username, "")
	api, err := client.New(client.Options{BaseURL: w.server.URL})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(api.Close)
	machine, err := e2ee.New(w.t.Context(), api, e2ee.Options{
		User: d.session.UserID, Device: d.session.DeviceID, Token: func(context.Context) (string, error) { return d.token, nil },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(machine.Close)
	c := &caller{Machine: machine, t: w.t, peer: e2ee.Peer{User: d.session.UserID, Device: d.session.DeviceID}}
	w.t.Cleanup(c.CallKeys(aCall, func(from e2ee.Peer, key wire.CallKey) { c.taken = append(c.taken, receipt{from, key}) }))
	return c
}

// signedCaller is username's first device, signed by a new identity.
func (w *world) signedCaller(username string) (*caller, e2ee.Identity) {
	w.t.Helper()
	c := w.caller(username)
	identity, err := c.Bootstrap(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return c, identity
}

// give sends a key and wants it refused to those, and to nobody else.
func (c *caller) give(key wire.CallKey, to []e2ee.Peer, refusals map[e2ee.Peer]error) {
	c.t.Helper()
	refused, err := c.SendCallKey(c.t.Context(), key, to)
	if err != nil {
		c.t.Fatal(err)
	}
	if len(refused) != len(refusals) {
		c.t.Errorf("refused %v", refused)
	}
	for peer, want := range refusals {
		if got := refused[peer]; !errors.Is(got, want) && !sameKind(got, want) {
			c.t.Errorf("%v is refused with %v", peer, got)
		}
	}
}

func sameKind(got, want error) bool {
	var one, other *e2ee.IdentityChangedError
	return errors.As(got, &one) && errors.As(want, &other) && *one == *other
}

// takes syncs and wants exactly these keys to have come.
func (c *caller) takes(want ...receipt) {
	c.t.Helper()
	for more := true; more; {
		var err error
		if more, err = c.Sync(c.t.Context(), 0); err != nil {
			c.t.Fatal(err)
		}
	}
	if !slices.Equal(c.taken, want) {
		c.t.Errorf("took %+v, want %+v", c.taken, want)
	}
	c.taken = nil
}

func keyOf(step uint8) wire.CallKey {
	return wire.CallKey{CallID: aCall, ParticipantID: "p", Chain: 7, Step: step, Key: "AAAA"}
}

// whisper sends plaintext inside Olm, whatever it says.
func (m *machine) whisper(to e2ee.Peer, plaintext func(*id.Device) object) {
	m.t.Helper()
	ctx := m.t.Context()
	device, err := m.GetOrFetchDevice(ctx, id.UserID(to.User.MatrixID()), id.DeviceID(to.Device))
	m.must(err)
	m.must(m.SendEncryptedToDevice(ctx, device, event.ToDeviceDummy, event.Content{})) // for a session
	session, err := m.CryptoStore.GetLatestSession(ctx, device.IdentityKey)
	m.must(err)
	raw, err := json.Marshal(plaintext(device))
	m.must(err)
	kind, ciphertext, err := session.Encrypt(raw)
	m.must(err)
	_, err = m.Client.SendToDevice(ctx, event.ToDeviceEncrypted, &mautrix.ReqSendToDevice{Messages: map[id.UserID]map[id.DeviceID]*event.Content{
		device.UserID: {device.DeviceID: {Parsed: &event.EncryptedEventContent{
			Algorithm: id.AlgorithmOlmV1, SenderKey: m.GetAccount().IdentityKey(),
			OlmCiphertext: event.OlmCiphertexts{device.IdentityKey: {Type: kind, Body: string(ciphertext)}},
		}}},
	}})
	m.must(err)
}

// honest is what a key looks like inside Olm; changes are put over it.
func (m *machine) honest(key wire.CallKey, changes object) func(*id.Device) object {
	return func(to *id.Device) object {
		plaintext := object{
			"sender": m.user(), "sender_device": m.id(), "keys": object{"ed25519": m.GetAccount().SigningKey()},
			"recipient": to.UserID, "recipient_keys": object{"ed25519": to.SigningKey}, "type": wire.CallKeyEvent, "content": key,
		}
		for name, value := range changes {
			plaintext[name] = value
		}
		return plaintext
	}
}

func TestCallKeys(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"ada", "bob", "eve"} {
		w.add(name)
	}
	ada, _ := w.signedCaller("ada")
	bob, bobs := w.signedCaller("bob")

	t.Run("a_key_comes_with_the_device_that_sent_it", func(t *testing.T) {
		ada.give(keyOf(1), []e2ee.Peer{bob.peer}, nil)
		ada.give(keyOf(2), []e2ee.Peer{bob.peer}, nil)
		bob.takes(receipt{ada.peer, keyOf(1)}, receipt{ada.peer, keyOf(2)})
		bob.give(keyOf(3), []e2ee.Peer{ada.peer}, nil)
		ada.takes(receipt{bob.peer, keyOf(3)})
	})
	second := w.caller("bob")
	t.Run("an_unsigned_device_gets_none", func(t *testing.T) {
		ada.give(keyOf(4), []e2ee.Peer{bob.peer, second.peer}, map[e2ee.Peer]error{second.peer: e2ee.ErrUnsigned})
		bob.takes(receipt{ada.peer, keyOf(4)})
		second.takes()
		if n := w.count(`SELECT count(*) FROM key_inbox WHERE device_id = $1`, second.peer.Device); n != 0 {
			t.Errorf("%d events wait for it", n)
		}
	})
	t.Run("from_an_unsigned_device_none_is_taken", func(t *testing.T) {
		if refused, err := second.SendCallKey(t.Context(), keyOf(5), []e2ee.Peer{ada.peer}); err != nil || len(refused) != 0 {
			t.Fatal(refused, err)
		}
		ada.takes()
	})
	t.Run("once_it_is_signed_it_gets_some_and_its_own_are_taken", func(t *testing.T) {
		if err := second.Join(t.Context(), bobs); err != nil {
			t.Fatal(err)
		}
		second.give(keyOf(6), []e2ee.Peer{ada.peer}, nil)
		ada.takes(receipt{second.peer, keyOf(6)})
		ada.give(keyOf(7), []e2ee.Peer{bob.peer, second.peer}, nil)
		bob.takes(receipt{ada.peer, keyOf(7)})
		second.takes(receipt{ada.peer, keyOf(7)})
	})
	t.Run("who_is_not_there_gets_none", func(t *testing.T) {
		nobody := e2ee.Peer{User: bob.peer.User, Device: "NONE"}
		ada.give(keyOf(8), []e2ee.Peer{nobody}, map[e2ee.Peer]error{nobody: e2ee.ErrNoDevice})
	})
	t.Run("of_another_call", func(t *testing.T) {
		other := keyOf(9)
		other.CallID = anotherOne
		ada.give(other, []e2ee.Peer{bob.peer}, nil)
		bob.takes()
	})
	t.Run("after_its_end", func(t *testing.T) {
		var heard int
		stop := bob.CallKeys(anotherOne, func(e2ee.Peer, wire.CallKey) { heard++ })
		other := keyOf(10)
		other.CallID = anotherOne
		ada.give(other, []e2ee.Peer{bob.peer}, nil)
		bob.takes()
		stop()
		ada.give(other, []e2ee.Peer{bob.peer}, nil)
		bob.takes()
		if heard != 1 {
			t.Errorf("%d keys were handed over, of one before the end", heard)
		}
	})
	second.takes()
	bob.takes()
}

// Members lie, and so does the server.
func TestForgedCallKeys(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"ada", "bob", "eve"} {
		w.add(name)
	}
	ada, _ := w.signedCaller("ada")
	eve := w.machine("eve")
	queued := func(change string, arguments ...any) {
		w.exec(`UPDATE key_inbox SET `+change, arguments...)
	}
	peer := e2ee.Peer{User: eve.session.UserID, Device: eve.session.DeviceID}

	t.Run("the_forger_can_also_be_honest", func(t *testing.T) { // else what follows would prove nothing
		eve.whisper(ada.peer, eve.honest(keyOf(1), nil))
		ada.takes(receipt{peer, keyOf(1)})
	})
	t.Run("in_clear", func(t *testing.T) {
		_, err := eve.Client.SendToDevice(t.Context(), event.Type{Type: wire.CallKeyEvent, Class: event.ToDeviceEventType}, &mautrix.ReqSendToDevice{
			Messages: map[id.UserID]map[id.DeviceID]*event.Content{
				id.UserID(ada.peer.User.MatrixID()): {id.DeviceID(ada.peer.Device): {Parsed: keyOf(2)}},
			},
		})
		eve.must(err)
		if n := w.count(`SELECT count(*) FROM key_inbox WHERE type = $1`, wire.CallKeyEvent); n != 1 {
			t.Fatal("it is not in the queue: nothing is shown")
		}
		ada.takes()
	})
	bob := w.machine("bob")
	t.Run("as_another_user_by_the_server", func(t *testing.T) {
		eve.whisper(ada.peer, eve.honest(keyOf(3), nil))
		queued(`sender_id = $1`, bob.session.UserID)
		ada.takes()
		eve.whisper(ada.peer, eve.honest(keyOf(3), object{"sender": bob.user()}))
		queued(`sender_id = $1`, bob.session.UserID)
		ada.takes()
	})
	t.Run("as_another_user_inside", func(t *testing.T) {
		eve.whisper(ada.peer, eve.honest(keyOf(4), object{"sender": bob.user()}))
		ada.takes()
	})
	t.Run("with_another_user's_signing_key", func(t *testing.T) {
		eve.whisper(ada.peer, eve.honest(keyOf(5), object{"keys": object{"ed25519": bob.GetAccount().SigningKey()}}))
		ada.takes()
	})
	t.Run("for_another_recipient", func(t *testing.T) {
		eve.whisper(ada.peer, eve.honest(keyOf(6), object{"recipient": bob.user()}))
		eve.whisper(ada.peer, eve.honest(keyOf(6), object{"recipient_keys": object{"ed25519": bob.GetAccount().SigningKey()}}))
		ada.takes()
	})
	t.Run("as_a_device_that_is_called_otherwise", func(t *testing.T) {
		described := eve.describedAs("OTHER")
		eve.whisper(ada.peer, eve.honest(keyOf(7), object{"sender_device": "OTHER", "sender_device_keys": described}))
		ada.takes(receipt{peer, keyOf(7)}) // by its true name
	})
	t.Run("a_second_time", func(t *testing.T) {
		eve.whisper(ada.peer, eve.honest(keyOf(8), nil))
		w.exec(`INSERT INTO key_inbox (user_id, device_id, number, sender_id, type, content, queued_at)
SELECT user_id, device_id, number + 1, sender_id, type, content, queued_at FROM key_inbox ORDER BY number DESC LIMIT 1`)
		w.exec(`UPDATE key_devices SET inbox_head = inbox_head + 1 WHERE device_id = $1`, ada.peer.Device)
		ada.takes(receipt{peer, keyOf(8)})
	})
	t.Run("odd_contents", func(t *testing.T) {
		for _, content := range []any{nil, "key", 7, []any{}, object{"call_id": 7}, object{"call_id": aCall, "step": 256}, object{"call_id": aCall, "chain": -1}} {
			eve.whisper(ada.peer, eve.honest(keyOf(9), object{"content": content}))
		}
		ada.takes()
	})
	t.Run("of_another_identity_than_before", func(t *testing.T) {
		self, err := eve.GenerateCrossSigningKeys()
		eve.must(err)
		eve.must(eve.PublishCrossSigningKeys(t.Context(), self, func(*mautrix.RespUserInteractive) any {
			return object{"type": "m.login.password", "identifier": object{"type": "m.id.user", "user": "eve"}, "password": password}
		}))
		_, err = eve.FetchKeys(t.Context(), []id.UserID{eve.Client.UserID}, true)
		eve.must(err)
		eve.must(eve.SignOwnDevice(t.Context(), eve.OwnIdentity()))
		eve.whisper(ada.peer, eve.honest(keyOf(10), nil))
		ada.takes()
		ada.give(keyOf(11), []e2ee.Peer{peer}, map[e2ee.Peer]error{peer: &e2ee.IdentityChangedError{User: peer.User}})
	})
}

// describedAs is the device's own description of itself, under another name.
func (m *machine) describedAs(name string) object {
	m.t.Helper()
	described := object{
		"user_id": m.user(), "device_id": name, "algorithms": []any{"m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"},
		"keys": object{"ed25519:" + name: m.GetAccount().SigningKey(), "curve25519:" + name: m.GetAccount().IdentityKey()},
	}
	signature, err := m.GetAccount().SignJSON(described)
	m.must(err)
	described["signatures"] = object{m.user(): object{"ed25519:" + name: signature}}
	return described
}
