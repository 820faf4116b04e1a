package e2ee

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/crypto/backup"
	"maunium.net/go/mautrix/crypto/utils"
	"maunium.net/go/mautrix/id"

	"secureconnect/services/internal/wire"
)

// Who knows the public half of the recovery key, as the server does, can put a key into the backup and say that it is Alice's. Whatever comes
// from its device besides, before or after, what is read with it is marked, or refused.
func TestAKeyOutOfTheBackupStaysMarked(t *testing.T) {
	recovery, err := backup.NewMegolmBackupKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, order := range map[string][]string{
		"alone":                              {"restored"},
		"before_the_device":                  {"restored", "direct"},
		"before_the_device_with_a_later_key": {"restored", "later"},
		"after_the_device_with_a_later_key":  {"later", "restored"},
	} {
		t.Run(name, func(t *testing.T) {
			m := offline(t)
			hers, his := m.signed(t, alice), m.signed(t, mallory)
			made := newSession(t)
			item := made.write(t, alice, plaintextOf(t, Content{Kind: KindText, ID: aMessage, Text: "send the money"}))
			for _, step := range order {
				switch step {
				case "restored":
					kept := keptOf(t, recovery, made.inbound(t, made.first, hers, id.KeySourceDirect))
					if got, err := m.restore(t.Context(), "1", recovery, kept); err != nil || got != (Recovered{Keys: 1}) {
						t.Fatalf("restored %+v, %v", got, err)
					}
				case "direct":
					put(t, m, made.inbound(t, made.first, his, id.KeySourceDirect))
				case "later":
					put(t, m, made.inbound(t, made.Key(), his, id.KeySourceDirect))
				}
			}
			if content, err := m.Decrypt(t.Context(), here, item); err == nil && !content.Restored {
				t.Errorf("shown without a mark: %q", content.Text)
			} else if err != nil {
				t.Errorf("refused: %v", err)
			}
		})
	}
	t.Run("a_key_that_is_no_better_takes_no_mark_and_no_trust", func(t *testing.T) {
		m := offline(t)
		hers, his := m.signed(t, alice), m.signed(t, mallory)
		made := newSession(t)
		item := made.write(t, alice, plaintextOf(t, Content{Kind: KindText, ID: aMessage, Text: "hello"}))
		put(t, m, made.inbound(t, made.first, hers, id.KeySourceDirect))
		if _, err := m.restore(t.Context(), "1", recovery, keptOf(t, recovery, made.inbound(t, made.first, his, id.KeySourceDirect))); err != nil {
			t.Fatal(err)
		}
		if content, err := m.Decrypt(t.Context(), here, item); err != nil || content.Restored {
			t.Errorf("read %+v, %v", content, err)
		}
	})
}

func put(t testing.TB, m *Machine, session *crypto.InboundGroupSession) {
	t.Helper()
	if err := m.olm.StoreGroupSession(t.Context(), session); err != nil {
		t.Fatal(err)
	}
}

// keptOf is a backup with one key, put there as any device puts it.
func keptOf(t testing.TB, recovery *backup.MegolmBackupKey, session *crypto.InboundGroupSession) wire.BackupKeys {
	t.Helper()
	m := offline(t)
	m.backup.use("1", recovery.PublicKey())
	key, err := m.backedUp(session)
	if err != nil {
		t.Fatal(err)
	}
	return wire.BackupKeys{Rooms: map[string]wire.BackupRoom{
		string(session.RoomID): {Sessions: map[string]wire.BackupKey{string(session.ID()): key}},
	}}
}

// A device that passes on a key as Alice's, and then sends the same key as its own, is not taken for Alice's.
func TestAKeyThatWasPassedOnIsNotTaken(t *testing.T) {
	m := offline(t)
	hers, his := m.signed(t, alice), m.signed(t, mallory)
	made := newSession(t)
	item := made.write(t, alice, plaintextOf(t, Content{Kind: KindText, ID: aMessage, Text: "send the money"}))
	forwarded := made.inbound(t, made.first, hers, id.KeySourceForward)
	forwarded.ForwardingChains = []string{his.IdentityKey.String()}
	if err := m.olm.StoreGroupSession(t.Context(), forwarded); !errors.Is(err, errForwarded) {
		t.Errorf("took a forwarded key: %v", err)
	}
	put(t, m, made.inbound(t, made.first, his, id.KeySourceDirect))
	if content, err := m.Decrypt(t.Context(), here, item); !errors.Is(err, ErrUnsigned) {
		t.Errorf("read %+v, %v", content, err)
	}
}

// What is decoded is a key's one text, but for spaces.
func FuzzRecoveryKey(f *testing.F) {
	for _, seed := range []string{
		"", "EsTi NCxo xjWT QRy5 xmvj XFCr z4b6 mhzP nzAu 6FgN ok9F LPsH", "EsTiNCxoxjWTQRy5xmvjXFCrz4b6mhzPnzAu6FgNok9FLPsH\n",
		"EsTi NCxo xjWT QRy5 xmvj XFCr z4b6 mhzP nzAu 6FgN ok9F LPsI", "1EsTi NCxo xjWT QRy5 xmvj XFCr z4b6 mhzP nzAu 6FgN ok9F LPsH",
		"0OIl", "\u00e9\u2003x", "\xff", strings.Repeat("z", 129), strings.Repeat("1", 48),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		key, err := readRecoveryKey(text)
		if err != nil {
			if !errors.Is(err, ErrWrongRecoveryKey) {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		joined := func(text string) string { return strings.Join(strings.Fields(text), "") }
		if again := utils.EncodeBase58RecoveryKey(key.Bytes()); joined(again) != joined(text) {
			t.Errorf("%q was read as %q", text, again)
		}
	})
}

// Whatever the server makes of an auth_data, it opens to the identity that was put there, signed by it, or to an error of this package.
func FuzzAuthData(f *testing.F) {
	kept := readBrowser(f)
	key, err := readRecoveryKey(kept.RecoveryKey)
	if err != nil {
		f.Fatal(err)
	}
	good, err := openBackup(kept.Version, me, key)
	if err != nil {
		f.Fatal(err)
	}
	whole := string(kept.Version.AuthData)
	for _, seed := range []string{
		whole, whole + "{}", strings.Replace(whole, "{", `{"unsigned":{"x":1.5},`, 1), strings.Replace(whole, "{", `{"public_key":"AA",`, 1),
		strings.Replace(whole, `"signatures"`, `"Signatures"`, 1), strings.ReplaceAll(whole, "ed25519:", "ed25519:x"), `{}`, `[]`, `null`,
		`{"public_key":7}`, `{"public_key":"AA","secureconnect_identity":null,"signatures":{"":{"":""}}}`, strings.Repeat("[", 5000),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		identity, err := openBackup(wire.BackupState{Version: "1", AuthData: raw}, me, key)
		if err != nil {
			if !errors.Is(err, ErrWrongRecoveryKey) && !errors.Is(err, ErrBackupForged) {
				t.Errorf("%q: %v", raw, err)
			}
			return
		}
		if !reflect.DeepEqual(identity, good) {
			t.Errorf("%q holds another identity", raw)
		}
	})
}

// Whatever is in a backup, as it lies there or inside its encryption, is a key of the session that it is called, or is not taken.
func FuzzBackedUpKey(f *testing.F) {
	kept := readBrowser(f)
	recovery, err := readRecoveryKey(kept.RecoveryKey)
	if err != nil {
		f.Fatal(err)
	}
	for _, room := range kept.Keys.Rooms {
		for name, key := range room.Sessions {
			opened, err := openKey(key.SessionData, recovery)
			if err != nil {
				f.Fatal(err)
			}
			plain, err := json.Marshal(opened)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(name, []byte(key.SessionData), false)
			f.Add(name, plain, true)
			f.Add("another", plain, true)
			f.Add(name, []byte(strings.Replace(string(plain), `"session_key":"AQAAAA`, `"session_key":"AQ////`, 1)), true)
		}
	}
	for _, seed := range []string{`{}`, `null`, `[]`, `{"ephemeral":null}`, `{"algorithm":"m.megolm.v1.aes-sha2","session_key":""}`} {
		f.Add("s", []byte(seed), false)
		f.Add("s", []byte(seed), true)
	}
	m := offline(f)
	f.Fuzz(func(t *testing.T, name string, raw []byte, inside bool) {
		if inside {
			encrypted, err := backup.EncryptSessionData(recovery, json.RawMessage(raw))
			if err != nil {
				return // no JSON
			}
			if raw, err = json.Marshal(encrypted); err != nil {
				t.Fatal(err)
			}
		}
		taken, err := m.restoreKey(t.Context(), "1", roomOf(here), id.SessionID(name), raw, recovery)
		if err != nil {
			t.Fatal(err)
		}
		if held, err := m.olm.CryptoStore.GetGroupSession(t.Context(), roomOf(here), id.SessionID(name)); taken && (err != nil || held.ID() != id.SessionID(name)) {
			t.Errorf("took %q as the key of %q: %v", raw, name, err)
		}
		if err := m.olm.CryptoStore.RedactGroupSession(t.Context(), roomOf(here), id.SessionID(name), ""); err != nil {
			t.Fatal(err)
		}
	})
}
