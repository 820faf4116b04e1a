package keys_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"

	"secureconnect/services/internal/wire"
)

// self is somebody's cross-signing keys.
type self struct {
	user                             string
	master, selfSigning, userSigning ed25519.PrivateKey
}

func newSelf(d *device) self { return self{d.user(), newKey(), newKey(), newKey()} }

func (s self) object(usage string, key ed25519.PrivateKey) object {
	return object{"user_id": s.user, "usage": []any{usage}, "keys": object{"ed25519:" + public(key): public(key)}}
}

func (s self) masterKey() object { return s.object("master", s.master) }

func (s self) byMaster(usage string, key ed25519.PrivateKey) object {
	return sign(s.object(usage, key), s.user, public(s.master), s.master)
}

func (s self) upload() object {
	return object{
		"master_key":       s.masterKey(),
		"self_signing_key": s.byMaster("self_signing", s.selfSigning),
		"user_signing_key": s.byMaster("user_signing", s.userSigning),
	}
}

// signDevice is d's keys signed by the identity.
func (s self) signDevice(d *device) object {
	return object{s.user: object{d.id(): sign(d.bareDeviceKeys(), s.user, public(s.selfSigning), s.selfSigning)}}
}

// signMaster is another's master key signed by the identity's user-signing key.
func (s self) signMaster(other self) object {
	return object{other.user: object{public(other.master): sign(other.masterKey(), s.user, public(s.userSigning), s.userSigning)}}
}

func (d *device) publish(s self) {
	d.t.Helper()
	into[object](d.t, d.post("device_signing/upload", s.upload()))
}

func (d *device) signatures(body object) wire.SignaturesUploaded {
	d.t.Helper()
	return into[wire.SignaturesUploaded](d.t, d.post("signatures/upload", body))
}

func TestIdentity(t *testing.T) {
	w := newWorld(t)
	ada, eve := w.join("ada"), w.join("eve")
	mine := newSelf(ada)
	with := func(body object, change object) object {
		all := maps.Clone(body)
		maps.Copy(all, change)
		return all
	}
	shown := func(text string) object {
		return object{"auth": object{"type": "m.login.password", "password": text, "identifier": object{"type": "m.id.user", "user": "ada"}}}
	}

	other := newSelf(eve)
	for name, forged := range map[string]struct {
		body   object
		status int
		code   string
	}{
		"anothers":                       {other.upload(), http.StatusForbidden, "not_your_identity"},
		"nothing":                        {object{}, http.StatusBadRequest, "invalid_keys"},
		"unsigned_self_signing":          {with(mine.upload(), object{"self_signing_key": mine.object("self_signing", mine.selfSigning)}), http.StatusBadRequest, "invalid_signature"},
		"self_signing_by_another_master": {with(mine.upload(), object{"self_signing_key": sign(mine.object("self_signing", mine.selfSigning), mine.user, public(mine.master), other.master)}), http.StatusBadRequest, "invalid_signature"},
		"user_signing_by_itself":         {with(mine.upload(), object{"user_signing_key": sign(mine.object("user_signing", mine.userSigning), mine.user, public(mine.userSigning), mine.userSigning)}), http.StatusBadRequest, "invalid_signature"},
		"no_master":                      {object{"self_signing_key": mine.byMaster("self_signing", mine.selfSigning)}, http.StatusBadRequest, "invalid_signature"},
		"another_usage":                  {with(mine.upload(), object{"self_signing_key": mine.byMaster("user_signing", mine.selfSigning)}), http.StatusBadRequest, "invalid_keys"},
		"two_keys":                       {object{"master_key": with(mine.masterKey(), object{"keys": object{"ed25519:" + public(mine.master): public(mine.master), "ed25519:" + public(other.master): public(other.master)}})}, http.StatusBadRequest, "invalid_keys"},
		"misnamed_key":                   {object{"master_key": with(mine.masterKey(), object{"keys": object{"ed25519:" + public(mine.master): public(other.master)}})}, http.StatusBadRequest, "invalid_keys"},
		"device_signature_forged":        {with(mine.upload(), object{"master_key": sign(mine.masterKey(), mine.user, ada.id(), eve.key)}), http.StatusBadRequest, "invalid_signature"},
	} {
		t.Run("refused/"+name, func(t *testing.T) {
			w.want(ada.post("device_signing/upload", forged.body), forged.status, forged.code)
		})
	}
	if found := eve.query(ada).MasterKeys; len(found) != 0 {
		t.Errorf("a forged identity is in the directory: %v", found)
	}

	_, before := eve.changedSince("")
	body := with(mine.upload(), object{"master_key": sign(mine.masterKey(), mine.user, ada.id(), ada.key)})
	t.Run("the_first_is_free_and_seen", func(t *testing.T) {
		into[object](t, ada.post("device_signing/upload", body))
		found := eve.query(ada)
		sameJSON(t, found.MasterKeys[mine.user], body["master_key"])
		sameJSON(t, found.SelfSigningKeys[mine.user], body["self_signing_key"])
		if len(found.UserSigningKeys) != 0 {
			t.Error("others see the user-signing key")
		}
		sameJSON(t, ada.query(ada).UserSigningKeys[mine.user], body["user_signing_key"])
		if changed, _ := eve.changedSince(before); len(changed) != 1 || changed[0] != mine.user {
			t.Errorf("changed: %v", changed)
		}
	})
	t.Run("the_same_again_is_free_and_changes_nothing", func(t *testing.T) {
		_, before := eve.changedSince("")
		into[object](t, ada.post("device_signing/upload", body))
		if changed, _ := eve.changedSince(before); len(changed) != 0 {
			t.Errorf("changed: %v", changed)
		}
	})

	next := newSelf(ada)
	t.Run("replacing_needs_the_password", func(t *testing.T) {
		ada.signatures(mine.signDevice(ada))
		w.want(ada.post("device_signing/upload", next.upload()), http.StatusUnauthorized, "reauthentication_required")
		w.want(ada.post("device_signing/upload", with(next.upload(), object{"auth": object{"type": "m.login.dummy"}})), http.StatusUnauthorized, "reauthentication_required")
		w.want(ada.post("device_signing/upload", with(next.upload(), shown("wrong"))), http.StatusForbidden, "wrong_password")
		w.want(ada.post("device_signing/upload", object{"self_signing_key": mine.byMaster("self_signing", newKey())}), http.StatusUnauthorized, "reauthentication_required")
		sameJSON(t, eve.query(ada).MasterKeys[mine.user], body["master_key"])
		into[object](t, ada.post("device_signing/upload", with(next.upload(), shown(password))))
		found := eve.query(ada)
		sameJSON(t, found.MasterKeys[mine.user], next.masterKey())
		if strings.Contains(string(found.DeviceKeys[mine.user][ada.id()]), public(mine.selfSigning)) {
			t.Error("a signature of the replaced identity is still shown")
		}
	})
	t.Run("a_new_master_alone_leaves_nothing_of_the_old", func(t *testing.T) {
		third := newSelf(ada)
		into[object](t, ada.post("device_signing/upload", with(object{"master_key": third.masterKey()}, shown(password))))
		found := ada.query(ada)
		if len(found.MasterKeys) != 1 || len(found.SelfSigningKeys) != 0 || len(found.UserSigningKeys) != 0 {
			t.Errorf("got %v", found)
		}
		into[object](t, ada.post("device_signing/upload", object{"self_signing_key": third.byMaster("self_signing", third.selfSigning)}))
	})
	t.Run("a_new_master_signs_anew_what_it_keeps", func(t *testing.T) {
		fourth := newSelf(ada)
		into[object](t, ada.post("device_signing/upload", with(fourth.upload(), shown(password))))
		fifth := self{fourth.user, newKey(), fourth.selfSigning, fourth.userSigning}
		stale := object{"master_key": fifth.masterKey(), "self_signing_key": fourth.byMaster("self_signing", fourth.selfSigning)}
		w.want(ada.post("device_signing/upload", with(stale, shown(password))), http.StatusBadRequest, "invalid_signature")
		into[object](t, ada.post("device_signing/upload", with(fifth.upload(), shown(password))))
		sameJSON(t, eve.query(ada).SelfSigningKeys[mine.user], fifth.byMaster("self_signing", fifth.selfSigning))
	})
	t.Run("of_two_first_ones_at_once_one_wins", func(t *testing.T) {
		bob := w.join("bob")
		other := w.login("bob", "")
		codes := make([]string, 2)
		var publishing sync.WaitGroup
		for i, d := range []*device{bob, other} {
			publishing.Go(func() { codes[i] = d.post("device_signing/upload", newSelf(d).upload()).code() })
		}
		publishing.Wait()
		if codes[0]+codes[1] != "reauthentication_required" {
			t.Errorf("got %q", codes)
		}
	})
}

func TestSignatures(t *testing.T) {
	w := newWorld(t)
	ada, bob := w.join("ada"), w.join("bob")
	adas, bobs := newSelf(ada), newSelf(bob)
	ada.publish(adas)
	bob.publish(bobs)
	second := w.login("ada", "")
	second.mustUpload(object{"device_keys": second.deviceKeys()})

	t.Run("on_an_own_device_seen_by_all", func(t *testing.T) {
		bob.query(ada)
		_, before := bob.changedSince("")
		if f := ada.signatures(adas.signDevice(second)).Failures; len(f) != 0 {
			t.Fatalf("failures: %v", f)
		}
		if changed, _ := bob.changedSince(before); len(changed) != 1 || changed[0] != ada.user() {
			t.Errorf("changed: %v", changed)
		}
		want := sign(second.deviceKeys(), adas.user, public(adas.selfSigning), adas.selfSigning)
		sameJSON(t, bob.query(ada).DeviceKeys[ada.user()][second.id()], want)
		_, before = bob.changedSince("")
		ada.signatures(adas.signDevice(second))
		if changed, _ := bob.changedSince(before); len(changed) != 0 {
			t.Errorf("the same again changed %v", changed)
		}
	})
	t.Run("on_the_own_master_by_a_device", func(t *testing.T) {
		signed := sign(adas.masterKey(), ada.user(), second.id(), second.key)
		if f := second.signatures(object{ada.user(): object{public(adas.master): signed}}).Failures; len(f) != 0 {
			t.Fatalf("failures: %v", f)
		}
		sameJSON(t, bob.query(ada).MasterKeys[ada.user()], signed)
	})
	t.Run("on_anothers_master_seen_by_the_signer_only", func(t *testing.T) {
		if f := ada.signatures(adas.signMaster(bobs)).Failures; len(f) != 0 {
			t.Fatalf("failures: %v", f)
		}
		sameJSON(t, ada.query(bob).MasterKeys[bob.user()], sign(bobs.masterKey(), ada.user(), public(adas.userSigning), adas.userSigning))
		sameJSON(t, bob.query(bob).MasterKeys[bob.user()], bobs.masterKey())
	})

	master := func(signed object) object { return object{bob.user(): object{public(bobs.master): signed}} }
	tampered := sign(second.bareDeviceKeys(), adas.user, public(adas.selfSigning), adas.selfSigning)
	tampered["algorithms"] = []any{"m.none"}
	badText := sign(bobs.masterKey(), ada.user(), public(adas.userSigning), adas.userSigning)
	badText["signatures"].(object)[ada.user()].(object)["ed25519:"+public(adas.userSigning)] = base64.RawStdEncoding.EncodeToString(make([]byte, 64))
	for name, forged := range map[string]struct {
		body object
		code string
	}{
		"by_nobody":                    {master(bobs.masterKey()), "M_INVALID_SIGNATURE"},
		"zeros":                        {master(badText), "M_INVALID_SIGNATURE"},
		"in_anothers_name":             {master(sign(bobs.masterKey(), bob.user(), bob.id(), ada.key)), "M_INVALID_SIGNATURE"},
		"another_in_his_own_name":      {master(sign(bobs.masterKey(), bob.user(), bob.id(), bob.key)), "M_INVALID_SIGNATURE"}, // good, but ada is no courier
		"master_of_another_by_device":  {master(sign(bobs.masterKey(), ada.user(), ada.id(), ada.key)), "M_INVALID_SIGNATURE"},
		"master_of_another_by_master":  {master(sign(bobs.masterKey(), ada.user(), public(adas.master), adas.master)), "M_INVALID_SIGNATURE"},
		"device_of_another":            {object{bob.user(): object{bob.id(): sign(bob.bareDeviceKeys(), ada.user(), public(adas.userSigning), adas.userSigning)}}, "M_INVALID_SIGNATURE"},
		"own_device_by_user_signing":   {object{ada.user(): object{ada.id(): sign(ada.bareDeviceKeys(), ada.user(), public(adas.userSigning), adas.userSigning)}}, "M_INVALID_SIGNATURE"},
		"own_device_by_another_device": {object{ada.user(): object{ada.id(): sign(ada.bareDeviceKeys(), ada.user(), second.id(), second.key)}}, "M_INVALID_SIGNATURE"},
		"own_device_by_forged_key":     {object{ada.user(): object{ada.id(): sign(ada.bareDeviceKeys(), ada.user(), public(adas.selfSigning), newKey())}}, "M_INVALID_SIGNATURE"},
		"tampered_device":              {object{ada.user(): object{second.id(): tampered}}, "M_INVALID_SIGNATURE"},
		"ghost_device":                 {object{ada.user(): object{"GHOST": sign(object{"device_id": "GHOST"}, ada.user(), public(adas.selfSigning), adas.selfSigning)}}, "M_NOT_FOUND"},
		"unknown_user":                 {object{"@00000000-0000-0000-0000-000000000001:secureconnect": object{"X": adas.masterKey()}}, "M_NOT_FOUND"},
		"no_user":                      {object{"nonsense": object{"X": adas.masterKey()}}, "M_INVALID_PARAM"},
		"no_object":                    {object{ada.user(): object{ada.id(): 7}}, "M_INVALID_PARAM"},
	} {
		t.Run("refused/"+name, func(t *testing.T) {
			before := w.count(`SELECT count(*) FROM key_signatures`)
			got := ada.signatures(forged.body).Failures
			for user, targets := range forged.body {
				for target := range targets.(object) {
					if got[user][target].Code != forged.code || got[user][target].Text == "" {
						t.Errorf("failures: %v", got)
					}
				}
			}
			if after := w.count(`SELECT count(*) FROM key_signatures`); after != before {
				t.Errorf("%d signatures were taken", after-before)
			}
		})
	}
	t.Run("a_good_one_beside_a_bad_one_is_taken", func(t *testing.T) {
		body := adas.signDevice(ada)
		body[ada.user()].(object)["GHOST"] = object{}
		if got := ada.signatures(body).Failures; len(got) != 1 || len(got[ada.user()]) != 1 {
			t.Errorf("failures: %v", got)
		}
		if !strings.Contains(string(bob.query(ada).DeviceKeys[ada.user()][ada.id()]), public(adas.selfSigning)) {
			t.Error("the good one is missing")
		}
	})
}
