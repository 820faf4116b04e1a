package keys_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"secureconnect/services/internal/config"
)

// whole gives d everything a device may have here.
func (d *device) whole(from *device) {
	d.t.Helper()
	d.mustUpload(object{"one_time_keys": d.oneTimeKeys(2), "fallback_keys": object{"signed_curve25519:F": d.fallbackKey()}})
	into[object](d.t, from.send("to"+d.id(), object{}, d))
	into[object](d.t, d.send("from"+d.id(), object{}, from))
}

func (w *world) traces(d *device) (n int) {
	w.t.Helper()
	for _, table := range []string{"key_devices", "key_one_time", "key_fallback", "key_inbox", "key_sent"} {
		n += w.count(`SELECT count(*) FROM `+table+` WHERE user_id = $1 AND device_id = $2`, d.session.UserID, d.session.DeviceID)
	}
	return n + w.count(`SELECT count(*) FROM key_signatures WHERE user_id = $1 AND (target = 'device:' || $2 OR signer_key = 'ed25519:' || $2)`, d.session.UserID, d.id())
}

func TestDevicesGoWithTheirSessions(t *testing.T) {
	w := newWorld(t)
	bob := w.join("bob")
	ada := w.join("ada")
	self := newSelf(ada)
	ada.publish(self)

	for name, end := range map[string]func(*device){
		"logout": func(d *device) {
			w.call(t.Context(), d.token, http.MethodPost, "/v1/auth/logout", nil)
		},
		"revoked_by_another": func(d *device) {
			w.call(t.Context(), ada.token, http.MethodDelete, "/v1/auth/sessions/"+string(d.session.SessionID), nil)
		},
		"password_changed": func(*device) {
			if err := w.auth.ChangePassword(t.Context(), ada.session, config.NewSecret(password), config.NewSecret(password)); err != nil {
				t.Fatal(err)
			}
		},
		"ran_out": func(d *device) {
			w.exec(`UPDATE sessions SET expires_at = $2 WHERE id = $1`, d.session.SessionID, w.clock.Now().Add(-time.Minute))
			if err := w.directory.SweepOnce(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := w.login("ada", "")
			d.mustUpload(object{"device_keys": d.deviceKeys()})
			d.whole(bob)
			d.signatures(self.signDevice(d))
			d.signatures(object{d.user(): object{public(self.master): sign(self.masterKey(), d.user(), d.id(), d.key)}})
			bob.query(ada)
			_, before := bob.changedSince("")
			end(d)
			if n := w.traces(d); n != 0 {
				t.Errorf("%d traces of the device are left", n)
			}
			if changed, _ := bob.changedSince(before); !slices.Contains(changed, ada.user()) {
				t.Errorf("changed: %v", changed)
			}
			found := bob.query(ada)
			if _, there := found.DeviceKeys[ada.user()][d.id()]; there || strings.Contains(string(found.MasterKeys[ada.user()]), d.id()) {
				t.Errorf("still in the directory: %s", found.MasterKeys[ada.user()])
			}
			if id := bob.claim(d); id != "" {
				t.Errorf("a key of the device was handed out: %s", id)
			}
			into[object](t, bob.send("after"+d.id(), object{}, d))
			if n := w.traces(d); n != 0 {
				t.Error("an event was queued for a device that is gone")
			}
		})
	}
	if n := w.traces(ada); n == 0 {
		t.Error("the device that lives on lost its keys")
	}

	t.Run("disabled", func(t *testing.T) {
		carol := w.join("carol")
		carol.whole(bob)
		if err := w.operator().Disable(t.Context(), "carol"); err != nil {
			t.Fatal(err)
		}
		if n := w.traces(carol); n != 0 {
			t.Errorf("%d traces of the device are left", n)
		}
	})
	t.Run("an_ended_session_brings_no_device_back", func(t *testing.T) {
		d := w.login("ada", "")
		d.mustUpload(object{"device_keys": d.deviceKeys()})
		w.call(t.Context(), d.token, http.MethodPost, "/v1/auth/logout", nil)
		// As a request that passed the token check a moment before.
		if _, err := w.directory.Sync(t.Context(), d.session, "", 0); err == nil || w.traces(d) != 0 {
			t.Errorf("%d traces, %v", w.traces(d), err)
		}
	})
	t.Run("the_same_device_logged_in_again_keeps_all", func(t *testing.T) {
		d := w.login("ada", "PHONE")
		d.mustUpload(object{"device_keys": d.deviceKeys()})
		d.whole(bob)
		since, n := d.sync("").NextBatch, w.traces(d)
		fresh := w.again(d)
		if w.traces(d) != n {
			t.Errorf("%d traces, were %d", w.traces(d), n)
		}
		fresh.sync(since)
		if left := fresh.mustUpload(object{"device_keys": d.deviceKeys()}); left != 2 {
			t.Errorf("%d keys left", left)
		}
	})
	t.Run("a_device_id_used_again_later_has_positions_of_its_own", func(t *testing.T) {
		d := w.login("ada", "TABLET")
		since := d.sync("").NextBatch
		w.call(t.Context(), d.token, http.MethodPost, "/v1/auth/logout", nil)
		w.want(w.login("ada", "TABLET").get("sync?since="+since), http.StatusBadRequest, "invalid_since")
	})
	t.Run("a_deleted_account_leaves_nothing_and_is_missed", func(t *testing.T) {
		dave := w.join("dave")
		davesSelf := newSelf(dave)
		dave.publish(davesSelf)
		dave.whole(bob)
		dave.signatures(davesSelf.signMaster(self))
		into[object](t, dave.post("backup/version", object{"algorithm": "m.x", "auth_data": object{}}))
		bob.query(dave)
		_, before := bob.changedSince("")
		if err := w.operator().Remove(t.Context(), "dave"); err != nil {
			t.Fatal(err)
		}
		for _, table := range []string{"key_devices", "key_one_time", "key_fallback", "key_inbox", "key_sent", "key_identities", "key_backups", "key_signatures", "key_tracking"} {
			if n := w.count(`SELECT count(*) FROM `+table+` WHERE user_id = $1`, dave.session.UserID); n != 0 {
				t.Errorf("%d rows in %s", n, table)
			}
		}
		if n := w.count(`SELECT count(*) FROM key_signatures WHERE signer_id = $1`, dave.session.UserID); n != 0 {
			t.Errorf("%d signatures of a deleted account", n)
		}
		page := bob.sync(before)
		if !slices.Equal(page.DeviceLists.Left, []string{dave.user()}) || len(page.DeviceLists.Changed) != 0 {
			t.Errorf("device lists: %+v", page.DeviceLists)
		}
	})
}
