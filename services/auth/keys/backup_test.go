package keys_test

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"secureconnect/services/internal/wire"
)

func backupKey(index, forwarded int, verified bool, data string) object {
	return object{"first_message_index": index, "forwarded_count": forwarded, "is_verified": verified, "session_data": object{"ciphertext": data}}
}

func (d *device) store(version, room, session string, key object) answer {
	d.t.Helper()
	body := object{"rooms": object{room: object{"sessions": object{session: key}}}}
	return d.call(d.t.Context(), d.token, http.MethodPut, "/v1/keys/backup/keys?version="+version, body)
}

func (d *device) newBackup() string {
	d.t.Helper()
	body := object{"algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": object{"public_key": curveKey()}}
	return into[wire.BackupVersionMade](d.t, d.post("backup/version", body)).Version
}

func TestBackup(t *testing.T) {
	w := newWorld(t)
	ada, eve := w.join("ada"), w.join("eve")
	const room, session = "!r/+=:secureconnect", "abc/+="
	read := func(d *device, query string) object { return into[object](t, d.get("backup/keys?"+query)) }

	w.want(ada.get("backup/version"), http.StatusNotFound, "no_such_backup")
	version := ada.newBackup()

	t.Run("keys_come_back", func(t *testing.T) {
		sameJSON(t, read(ada, "version="+version), object{"rooms": object{}})
		key := backupKey(3, 1, false, "first")
		sameJSON(t, into[object](t, ada.store(version, room, session, key)), object{"count": 1, "etag": "1"})
		into[object](t, ada.store(version, "!other:secureconnect", "s", key))
		into[object](t, ada.store(version, "!other:secureconnect", "t", key))
		here, there := object{"sessions": object{session: key}}, object{"sessions": object{"s": key, "t": key}}
		sameJSON(t, read(ada, "version="+version), object{"rooms": object{room: here, "!other:secureconnect": there}})
		sameJSON(t, read(ada, "version="+version+"&room_id="+url.QueryEscape(room)), object{"rooms": object{room: here}})
		sameJSON(t, read(ada, "version="+version+"&room_id=!other:secureconnect&session_id=t"), object{"rooms": object{"!other:secureconnect": object{"sessions": object{"t": key}}}})
		state := into[wire.BackupState](t, ada.get("backup/version/"+version))
		if state.Count != 3 || state.ETag != "3" || state.Version != version {
			t.Errorf("got %+v", state)
		}
	})
	t.Run("a_better_key_replaces_and_a_worse_does_not", func(t *testing.T) {
		for i, step := range []struct {
			key   object
			taken bool
		}{
			{backupKey(3, 1, false, "a"), true},
			{backupKey(4, 0, false, "later"), false},
			{backupKey(3, 1, false, "the same"), false},
			{backupKey(3, 0, false, "less forwarded"), true},
			{backupKey(2, 9, false, "earlier"), true},
			{backupKey(9, 9, true, "verified"), true},
			{backupKey(0, 0, false, "not verified"), false},
			{backupKey(9, 8, true, "verified, less forwarded"), true},
		} {
			before := into[wire.BackupState](t, ada.get("backup/version")).ETag
			stored := into[wire.BackupStored](t, ada.store(version, "!better:secureconnect", "s", step.key))
			got := read(ada, "version="+version+"&room_id=!better:secureconnect")
			now := got["rooms"].(object)["!better:secureconnect"].(object)["sessions"].(object)["s"]
			same := fmt.Sprint(now) == fmt.Sprint(plain(t, step.key))
			if same != step.taken || (stored.ETag != before) != step.taken {
				t.Errorf("step %d: %v, etag %s after %s", i, now, stored.ETag, before)
			}
		}
	})
	t.Run("others_see_nothing", func(t *testing.T) {
		w.want(eve.get("backup/version/"+version), http.StatusNotFound, "no_such_backup")
		w.want(eve.get("backup/keys?version="+version), http.StatusNotFound, "no_such_backup")
		w.want(eve.store(version, room, session, backupKey(0, 0, true, "eve's")), http.StatusNotFound, "no_such_backup")
		w.want(eve.call(t.Context(), eve.token, http.MethodDelete, "/v1/keys/backup/version/"+version, nil), http.StatusNotFound, "no_such_backup")
		if n := into[wire.BackupState](t, ada.get("backup/version")).Count; n != 4 {
			t.Errorf("%d keys", n)
		}
	})
	t.Run("more_than_a_page", func(t *testing.T) {
		bob := w.join("bob")
		version := bob.newBackup()
		sessions := object{}
		for i := range 2500 {
			sessions[fmt.Sprint("s", i)] = backupKey(0, 0, true, "x")
		}
		body := object{"rooms": object{"!a:secureconnect": object{"sessions": sessions}, "!b:secureconnect": object{"sessions": sessions}}}
		into[object](t, bob.call(t.Context(), bob.token, http.MethodPut, "/v1/keys/backup/keys?version="+version, body))
		sameJSON(t, read(bob, "version="+version), body)
	})
	t.Run("only_the_current_one_takes_keys_and_numbers_are_not_used_again", func(t *testing.T) {
		second := ada.newBackup()
		w.want(ada.store(version, room, session, backupKey(0, 0, true, "x")), http.StatusConflict, "wrong_backup_version")
		if got := read(ada, "version="+version)["rooms"].(object); len(got) != 3 {
			t.Errorf("the old one has %d rooms", len(got))
		}
		remove := func(version string) answer {
			return ada.call(t.Context(), ada.token, http.MethodDelete, "/v1/keys/backup/version/"+version, nil)
		}
		into[object](t, remove(second))
		w.want(remove(second), http.StatusNotFound, "no_such_backup")
		if now := into[wire.BackupState](t, ada.get("backup/version")).Version; now != version {
			t.Errorf("%s is the current one", now)
		}
		into[object](t, remove(version))
		if n := w.count(`SELECT count(*) FROM key_backup_keys WHERE user_id = $1`, ada.session.UserID); n != 0 {
			t.Errorf("%d keys left", n)
		}
		if third := ada.newBackup(); third == second || third == version {
			t.Errorf("number %s was given again", third)
		}
	})
	t.Run("what_is_no_backup_is_refused", func(t *testing.T) {
		version := eve.newBackup()
		w.want(eve.post("backup/version", object{"algorithm": "a b", "auth_data": object{}}), http.StatusBadRequest, "invalid_backup")
		w.want(eve.post("backup/version", object{"algorithm": "a"}), http.StatusBadRequest, "invalid_backup")
		w.want(eve.store(version, "", "s", backupKey(0, 0, true, "x")), http.StatusBadRequest, "invalid_backup")
		w.want(eve.store(version, "\x00", "s", backupKey(0, 0, true, "x")), http.StatusBadRequest, "invalid_backup")
		w.want(eve.store(version, "r", "s", backupKey(-1, 0, true, "x")), http.StatusBadRequest, "invalid_backup")
		w.want(eve.store(version, "r", "s", object{"session_data": "text"}), http.StatusBadRequest, "invalid_backup")
		w.want(eve.store("", "r", "s", backupKey(0, 0, true, "x")), http.StatusBadRequest, "invalid_backup")
		w.want(eve.get("backup/keys?version=x"), http.StatusNotFound, "no_such_backup")
		w.want(eve.get("backup/keys?version="+version+"&room_id=%00"), http.StatusBadRequest, "invalid_backup")
		for range 19 {
			eve.newBackup()
		}
		w.want(eve.post("backup/version", object{"algorithm": "a", "auth_data": object{}}), http.StatusConflict, "too_many_backups")
	})
}
