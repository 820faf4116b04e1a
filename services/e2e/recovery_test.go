package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"secureconnect/services/client"
	"secureconnect/services/client/e2ee"
	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/wire"
)

// anotherPhone is a new device of a person who is signed in elsewhere, or was.
func anotherPhone(t *testing.T, c *client.Client, username string) *phone {
	t.Helper()
	tokens, _, err := c.Login(t.Context(), client.Credentials{Username: username, Password: "a long password"})
	if err != nil {
		t.Fatal(err)
	}
	return newPhone(t, c, tokens)
}

// begin makes a person's first device, with an identity and a backup.
func (p *phone) begin() (recoveryKey string) {
	p.t.Helper()
	if _, err := p.Bootstrap(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	recoveryKey, err := p.NewRecovery(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	return recoveryKey
}

func (p *phone) recover(recoveryKey string, keys int) {
	p.t.Helper()
	got, err := p.Recover(p.t.Context(), recoveryKey)
	if want := (e2ee.Recovered{Keys: keys}); err != nil || got != want {
		p.t.Fatalf("recovered %+v, %v, want %+v", got, err, want)
	}
}

// loseDevice ends the session too, so that nobody can ask the device again.
func (p *phone) loseDevice(c *client.Client) {
	p.t.Helper()
	p.leave()
	if _, err := c.Logout(p.t.Context(), p.tokens.AccessToken); err != nil {
		p.t.Fatal(err)
	}
}

// marked are the texts that a person is told not to trust fully.
func (p *phone) marked() (texts []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.read {
		if m.Content.Restored {
			texts = append(texts, m.Content.Text)
		}
	}
	return texts
}

func (p *phone) wantMarked(want ...string) {
	p.t.Helper()
	if got := p.marked(); !slices.Equal(got, want) {
		p.t.Errorf("marked are %q, want %q", got, want)
	}
}

func (p *phone) fingerprintOf(user wire.UserID) string {
	p.t.Helper()
	fingerprint, err := p.Fingerprint(p.t.Context(), user)
	if err != nil || fingerprint == "" {
		p.t.Fatalf("%q, %v", fingerprint, err)
	}
	return fingerprint
}

var errNotYet = errors.New("no turn has ended yet")

func (p *phone) lastBackup() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.backedUp {
		return errNotYet
	}
	return p.backup
}

func wantBackedUp(t *testing.T, c *client.Client, who client.Tokens, version string, keys int) {
	t.Helper()
	testkit.Eventually(t, 20*time.Second, fmt.Sprintf("%d keys or more are in backup %s", keys, version), func() bool {
		state, _, err := c.Backup(t.Context(), who.AccessToken, "")
		return err == nil && state.Version == version && state.Count >= keys
	})
}

func TestRecovery(t *testing.T) {
	c := watch(t, newPlatform(t))
	linh, mai := enter(t, c, "linh"), enter(t, c, "mai")
	makeFriends(t, c, linh, mai)
	writer, lost := newPhone(t, c, linh), newPhone(t, c, mai)
	writer.begin()
	recoveryKey := lost.begin()
	identity := lost.fingerprintOf(mai.User.ID)
	if err := writer.Verify(t.Context(), mai.User.ID, identity); err != nil {
		t.Fatal(err)
	}
	group, _, err := c.CreateConversation(t.Context(), linh.AccessToken, client.ConversationRequest{
		Kind: wire.KindGroup, Name: "All", ClientID: messageID(t), Members: []wire.UserID{mai.User.ID},
	})
	if err != nil {
		t.Fatal(err)
	}
	writer.switchOn()
	lost.switchOn()
	writer.say(group.ID, "hello")
	lost.wantTexts("hello")
	lost.say(group.ID, "hello, Linh")
	writer.wantTexts("hello", "hello, Linh")
	wantBackedUp(t, c, mai, "1", 2)
	lost.wantMarked()
	lost.loseDevice(c)

	second := anotherPhone(t, c, "mai")
	second.recover(strings.ReplaceAll(recoveryKey, " ", "\n "), 2)
	second.switchOn()
	t.Run("a_new_device_reads_what_was_written_and_is_told_where_the_keys_are_from", func(t *testing.T) {
		second.wantTexts("hello", "hello, Linh")
		second.wantMarked("hello", "hello, Linh")
	})
	t.Run("to_others_nothing_has_changed", func(t *testing.T) {
		if got := writer.fingerprintOf(mai.User.ID); got != identity {
			t.Errorf("the identity is %s, was %s", got, identity)
		}
		testkit.Eventually(t, 20*time.Second, "the writer writes to the new device", func() bool {
			writer.say(group.ID, "still you")
			return slices.Contains(second.texts(), "still you")
		})
		second.say(group.ID, "it is me")
		testkit.Eventually(t, 20*time.Second, "the writer reads the new device", func() bool { return slices.Contains(writer.texts(), "it is me") })
		second.wantMarked("hello", "hello, Linh")
		writer.wantMarked()
	})
	t.Run("and_the_new_device_goes_on_with_the_backup", func(t *testing.T) {
		want := second.texts()
		wantBackedUp(t, c, second.tokens, "1", 4)
		second.loseDevice(c)
		third := anotherPhone(t, c, "mai")
		if got, err := third.Recover(t.Context(), recoveryKey); err != nil || got.Keys < 4 {
			t.Fatalf("recovered %+v, %v", got, err)
		}
		third.switchOn()
		testkit.Eventually(t, 20*time.Second, "the third reads all", func() bool { return len(third.texts()) >= len(want) })
		for _, text := range third.texts() {
			if strings.HasPrefix(text, "! ") && text != "! "+e2ee.ErrNoKey.Error() {
				t.Errorf("it shows %q", text)
			}
		}
		if !slices.Contains(third.texts(), "it is me") || !slices.Contains(third.texts(), "hello") {
			t.Errorf("it shows %q", third.texts())
		}
	})
}

// Several devices of one person, and what each makes of another one's backup.
func TestBackupOfSeveralDevices(t *testing.T) {
	c := watch(t, newPlatform(t))
	linh, mai := enter(t, c, "linh"), enter(t, c, "mai")
	makeFriends(t, c, linh, mai)
	writer, first, joined := newPhone(t, c, linh), newPhone(t, c, mai), anotherPhone(t, c, "mai")
	if _, err := writer.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	identity, err := first.Bootstrap(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := joined.Join(t.Context(), identity); err != nil {
		t.Fatal(err)
	}
	if _, err := joined.Recover(t.Context(), "EsTi NCxo xjWT QRy5 xmvj XFCr z4b6 mhzP nzAu 6FgN ok9F LPsH"); !errors.Is(err, e2ee.ErrNoBackup) {
		t.Errorf("without a backup: %v", err)
	}
	oldKey, err := first.NewRecovery(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	group, _, err := c.CreateConversation(t.Context(), linh.AccessToken, client.ConversationRequest{
		Kind: wire.KindGroup, Name: "All", ClientID: messageID(t), Members: []wire.UserID{mai.User.ID},
	})
	if err != nil {
		t.Fatal(err)
	}
	writer.switchOn()
	joined.switchOn()
	writer.say(group.ID, "hello")
	joined.wantTexts("hello")
	t.Run("one_that_joined_backs_up_too", func(t *testing.T) {
		wantBackedUp(t, c, mai, "1", 1)
		testkit.Eventually(t, 20*time.Second, "it hears so", func() bool { return joined.lastBackup() == nil })
		testkit.Eventually(t, 20*time.Second, "who has none hears so", func() bool { return errors.Is(writer.lastBackup(), e2ee.ErrNoBackup) })
	})

	newKey, err := first.NewRecovery(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Run("after_a_reset_it_goes_on_with_the_new_one", func(t *testing.T) {
		joined.say(group.ID, "hello, Linh")
		wantBackedUp(t, c, mai, "2", 2)
	})
	t.Run("and_the_old_key_is_refused", func(t *testing.T) {
		last := anotherPhone(t, c, "mai")
		if _, err := last.Recover(t.Context(), oldKey); !errors.Is(err, e2ee.ErrWrongRecoveryKey) {
			t.Errorf("got %v", err)
		}
		last.recover(newKey, 2)
	})
	t.Run("who_has_no_identity_makes_none", func(t *testing.T) {
		stranger := anotherPhone(t, c, "mai")
		if key, err := stranger.NewRecovery(t.Context()); !errors.Is(err, e2ee.ErrNoIdentity) {
			t.Errorf("got %q, %v", key, err)
		}
		if err := stranger.BackUp(t.Context()); !errors.Is(err, e2ee.ErrNoIdentity) {
			t.Errorf("got %v", err)
		}
	})
}

// The server is the attacker: whatever it makes of a backup, it learns nothing and passes for nobody.
func TestLyingAboutABackup(t *testing.T) {
	p := newPlatform(t)
	c := watch(t, p)
	mai, eve := enter(t, c, "mai"), enter(t, c, "eve")
	keeper, thief := newPhone(t, c, mai), newPhone(t, c, eve)
	recoveryKey, thiefsKey := keeper.begin(), thief.begin()
	group, _, err := c.CreateConversation(t.Context(), mai.AccessToken, client.ConversationRequest{Kind: wire.KindGroup, Name: "Notes", ClientID: messageID(t)})
	if err != nil {
		t.Fatal(err)
	}
	say := func(text string) error {
		_, err := keeper.Encrypt(t.Context(), group.ID, []wire.UserID{mai.User.ID}, e2ee.Content{Kind: e2ee.KindText, ID: messageID(t), Text: text})
		if err != nil {
			t.Fatal(err)
		}
		return keeper.BackUp(t.Context())
	}
	if err := say("hello"); err != nil {
		t.Fatal(err)
	}
	authDataOf := func(who client.Tokens) map[string]any {
		state, _, err := c.Backup(t.Context(), who.AccessToken, "")
		if err != nil {
			t.Fatal(err)
		}
		var data map[string]any
		if err := json.Unmarshal(state.AuthData, &data); err != nil {
			t.Fatal(err)
		}
		return data
	}
	mine, theirs := authDataOf(mai), authDataOf(eve)
	change := func(data any) {
		t.Helper()
		text, isText := data.(string)
		if !isText {
			raw, err := json.Marshal(data)
			if err != nil {
				t.Fatal(err)
			}
			text = string(raw)
		}
		if _, err := p.sql.Exec(t.Context(), `UPDATE key_backups SET auth_data = $2 WHERE user_id = $1`, mai.User.ID, text); err != nil {
			t.Fatal(err)
		}
	}
	with := func(field string, value any) map[string]any {
		changed := map[string]any{}
		for name, old := range mine {
			changed[name] = old
		}
		changed[field] = value
		return changed
	}
	flipped := func(field string) map[string]any {
		box := map[string]any{}
		for name, old := range mine["secureconnect_identity"].(map[string]any) {
			box[name] = old
		}
		text := []byte(box[field].(string))
		text[3] ^= 'A' ^ 'B' ^ 'A' ^ 'C' // another letter of base64
		box[field] = string(text)
		return with("secureconnect_identity", box)
	}
	fresh := anotherPhone(t, c, "mai")
	for name, c := range map[string]struct {
		data any
		key  string
		want error
	}{
		"no_key_at_all":                       {mine, "EsTi NCxo", e2ee.ErrWrongRecoveryKey},
		"a_letter_mistyped":                   {mine, swapped(recoveryKey), e2ee.ErrWrongRecoveryKey},
		"somebody_elses_key":                  {mine, thiefsKey, e2ee.ErrWrongRecoveryKey},
		"somebody_elses_backup":               {theirs, recoveryKey, e2ee.ErrWrongRecoveryKey},
		"a_tampered_identity":                 {flipped("ciphertext"), recoveryKey, e2ee.ErrBackupForged},
		"a_tampered_iv":                       {flipped("iv"), recoveryKey, e2ee.ErrBackupForged},
		"somebody_elses_identity":             {with("secureconnect_identity", theirs["secureconnect_identity"]), recoveryKey, e2ee.ErrBackupForged},
		"no_identity":                         {with("secureconnect_identity", nil), recoveryKey, e2ee.ErrBackupForged},
		"no_signatures":                       {with("signatures", nil), recoveryKey, e2ee.ErrBackupForged},
		"somebody_elses_signatures":           {with("signatures", theirs["signatures"]), recoveryKey, e2ee.ErrBackupForged},
		"somebody_elses_signatures_as_ours":   {with("signatures", renamed(t, theirs["signatures"], eve, mai)), recoveryKey, e2ee.ErrBackupForged},
		"more_than_was_signed":                {with("more", "x"), recoveryKey, e2ee.ErrBackupForged},
		"an_object_with_two_readings":         {merged(t, theirs, mine), thiefsKey, e2ee.ErrWrongRecoveryKey},
		"the_identity_as_a_number_of_a_field": {with("secureconnect_identity", 7), recoveryKey, e2ee.ErrBackupForged},
	} {
		t.Run(name, func(t *testing.T) {
			change(c.data)
			if got, err := fresh.Recover(t.Context(), c.key); !errors.Is(err, c.want) {
				t.Errorf("recovered %+v, %v, want: %v", got, err, c.want)
			}
			if _, err := fresh.NewRecovery(t.Context()); !errors.Is(err, e2ee.ErrNoIdentity) {
				t.Errorf("the device has taken an identity: %v", err)
			}
		})
	}
	change(mine)

	t.Run("another_algorithm", func(t *testing.T) {
		set := func(algorithm string) {
			if _, err := p.sql.Exec(t.Context(), `UPDATE key_backups SET algorithm = $2 WHERE user_id = $1`, mai.User.ID, algorithm); err != nil {
				t.Fatal(err)
			}
		}
		set("m.plain")
		defer set("m.megolm_backup.v1.curve25519-aes-sha2")
		if _, err := fresh.Recover(t.Context(), recoveryKey); !errors.Is(err, e2ee.ErrBackupForged) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a_damaged_key_keeps_the_others_from_nobody", func(t *testing.T) {
		state, _, err := c.Backup(t.Context(), mai.AccessToken, "")
		if err != nil {
			t.Fatal(err)
		}
		junk := client.BackupRoom{Sessions: map[string]client.BackupKey{}}
		for i, data := range []string{`{}`, `{"ciphertext":"AAAA","ephemeral":"AAAA","mac":"AAAA"}`, `{"ciphertext":7}`, `{"ephemeral":null,"mac":"","ciphertext":""}`} {
			junk.Sessions[fmt.Sprint("junk", i)] = client.BackupKey{SessionData: json.RawMessage(data)}
		}
		kept, _, err := c.ReadBackup(t.Context(), mai.AccessToken, state.Version, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, room := range kept.Rooms {
			for _, key := range room.Sessions {
				junk.Sessions["another_session"] = key // a good key, of another session than it is called
			}
		}
		put := client.BackupKeys{Rooms: map[string]client.BackupRoom{"!junk:secureconnect": junk}}
		if _, _, err := c.StoreBackup(t.Context(), mai.AccessToken, state.Version, put); err != nil {
			t.Fatal(err)
		}
		other := anotherPhone(t, c, "mai")
		if got, err := other.Recover(t.Context(), recoveryKey); err != nil || got.Keys != 1 || got.Damaged != len(junk.Sessions) {
			t.Errorf("recovered %+v, %v", got, err)
		}
	})
	t.Run("another_identity_than_the_backup_holds", func(t *testing.T) {
		rows := map[string]string{}
		for _, usage := range []string{"master", "self_signing", "user_signing"} {
			var body string
			if err := p.sql.QueryRow(t.Context(), `SELECT body FROM key_identities WHERE user_id = $1 AND usage = $2`, eve.User.ID, usage).Scan(&body); err != nil {
				t.Fatal(err)
			}
			rows[usage] = strings.ReplaceAll(body, string(eve.User.ID), string(mai.User.ID))
		}
		for usage, body := range rows {
			var old string
			if err := p.sql.QueryRow(t.Context(), `SELECT body FROM key_identities WHERE user_id = $1 AND usage = $2`, mai.User.ID, usage).Scan(&old); err != nil {
				t.Fatal(err)
			}
			show := func(body string) {
				if _, err := p.sql.Exec(t.Context(), `UPDATE key_identities SET body = $3 WHERE user_id = $1 AND usage = $2`, mai.User.ID, usage, body); err != nil {
					t.Fatal(err)
				}
			}
			show(body)
			other := anotherPhone(t, c, "mai")
			changed := new(e2ee.IdentityChangedError)
			if _, err := other.Recover(t.Context(), recoveryKey); !errors.As(err, &changed) || changed.User != mai.User.ID {
				t.Errorf("with another %s key: %v", usage, err)
			}
			if err := other.BackUp(t.Context()); !errors.Is(err, e2ee.ErrNoIdentity) {
				t.Errorf("with another %s key the device has taken an identity: %v", usage, err)
			}
			show(old)
		}
	})

	swap := func(data any) string {
		raw, err := json.Marshal(data)
		if err != nil {
			t.Fatal(err)
		}
		version, _, err := c.NewBackup(t.Context(), mai.AccessToken, client.BackupVersion{Algorithm: "m.megolm_backup.v1.curve25519-aes-sha2", AuthData: raw})
		if err != nil {
			t.Fatal(err)
		}
		return version
	}
	wantEmpty := func(version string) {
		t.Helper()
		if state, _, err := c.Backup(t.Context(), mai.AccessToken, version); err != nil || state.Count != 0 {
			t.Errorf("the swapped backup has %d keys, %v", state.Count, err)
		}
	}
	anew := func() { // who writes when the members have changed uses a new session
		t.Helper()
		if _, err := keeper.Encrypt(t.Context(), group.ID, []wire.UserID{mai.User.ID, eve.User.ID}, e2ee.Content{Kind: e2ee.KindText, ID: messageID(t)}); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("no_key_goes_to_a_backup_that_was_swapped", func(t *testing.T) {
		version := swap(theirs)
		anew()
		if err := say("secret"); !errors.Is(err, e2ee.ErrBackupForged) {
			t.Errorf("got %v", err)
		}
		wantEmpty(version)
		if _, err := c.RemoveBackup(t.Context(), mai.AccessToken, version); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("nor_to_an_old_one_that_is_shown_again", func(t *testing.T) {
		if _, err := keeper.NewRecovery(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := say("moved"); err != nil {
			t.Fatal(err)
		}
		version := swap(mine)
		anew()
		if err := say("secret"); !errors.Is(err, e2ee.ErrBackupForged) {
			t.Errorf("got %v", err)
		}
		wantEmpty(version)
	})
}

// swapped is a recovery key with two letters in each other's place.
func swapped(key string) string {
	letters := []byte(key)
	for i := 5; ; i++ {
		if letters[i] != letters[i+1] && letters[i] != ' ' && letters[i+1] != ' ' {
			letters[i], letters[i+1] = letters[i+1], letters[i]
			return string(letters)
		}
	}
}

// renamed passes one person's signatures off as another's.
func renamed(t *testing.T, signatures any, from, to client.Tokens) any {
	t.Helper()
	raw, err := json.Marshal(signatures)
	if err != nil {
		t.Fatal(err)
	}
	var renamed any
	if err := json.Unmarshal([]byte(strings.ReplaceAll(string(raw), string(from.User.ID), string(to.User.ID))), &renamed); err != nil {
		t.Fatal(err)
	}
	return renamed
}

// merged is the text of an object with all the fields of both, each twice.
func merged(t *testing.T, first, second map[string]any) string {
	t.Helper()
	a, err := json.Marshal(first)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(second)
	if err != nil {
		t.Fatal(err)
	}
	return string(a[:len(a)-1]) + "," + string(b[1:])
}

func TestBackupReplacedWhileItIsRead(t *testing.T) {
	p := newPlatform(t)
	c := watch(t, p)
	mai := enter(t, c, "mai")
	keeper := newPhone(t, c, mai)
	keeper.begin()
	target, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}
	meanwhile := func() error { return nil }
	between := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: func(response *http.Response) error {
			if response.Request.URL.Path == "/v1/keys/backup/version" {
				return meanwhile()
			}
			return nil
		},
	})
	t.Cleanup(between.Close)
	slow, err := client.New(client.Options{BaseURL: between.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(slow.Close)
	fresh := anotherPhone(t, slow, "mai")
	for name, replace := range map[string]func() error{
		"by_another": func() error { _, err := keeper.NewRecovery(t.Context()); return err },
		"by_none":    func() error { _, err := c.RemoveBackup(t.Context(), mai.AccessToken, "1"); return err },
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := p.sql.Exec(t.Context(), `DELETE FROM key_backups`); err != nil {
				t.Fatal(err)
			}
			recoveryKey, err := keeper.NewRecovery(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var once sync.Once
			meanwhile = func() (err error) {
				once.Do(func() { err = replace() })
				return err
			}
			if got, err := fresh.Recover(t.Context(), recoveryKey); !errors.Is(err, e2ee.ErrBackupReplaced) {
				t.Errorf("recovered %+v, %v", got, err)
			}
		})
	}
}

// testdata/recovery.json of the client library was made once by the web client's own code: core/recovery.ts, bundled for Node with
// matrix-sdk-crypto-wasm 18.9.0, made the identity, the backup and one session, and read them back with the recovery key.
func TestRecoversWhatABrowserKept(t *testing.T) {
	p := newPlatform(t)
	c := watch(t, p)
	var browser struct {
		RecoveryKey  string                `json:"recovery_key"`
		User         wire.UserID           `json:"user"`
		Identity     client.IdentityUpload `json:"identity"`
		Device       json.RawMessage       `json:"device"`
		Version      client.BackupVersion  `json:"version"`
		Keys         client.BackupKeys     `json:"keys"`
		Conversation wire.ConversationID   `json:"conversation"`
		Item         wire.Item             `json:"item"`
		Text         string                `json:"text"`
	}
	raw, err := os.ReadFile("../client/e2ee/testdata/recovery.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &browser); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Register(t.Context(), client.Registration{Username: "mai", Password: "a long password", DisplayName: "Mai"}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.sql.Exec(t.Context(), `UPDATE users SET id = $1`, browser.User); err != nil {
		t.Fatal(err)
	}
	mai, _, err := c.Login(t.Context(), client.Credentials{Username: "mai", Password: "a long password", DeviceID: "WEB"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.UploadKeys(t.Context(), mai.AccessToken, client.KeysUpload{DeviceKeys: browser.Device}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PublishIdentity(t.Context(), mai.AccessToken, browser.Identity); err != nil {
		t.Fatal(err)
	}
	version, _, err := c.NewBackup(t.Context(), mai.AccessToken, browser.Version)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.StoreBackup(t.Context(), mai.AccessToken, version, browser.Keys); err != nil {
		t.Fatal(err)
	}

	fresh := anotherPhone(t, c, "mai")
	fresh.recover(browser.RecoveryKey, 1)
	content, err := fresh.Decrypt(t.Context(), browser.Conversation, browser.Item)
	if err != nil || content.Text != browser.Text || !content.Restored {
		t.Errorf("read %+v, %v", content, err)
	}
	if err := fresh.BackUp(t.Context()); err != nil {
		t.Errorf("its backup: %v", err)
	}
}
