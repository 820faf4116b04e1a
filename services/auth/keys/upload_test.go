package keys_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"

	"secureconnect/services/auth/keys"
)

func TestUpload(t *testing.T) {
	w := newWorld(t)
	w.add("ada")
	ada := w.login("ada", "")

	t.Run("one_time_keys_need_a_device_with_keys", func(t *testing.T) {
		w.want(ada.post("upload", object{"one_time_keys": ada.oneTimeKeys(1)}), http.StatusConflict, "device_keys_missing")
	})
	t.Run("nothing_is_a_question_for_the_count", func(t *testing.T) {
		if got := string(ada.post("upload", object{}).body); strings.TrimSpace(got) != `{"one_time_key_counts":{"signed_curve25519":0}}` {
			t.Errorf("got %s", got)
		}
	})
	mine := ada.deviceKeys()
	first := ada.oneTimeKeys(3)
	t.Run("keys_are_counted", func(t *testing.T) {
		if n := ada.mustUpload(object{"device_keys": mine, "one_time_keys": first, "fallback_keys": object{"signed_curve25519:F": ada.fallbackKey()}}); n != 3 {
			t.Errorf("%d keys left", n)
		}
	})
	t.Run("the_same_again_changes_nothing", func(t *testing.T) {
		before := ada.sync("").NextBatch
		if n := ada.mustUpload(object{"device_keys": mine, "one_time_keys": first}); n != 3 {
			t.Errorf("%d keys left", n)
		}
		if changed, _ := ada.changedSince(before); len(changed) != 0 {
			t.Errorf("%v changed", changed)
		}
	})
	t.Run("another_device_key_is_refused", func(t *testing.T) {
		other := *ada
		other.key = newKey()
		w.want(ada.post("upload", object{"device_keys": other.deviceKeys()}), http.StatusConflict, "device_keys_immutable")
		bent := ada.bareDeviceKeys()
		bent["algorithms"] = []any{"m.megolm.v1.aes-sha2", "m.olm.v1.curve25519-aes-sha2"}
		w.want(ada.post("upload", object{"device_keys": sign(bent, ada.user(), ada.id(), ada.key)}), http.StatusConflict, "device_keys_immutable")
	})
	t.Run("other_bytes_under_a_known_id_are_refused", func(t *testing.T) {
		for id := range first {
			w.want(ada.post("upload", object{"one_time_keys": object{id: ada.oneTimeKey()}}), http.StatusConflict, "one_time_key_exists")
		}
	})
	t.Run("a_claimed_key_is_known_and_never_comes_back", func(t *testing.T) {
		eve := w.join("eve")
		id := eve.claim(ada)
		w.want(ada.post("upload", object{"one_time_keys": object{id: ada.oneTimeKey()}}), http.StatusConflict, "one_time_key_exists")
		if n := ada.mustUpload(object{"one_time_keys": object{id: first[id]}}); n != 2 {
			t.Errorf("%d keys left after the claimed one came again", n)
		}
	})
	t.Run("the_stock_is_bounded", func(t *testing.T) {
		w.want(ada.post("upload", object{"one_time_keys": ada.oneTimeKeys(keys.MaxOneTime + 1)}), http.StatusConflict, "too_many_one_time_keys")
		w.want(ada.post("upload", object{"one_time_keys": ada.oneTimeKeys(keys.MaxOneTime - 1)}), http.StatusConflict, "too_many_one_time_keys")
		if n := ada.mustUpload(object{}); n != 2 {
			t.Errorf("%d keys left: a refused upload left some", n)
		}
		if n := ada.mustUpload(object{"one_time_keys": ada.oneTimeKeys(keys.MaxOneTime - 2)}); n != keys.MaxOneTime {
			t.Errorf("%d keys left", n)
		}
	})
	t.Run("a_new_fallback_key_replaces_and_is_unused", func(t *testing.T) {
		bob := w.join("bob")
		key := object{"signed_curve25519:F1": bob.fallbackKey()}
		bob.mustUpload(object{"fallback_keys": key})
		if got := bob.sync("").DeviceUnusedFallbackKeys; len(got) != 1 {
			t.Errorf("unused: %v", got)
		}
		if id := ada.claim(bob); id != "signed_curve25519:F1" {
			t.Errorf("claimed %q", id)
		}
		bob.mustUpload(object{"fallback_keys": key})
		if got := bob.sync("").DeviceUnusedFallbackKeys; len(got) != 0 {
			t.Errorf("the same key again is unused: %v", got)
		}
		bob.mustUpload(object{"fallback_keys": object{"signed_curve25519:F2": bob.fallbackKey()}})
		if got := bob.sync("").DeviceUnusedFallbackKeys; len(got) != 1 || ada.claim(bob) != "signed_curve25519:F2" {
			t.Errorf("the new key did not replace the old: %v", got)
		}
	})
}

// What is read back must verify for whoever knows nothing of us: unknown fields, their order and odd strings survive.
func TestKeysComeBackUnchanged(t *testing.T) {
	w := newWorld(t)
	w.add("ada")
	ada := w.login("ada", "")
	odd := ada.bareDeviceKeys()
	odd["dehydrated"], odd["x.unknown"] = false, object{"é": "\u2028\x01\"\\/<>&", "n": -9007199254740991, "l": []any{nil, true, "😀"}}
	odd = sign(odd, ada.user(), ada.id(), ada.key)
	odd["unsigned"] = object{"device_display_name": "phone"}
	key := ada.oneTimeKey()
	ada.mustUpload(object{"device_keys": odd, "one_time_keys": object{"signed_curve25519:A": key}})

	found := ada.query(ada).DeviceKeys[ada.user()][ada.id()]
	sameJSON(t, found, odd)
	var read object
	if err := json.Unmarshal(found, &read); err != nil {
		t.Fatal(err)
	}
	again := maps.Clone(read)
	delete(again, "signatures")
	sameJSON(t, sign(again, ada.user(), ada.id(), ada.key), odd)
}

func TestForgedUploads(t *testing.T) {
	w := newWorld(t)
	ada, eve := w.join("ada"), w.join("eve")
	w.add("mallory")
	fresh := w.login("mallory", "")

	bent := func(change func(object)) object {
		keys := fresh.bareDeviceKeys()
		change(keys)
		return object{"device_keys": sign(keys, fresh.user(), fresh.id(), fresh.key)}
	}
	unsigned := fresh.bareDeviceKeys()
	tampered := fresh.deviceKeys()
	tampered["algorithms"] = []any{"m.none"}
	for name, forged := range map[string]struct {
		body   object
		status int
		code   string
	}{
		"another_user":      {bent(func(o object) { o["user_id"] = ada.user() }), http.StatusForbidden, "not_your_device"},
		"another_device":    {bent(func(o object) { o["device_id"] = ada.id() }), http.StatusForbidden, "not_your_device"},
		"anothers_keys":     {object{"device_keys": ada.deviceKeys()}, http.StatusForbidden, "not_your_device"},
		"another_server":    {bent(func(o object) { o["user_id"] = strings.Replace(fresh.user(), "secureconnect", "example.org", 1) }), http.StatusForbidden, "not_your_device"},
		"unsigned":          {object{"device_keys": unsigned}, http.StatusBadRequest, "invalid_signature"},
		"tampered":          {object{"device_keys": tampered}, http.StatusBadRequest, "invalid_signature"},
		"signed_by_another": {object{"device_keys": sign(fresh.bareDeviceKeys(), fresh.user(), fresh.id(), eve.key)}, http.StatusBadRequest, "invalid_signature"},
		"short_key": {bent(func(o object) {
			o["keys"] = object{"ed25519:" + fresh.id(): "AAAA", "curve25519:" + fresh.id(): curveKey()}
		}), http.StatusBadRequest, "invalid_keys"},
		"no_curve_key":         {bent(func(o object) { o["keys"] = object{"ed25519:" + fresh.id(): public(fresh.key)} }), http.StatusBadRequest, "invalid_keys"},
		"no_algorithms":        {bent(func(o object) { o["algorithms"] = []any{} }), http.StatusBadRequest, "invalid_keys"},
		"signatures_of_a_kind": {object{"device_keys": object{"signatures": "none"}}, http.StatusBadRequest, "invalid_keys"},
		"not_an_object":        {object{"device_keys": []any{}}, http.StatusBadRequest, "invalid_keys"},
		"a_fraction":           {object{"device_keys": object{"x": 1.5}}, http.StatusBadRequest, "invalid_keys"},
		"a_large_number":       {object{"device_keys": object{"x": json.Number("9007199254740992")}}, http.StatusBadRequest, "invalid_keys"},
		"too_large":            {object{"device_keys": object{"x": strings.Repeat("x", 20<<10)}}, http.StatusBadRequest, "invalid_keys"},
	} {
		t.Run("device/"+name, func(t *testing.T) {
			w.want(fresh.post("upload", forged.body), forged.status, forged.code)
		})
	}
	if found := eve.query(fresh).DeviceKeys; len(found) != 0 {
		t.Errorf("a forged device is in the directory: %v", found)
	}

	oneTime := func(id string, key any) object { return object{"one_time_keys": object{id: key}} }
	fallback := func(id string, key any) object { return object{"fallback_keys": object{id: key}} }
	const id = "signed_curve25519:A"
	for name, forged := range map[string]struct {
		body object
		code string
	}{
		"signed_by_another":      {oneTime(id, sign(object{"key": curveKey()}, ada.user(), ada.id(), eve.key)), "invalid_signature"},
		"signed_as_another":      {oneTime(id, sign(object{"key": curveKey()}, eve.user(), eve.id(), ada.key)), "invalid_signature"},
		"unsigned":               {oneTime(id, object{"key": curveKey()}), "invalid_signature"},
		"unsigned_algorithm":     {oneTime("curve25519:A", curveKey()), "invalid_keys"},
		"odd_id":                 {oneTime("signed_curve25519:\x00", ada.oneTimeKey()), "invalid_keys"},
		"no_key":                 {oneTime(id, sign(object{"key": "x"}, ada.user(), ada.id(), ada.key)), "invalid_keys"},
		"fallback_among_others":  {oneTime(id, ada.fallbackKey()), "invalid_keys"},
		"fallback_unmarked":      {fallback(id, ada.oneTimeKey()), "invalid_keys"},
		"fallback_forged":        {fallback(id, sign(object{"key": curveKey(), "fallback": true}, ada.user(), ada.id(), eve.key)), "invalid_signature"},
		"two_fallbacks":          {object{"fallback_keys": object{id: ada.fallbackKey(), id + "B": ada.fallbackKey()}}, "invalid_keys"},
		"a_large_one":            {oneTime(id, object{"key": strings.Repeat("x", 2000)}), "invalid_keys"},
		"good_one_beside_forged": {object{"one_time_keys": object{id: ada.oneTimeKey(), id + "B": object{"key": curveKey()}}}, "invalid_signature"},
	} {
		t.Run("one_time/"+name, func(t *testing.T) {
			w.want(ada.post("upload", forged.body), http.StatusBadRequest, forged.code)
		})
	}
	if n := ada.mustUpload(object{}); n != 0 {
		t.Errorf("%d forged keys were taken", n)
	}
}
