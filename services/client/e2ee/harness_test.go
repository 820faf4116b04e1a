package e2ee

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/crypto/olm"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"secureconnect/services/client"
	"secureconnect/services/internal/wire"
)

const (
	me       wire.UserID         = "0192f0c0-0000-7000-8000-00000000000a"
	alice    wire.UserID         = "0192f0c0-0000-7000-8000-00000000000b"
	mallory  wire.UserID         = "0192f0c0-0000-7000-8000-00000000000d"
	here     wire.ConversationID = "0192f0c0-0000-7000-8000-00000000000c"
	aMessage wire.ClientID       = "0192f0c0-0000-7000-8000-000000000001"
)

// offline is a device that reaches nobody.
func offline(t testing.TB) *Machine {
	t.Helper()
	c, err := client.New(client.Options{BaseURL: "http://nowhere.test", Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("offline")
	}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := newMachine(t.Context(), c, Options{User: me, Device: "PHONE", Token: func(context.Context) (string, error) { return "token", nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// browser is what the web client made once; see services/e2e, TestRecoversWhatABrowserKept.
type browser struct {
	RecoveryKey  string              `json:"recovery_key"`
	Version      wire.BackupState    `json:"version"`
	Keys         wire.BackupKeys     `json:"keys"`
	Conversation wire.ConversationID `json:"conversation"`
	Item         wire.Item           `json:"item"`
	Text         string              `json:"text"`
}

func readBrowser(t testing.TB) (b browser) {
	t.Helper()
	raw, err := os.ReadFile("testdata/recovery.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &b); err != nil {
		t.Fatal(err)
	}
	return b
}

// signed makes known a device of user that its owner has signed.
func (m *Machine) signed(t testing.TB, user wire.UserID) *id.Device {
	t.Helper()
	account := crypto.NewOlmAccount()
	device := &id.Device{UserID: matrixUser(user), DeviceID: "ONLY", IdentityKey: account.IdentityKey(), SigningKey: account.SigningKey()}
	identity, err := m.olm.GenerateCrossSigningKeys()
	if err != nil {
		t.Fatal(err)
	}
	keys := identity.PublicKeys()
	for _, err := range []error{
		m.olm.CryptoStore.PutDevices(t.Context(), device.UserID, map[id.DeviceID]*id.Device{device.DeviceID: device}),
		m.olm.CryptoStore.PutCrossSigningKey(t.Context(), device.UserID, id.XSUsageMaster, keys.MasterKey),
		m.olm.CryptoStore.PutCrossSigningKey(t.Context(), device.UserID, id.XSUsageSelfSigning, keys.SelfSigningKey),
		m.olm.CryptoStore.PutSignature(t.Context(), device.UserID, keys.SelfSigningKey, device.UserID, keys.MasterKey, "good"),
		m.olm.CryptoStore.PutSignature(t.Context(), device.UserID, device.SigningKey, device.UserID, keys.SelfSigningKey, "good"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return device
}

// session is a Megolm session of whoever holds it.
type session struct {
	olm.OutboundGroupSession
	first string // its key before anything was written
}

func newSession(t testing.TB) *session {
	t.Helper()
	out, err := olm.NewOutboundGroupSession()
	if err != nil {
		t.Fatal(err)
	}
	return &session{out, out.Key()}
}

// inbound is the session as whoever has its key from device takes it.
func (s *session) inbound(t testing.TB, key string, device *id.Device, source id.KeySource) *crypto.InboundGroupSession {
	t.Helper()
	in, err := crypto.NewInboundGroupSession(device.IdentityKey, device.SigningKey, roomOf(here), key, 0, 0, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	in.KeySource = source
	return in
}

// write is an item of the conversation, said to be from sender.
func (s *session) write(t testing.TB, sender wire.UserID, plaintext []byte) wire.Item {
	t.Helper()
	ciphertext, err := s.Encrypt(plaintext)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(&event.EncryptedEventContent{Algorithm: id.AlgorithmMegolmV1, SessionID: s.ID(), MegolmCiphertext: ciphertext})
	if err != nil {
		t.Fatal(err)
	}
	at := time.UnixMilli(1)
	return wire.Item{Seq: 1, Kind: wire.ItemMessage, Sender: sender, ClientID: aMessage, At: &at, Body: string(body)}
}

func plaintextOf(t testing.TB, content any) []byte {
	t.Helper()
	raw, err := json.Marshal(map[string]any{"room_id": roomOf(here), "type": messageType.Type, "content": content})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
