package keys

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"maunium.net/go/mautrix/crypto/canonicaljson"

	"secureconnect/services/internal/wire"
)

// The examples of the Matrix specification, Appendices, "Canonical JSON", and what it does not show.
func TestCanonical(t *testing.T) {
	for _, c := range []struct{ from, want string }{
		{`{}`, `{}`},
		{`{"one": 1, "two": "Two"}`, `{"one":1,"two":"Two"}`},
		{`{"b": "2", "a": "1"}`, `{"a":"1","b":"2"}`},
		{`{"a": "日本語"}`, `{"a":"日本語"}`},
		{`{"本": 2, "日": 1}`, `{"日":1,"本":2}`},
		{`{"a": "\u65E5"}`, `{"a":"日"}`},
		{`{"a": null}`, `{"a":null}`},
		{`{"a": -0}`, `{"a":0}`},
		{`{"a": "\u0000\u0008\t\n\u000c\r\u001f\"\\\/\u007f\u2028<>&"}`, `{"a":"\u0000\b\t\n\f\r\u001f\"\\/` + "\x7f\u2028" + `<>&"}`},
		{`{"a": [true, false, [], {"z": 1, "y": {}}]}`, `{"a":[true,false,[],{"y":{},"z":1}]}`},
		{`{"a": 1, "a": 2}`, `{"a":2}`},
	} {
		decoded, err := decode([]byte(c.from), 1000)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := canonical(decoded); err != nil || got != c.want {
			t.Errorf("%s became %s, %v, want %s", c.from, got, err, c.want)
		}
	}
	for _, refused := range []string{``, `[]`, `1`, `{"a":1.5}`, `{"a":1e3}`, `{"a":9007199254740992}`, `{"a":1}x`, `{"a":1}{}`, strings.Repeat(`{"a":`, 40) + `1` + strings.Repeat(`}`, 40), `{"a":"` + strings.Repeat("x", 1000) + `"}`} {
		decoded, err := decode([]byte(refused), 1000)
		if err == nil {
			_, err = canonical(decoded)
		}
		if err == nil {
			t.Errorf("%.40s was taken", refused)
		}
	}
}

// Whatever we take has one canonical form, which means the same and which another implementation writes alike.
func FuzzCanonical(f *testing.F) {
	for _, seed := range []string{`{}`, `{"b":[1,-2,null,true,"\u00e9\ud83d\ude00"],"a":{"":0}}`, `{"a":"\ud800"}`, `{"a":1e2}`, `[[[`, `{"a":"\u2028\u007f"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		decoded, err := decode(raw, 4096)
		if err != nil {
			return
		}
		text, err := canonical(decoded)
		if err != nil {
			return
		}
		again, err := decode([]byte(text), 2*len(text))
		if err != nil {
			t.Fatalf("%q cannot be read again: %v", text, err)
		}
		if twice, err := canonical(again); err != nil || twice != text {
			t.Errorf("%q became %q, %v", text, twice, err)
		}
		var meant, written any
		if json.Unmarshal(raw, &meant) != nil || json.Unmarshal([]byte(text), &written) != nil || !reflect.DeepEqual(meant, written) {
			t.Errorf("%q does not mean %q", text, raw)
		}
		if theirs, err := canonicaljson.Marshal(json.RawMessage(text)); err != nil || !bytes.Equal(theirs, []byte(text)) {
			t.Errorf("another implementation writes %q for %q, %v", theirs, text, err)
		}
	})
}

var somebody = wire.Session{UserID: "0192f0c0-0000-7000-8000-000000000000", DeviceID: "PHONE"}

// An upload that is taken has only what was signed and bounded, whatever its bytes.
func FuzzUpload(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"device_keys":null,"one_time_keys":{},"fallback_keys":{}}`,
		`{"device_keys":{"user_id":"@0192f0c0-0000-7000-8000-000000000000:secureconnect","device_id":"PHONE","algorithms":["a"],"keys":{"ed25519:PHONE":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","curve25519:PHONE":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},"signatures":{"@0192f0c0-0000-7000-8000-000000000000:secureconnect":{"ed25519:PHONE":"AA"}}}}`,
		`{"one_time_keys":{"signed_curve25519:A":{"key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","signatures":{}}}}`,
		`{"fallback_keys":{"signed_curve25519:A":{"key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","fallback":true}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var body wire.KeysUpload
		if json.Unmarshal(raw, &body) != nil {
			return
		}
		u, err := parseUpload(body, somebody)
		if err != nil {
			return
		}
		if u.device != nil && u.device.signedBy(somebody.UserID.MatrixID(), string(somebody.DeviceID), u.device.key) != nil {
			t.Error("device keys that nobody signed")
		}
		if len(u.oneTime) > maxOneTime {
			t.Error("too many keys")
		}
		for _, key := range u.oneTime {
			if _, err := decode([]byte(key.body), 2*maxOneTimeKey); err != nil || !keyIDPattern.MatchString(key.id) {
				t.Errorf("took %q: %q", key.id, key.body)
			}
		}
	})
}

func FuzzQuery(f *testing.F) {
	for _, seed := range []string{`{"device_keys":{}}`, `{"device_keys":{"@0192f0c0-0000-7000-8000-000000000000:secureconnect":["A",""],"@x:y":[]}}`, `{"device_keys":{"@:secureconnect":null}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var body wire.KeysQuery
		if json.Unmarshal(raw, &body) != nil {
			return
		}
		q, err := parseQuery(body)
		if err != nil {
			return
		}
		for _, user := range q.users() {
			if _, asked := body.DeviceKeys[user.MatrixID()]; !asked {
				t.Errorf("nobody asked for %s", user)
			}
		}
	})
}

func FuzzPosition(f *testing.F) {
	for _, seed := range []string{"", "ABCDEFGHIJKLMNOPQRSTUVWXYZ.0.0", "ABCDEFGHIJKLMNOPQRSTUVWXYZ.9223372036854775807.1", "ABCDEFGHIJKLMNOPQRSTUVWXYZ.01.1", "a.b.c", "..", "ABCDEFGHIJKLMNOPQRSTUVWXYZ.0.0\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePosition(text)
		if err == nil && text != "" && (p.String() != text || p.inbox < 0 || p.changes < 0) {
			t.Errorf("%q is %+v", text, p)
		}
	})
}

func FuzzMatrixID(f *testing.F) {
	for _, seed := range []string{"@0192f0c0-0000-7000-8000-000000000000:secureconnect", "@:secureconnect", "@0192F0C0-0000-7000-8000-000000000000:secureconnect", "@x:secureconnect:secureconnect"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if id, err := wire.ParseMatrixID(text); err == nil && id.MatrixID() != text {
			t.Errorf("%q is %q", text, id)
		}
	})
}
