package e2e

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"secureconnect/services/client"
)

// signer makes what a client's cryptography would: keys signed by each other.
type signer struct {
	user, device string
	key          ed25519.PrivateKey
}

func newSigner(t *testing.T, user, device string) signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return signer{"@" + user + ":secureconnect", device, key}
}

func (s signer) public() string {
	return base64.RawStdEncoding.EncodeToString(s.key.Public().(ed25519.PublicKey))
}

// sign adds the signature of a key called name. What is signed here is plain enough for json.Marshal to be canonical.
func (s signer) sign(t *testing.T, name string, object map[string]any) json.RawMessage {
	t.Helper()
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	object["signatures"] = map[string]any{s.user: map[string]any{"ed25519:" + name: base64.RawStdEncoding.EncodeToString(ed25519.Sign(s.key, text))}}
	signed, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func (s signer) deviceKeys(t *testing.T) json.RawMessage {
	return s.sign(t, s.device, map[string]any{
		"user_id": s.user, "device_id": s.device, "algorithms": []string{"m.olm.v1.curve25519-aes-sha2"},
		"keys": map[string]string{"ed25519:" + s.device: s.public(), "curve25519:" + s.device: s.public()},
	})
}

func (s signer) masterKey(t *testing.T) json.RawMessage {
	return s.sign(t, s.public(), map[string]any{
		"user_id": s.user, "usage": []string{"master"}, "keys": map[string]string{"ed25519:" + s.public(): s.public()},
	})
}

// Two people's keys through the gateway, each answer compared with the document.
func TestKeysFromStartToEnd(t *testing.T) {
	p := newPlatform(t)
	c := watch(t, p)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	linh, minh := enter(t, c, "linh"), enter(t, c, "minh")
	hers, his := newSigner(t, string(linh.User.ID), string(linh.DeviceID)), newSigner(t, string(minh.User.ID), string(minh.DeviceID))

	_, _, err := c.UploadKeys(ctx, "", client.KeysUpload{})
	wantCode(t, err, "token_missing")
	_, _, err = c.UploadKeys(ctx, linh.AccessToken, client.KeysUpload{DeviceKeys: his.deviceKeys(t)})
	wantCode(t, err, "not_your_device")
	key := hers.sign(t, hers.device, map[string]any{"key": hers.public()})
	fallback := hers.sign(t, hers.device, map[string]any{"key": hers.public(), "fallback": true})
	uploaded, _, err := c.UploadKeys(ctx, linh.AccessToken, client.KeysUpload{
		DeviceKeys: hers.deviceKeys(t), OneTimeKeys: map[string]json.RawMessage{"signed_curve25519:A": key},
		FallbackKeys: map[string]json.RawMessage{"signed_curve25519:F": fallback},
	})
	if err != nil || uploaded.OneTimeKeyCounts["signed_curve25519"] != 1 {
		t.Fatalf("upload: %+v, %v", uploaded, err)
	}
	_, _, err = c.UploadKeys(ctx, linh.AccessToken, client.KeysUpload{OneTimeKeys: map[string]json.RawMessage{"signed_curve25519:A": hers.sign(t, hers.device, map[string]any{"key": his.public()})}})
	wantCode(t, err, "one_time_key_exists")
	_, err = c.PublishIdentity(ctx, linh.AccessToken, client.IdentityUpload{MasterKey: hers.masterKey(t)})
	must(err)
	another := newSigner(t, string(linh.User.ID), "")
	_, err = c.PublishIdentity(ctx, linh.AccessToken, client.IdentityUpload{MasterKey: another.masterKey(t)})
	wantCode(t, err, "reauthentication_required")
	_, err = c.PublishIdentity(ctx, linh.AccessToken, client.IdentityUpload{MasterKey: another.masterKey(t), Auth: &client.PasswordAuth{Type: "m.login.password", Password: "wrong"}})
	wantCode(t, err, "wrong_password")
	refused, _, err := c.PublishSignatures(ctx, linh.AccessToken, client.SignaturesUpload{hers.user: {"GHOST": hers.deviceKeys(t)}})
	if err != nil || refused.Failures[hers.user]["GHOST"].Code != "M_NOT_FOUND" {
		t.Errorf("signatures: %+v, %v", refused, err)
	}

	found, _, err := c.QueryKeys(ctx, minh.AccessToken, client.KeysQuery{DeviceKeys: map[string][]string{hers.user: {}}})
	if err != nil || len(found.DeviceKeys[hers.user]) != 1 || len(found.MasterKeys) != 1 {
		t.Errorf("query: %+v, %v", found, err)
	}
	asked := client.KeysClaim{OneTimeKeys: map[string]map[string]string{hers.user: {hers.device: "signed_curve25519"}}}
	for _, want := range []string{"signed_curve25519:A", "signed_curve25519:F"} {
		claimed, _, err := c.ClaimKeys(ctx, minh.AccessToken, asked)
		if _, got := claimed.OneTimeKeys[hers.user][hers.device][want]; err != nil || !got {
			t.Errorf("claim of %s: %+v, %v", want, claimed, err)
		}
	}

	start, _, err := c.SyncKeys(ctx, linh.AccessToken, "", 0)
	must(err)
	message := client.ToDevice{Messages: map[string]map[string]json.RawMessage{hers.user: {"*": json.RawMessage(`{"hello":"there"}`)}}}
	_, _, err = c.SendToDevice(ctx, minh.AccessToken, "m.test", "t1", message)
	must(err)
	page, _, err := c.SyncKeys(ctx, linh.AccessToken, start.NextBatch, 10*time.Second)
	if err != nil || len(page.ToDevice.Events) != 1 || page.ToDevice.Events[0].Sender != his.user {
		t.Errorf("sync: %+v, %v", page, err)
	}
	_, _, err = c.SyncKeys(ctx, minh.AccessToken, page.NextBatch, 0)
	wantCode(t, err, "invalid_since")
	// As much as a room key for a large group is.
	message.Messages[hers.user] = map[string]json.RawMessage{}
	for i := range 80 {
		message.Messages[hers.user][strings.Repeat("A", i+1)] = json.RawMessage(`{"x":"` + strings.Repeat("x", 60<<10) + `"}`)
	}
	_, _, err = c.SendToDevice(ctx, minh.AccessToken, "m.test", "large", message)
	must(err)

	version, _, err := c.NewBackup(ctx, linh.AccessToken, client.BackupVersion{Algorithm: "m.test", AuthData: json.RawMessage(`{}`)})
	must(err)
	kept := client.BackupKeys{Rooms: map[string]client.BackupRoom{"!r:secureconnect": {Sessions: map[string]client.BackupKey{"s": {SessionData: json.RawMessage(`{}`)}}}}}
	stored, _, err := c.StoreBackup(ctx, linh.AccessToken, version, kept)
	if err != nil || stored.Count != 1 {
		t.Errorf("backup: %+v, %v", stored, err)
	}
	for _, which := range []string{"", version} {
		if state, _, err := c.Backup(ctx, linh.AccessToken, which); err != nil || state.Count != 1 || state.ETag != stored.ETag {
			t.Errorf("backup %q: %+v, %v", which, state, err)
		}
	}
	for _, room := range []string{"", "!r:secureconnect"} {
		if got, _, err := c.ReadBackup(ctx, linh.AccessToken, version, room); err != nil || len(got.Rooms) != 1 {
			t.Errorf("backup of room %q: %+v, %v", room, got, err)
		}
	}
	answer, err := c.RemoveBackup(ctx, linh.AccessToken, version)
	if err != nil || answer.Status != http.StatusOK {
		t.Errorf("remove: %+v, %v", answer, err)
	}
	_, _, err = c.Backup(ctx, linh.AccessToken, "")
	wantCode(t, err, "no_such_backup")
}
