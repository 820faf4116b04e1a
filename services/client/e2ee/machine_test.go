package e2ee

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/crypto/olm"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"secureconnect/services/internal/wire"
)

// Whatever body the server gives for a message, what is read is what its sender wrote.
func FuzzBody(f *testing.F) {
	kept := readBrowser(f)
	recovery, err := readRecoveryKey(kept.RecoveryKey)
	if err != nil {
		f.Fatal(err)
	}
	m := offline(f)
	if got, err := m.restore(f.Context(), "1", recovery, kept.Keys); err != nil || got.Keys != 1 {
		f.Fatalf("restored %+v, %v", got, err)
	}
	for _, seed := range []string{
		kept.Item.Body, "", "null", "[]", `{"algorithm":"m.olm.v1.curve25519-aes-sha2","ciphertext":{}}`, `{"algorithm":"m.megolm.v1.aes-sha2"}`,
		`{"algorithm":"m.megolm.v1.aes-sha2","ciphertext":7}`, `{"algorithm":"m.megolm.v1.aes-sha2","ciphertext":"AwgA","session_id":"x"}`,
		kept.Item.Body[:len(kept.Item.Body)-1] + `,"m.relates_to":{"rel_type":"m.replace"}}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		item := kept.Item
		item.Body = body
		if content, err := m.Decrypt(t.Context(), kept.Conversation, item); err == nil && (content.Text != kept.Text || !content.Restored) {
			t.Errorf("%q is read as %+v", body, content)
		}
	})
}

// A member may write anything; what does not call itself by its name is not shown.
func FuzzPlaintext(f *testing.F) {
	content := `{"id":"` + string(aMessage) + `","kind":"file","text":"t","reply_to":"x","file":{"name":"n","type":"t","size":1,"url":"u","key":"k","hash":"h"},"Restored":true}`
	room := `"room_id":"` + string(roomOf(here)) + `"`
	for _, seed := range []string{
		`{` + room + `,"type":"secureconnect.message","content":` + content + `}`, `{` + room + `}`, `null`, ``, `[]`, `{` + room + `,"type":7}`,
		`{` + room + `,"type":"m.room.message","content":{"msgtype":"m.text","body":"x","id":"` + string(aMessage) + `"}}`, `{` + room + `,"content":null}`,
		`{` + room + `,"type":"m.room.encrypted","content":{"algorithm":"m.megolm.v1.aes-sha2"}}`, `{"room_id":"!other:secureconnect"}`,
		`{` + room + `,"type":"secureconnect.message","content":{"id":7,"file":[]}}`, `{` + room + `,"state_key":"","type":"m.room.member","content":{}}`,
	} {
		f.Add([]byte(seed))
	}
	m := offline(f)
	hers, made := m.signed(f, alice), newSession(f)
	put(f, m, made.inbound(f, made.first, hers, id.KeySourceDirect))
	f.Fuzz(func(t *testing.T, plaintext []byte) {
		if len(plaintext) == 0 {
			return // Megolm has none of that
		}
		item := made.write(t, alice, plaintext)
		content, err := m.Decrypt(t.Context(), here, item)
		var said struct{ Type string }
		if err == nil && (content.ID != aMessage || content.Restored || json.Unmarshal(plaintext, &said) != nil || said.Type != messageType.Type) {
			t.Errorf("%q is read as %+v", plaintext, content)
		}
	})
}

// Whatever the key directory says waits for a device, it is taken or passed over.
func FuzzKeysSync(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"next_batch":"a","to_device":{"events":[{"sender":"@x:y","type":"m.room.encrypted","content":{"algorithm":"m.olm.v1.curve25519-aes-sha2","sender_key":"k","ciphertext":{"":{"type":0,"body":"AA"}}}}]}}`,
		`{"to_device":{"events":[{"sender":"","type":"m.room_key_request","content":{"action":"request","body":{},"requesting_device_id":"A"}}]}}`,
		`{"to_device":{"events":[{"type":"m.room_key.withheld","content":{"room_id":"!r:secureconnect","session_id":"s"}},{"type":"m.room_key","content":null},{"type":"","content":7}]}}`,
		`{"to_device":{"events":[{"type":"m.secret.request","content":{"action":"request","name":"m.megolm_backup.v1"}},{"type":"m.dummy","content":{}}]}}`,
		`{"device_lists":{"changed":["@x:secureconnect",""],"left":null},"device_one_time_keys_count":{"signed_curve25519":-1}}`,
		`{"to_device":{"events":[null]},"device_unused_fallback_key_types":[""]}`,
	} {
		f.Add([]byte(seed))
	}
	m := offline(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var page wire.KeysSync
		if json.Unmarshal(raw, &page) != nil {
			return
		}
		response, err := matrixSync(page)
		if err != nil {
			return
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.process(t.Context(), response)
		if held, err := m.olm.CryptoStore.GetAllGroupSessions(t.Context()).AsList(); err != nil || len(held) != 0 {
			t.Errorf("%q brought %d keys, %v", raw, len(held), err)
		}
	})
}

// Nor does it matter what a device puts into Olm: the only keys that are taken are its own.
func FuzzOlmPlaintext(f *testing.F) {
	m := offline(f)
	own, theirs := m.olm.GetAccount().Internal, crypto.NewOlmAccount()
	if err := own.GenOneTimeKeys(1); err != nil {
		f.Fatal(err)
	}
	oneTime, err := own.OneTimeKeys()
	if err != nil {
		f.Fatal(err)
	}
	var channel olm.Session
	for _, key := range oneTime {
		if channel, err = theirs.Internal.NewOutboundSession(m.olm.GetAccount().IdentityKey(), key); err != nil {
			f.Fatal(err)
		}
	}
	made := newSession(f)
	head := fmt.Sprintf(`{"sender":%q,"recipient":%q,"recipient_keys":{"ed25519":%q},"keys":{"ed25519":%q}`,
		matrixUser(mallory), matrixUser(me), m.olm.GetAccount().SigningKey(), theirs.SigningKey())
	key := fmt.Sprintf(`"content":{"algorithm":"m.megolm.v1.aes-sha2","room_id":%q,"session_id":%q,"session_key":%q`, roomOf(here), made.ID(), made.first)
	exported, err := made.inbound(f, made.first, m.signed(f, alice), id.KeySourceDirect).Internal.Export(0)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		head + `,"type":"m.room_key",` + key + `}}`, head + `,"type":"m.forwarded_room_key",` + strings.Replace(key, made.first, string(exported), 1) + `,"sender_key":"k"}}`,
		head + `,"type":"m.room_key","content":null}`, head + `,"type":"m.secret.send","content":{"secret":"x"}}`, head + `,"type":"m.dummy"}`,
		head + `,"sender_device_keys":{"user_id":"` + string(matrixUser(mallory)) + `","keys":null},"type":"m.room_key",` + key + `}}`,
		head + `,"type":"io.element.msc4268.room_key_bundle","content":{}}`, head + `,"type":"secureconnect.call.key","content":{"call_id":"c","step":1}}`, `null`, `{}`, `[]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, plaintext []byte) {
		if len(plaintext) == 0 {
			return // Olm encrypts no empty message
		}
		kind, ciphertext, err := channel.Encrypt(plaintext)
		if err != nil {
			t.Fatal(err)
		}
		content, err := json.Marshal(&event.EncryptedEventContent{
			Algorithm: id.AlgorithmOlmV1, SenderKey: theirs.IdentityKey(),
			OlmCiphertext: event.OlmCiphertexts{m.olm.GetAccount().IdentityKey(): {Type: kind, Body: string(ciphertext)}},
		})
		if err != nil {
			t.Fatal(err)
		}
		sent := wire.DeviceEvent{Sender: string(matrixUser(mallory)), Type: event.ToDeviceEncrypted.Type, Content: content}
		response, err := matrixSync(wire.KeysSync{
			ToDevice:               wire.DeviceInbox{Events: []wire.DeviceEvent{sent}},
			DeviceOneTimeKeysCount: wire.KeyCounts{string(id.KeyAlgorithmSignedCurve25519): 50}, // enough: none is made
		})
		if err != nil {
			t.Fatal(err)
		}
		if sent := m.process(t.Context(), response); len(sent) > 0 {
			t.Errorf("%q brought %v", plaintext, sent) // of a device that nobody has signed
		}
		held, err := m.olm.CryptoStore.GetAllGroupSessions(t.Context()).AsList()
		if err != nil {
			t.Fatal(err)
		}
		for _, session := range held {
			if session.SenderKey != theirs.IdentityKey() || session.KeySource != id.KeySourceDirect {
				t.Errorf("%q brought a key of %s, %s", plaintext, session.SenderKey, session.KeySource)
			}
		}
	})
}
