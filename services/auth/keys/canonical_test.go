package keys

import (
	"bytes"
	"encoding/json"
	"reflect"
	"regexp"
	"strconv"
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

// escapes have small letters in the specification's grammar, and capitals in the other implementation.
var escapes = regexp.MustCompile(`\\\\|\\u00[0-9A-F]{2}`)

// Whatever we take has one canonical form, which means the same and which another implementation writes alike.
func FuzzCanonical(f *testing.F) {
	for _, seed := range []string{`{}`, `{"b":[1,-2,null,true,"\u00e9\ud83d\ude00"],"a":{"":0}}`, `{"a":"\ud800"}`, `{"a":1e2}`, `[[[`, `{"a":"\u2028\u007f"}`, `{"\u200a":"\u000B\\u000B"}`} {
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
		theirs, err := canonicaljson.Marshal(json.RawMessage(text))
		if theirs = escapes.ReplaceAllFunc(theirs, bytes.ToLower); err != nil || !bytes.Equal(theirs, []byte(text)) {
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

const (
	aKey    = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	someone = "@0192f0c0-0000-7000-8000-000000000000:secureconnect"
)

// Of a claim nothing is looked up but what was asked for, and no more than the bound.
func FuzzClaim(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"one_time_keys":{"` + someone + `":{"PHONE":"signed_curve25519","a/b":"signed_curve25519","B":"curve25519"}}}`,
		`{"one_time_keys":{"` + someone + `":null,"@x:y":{"PHONE":"signed_curve25519"}}}`, `{"one_time_keys":[]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var body wire.KeysClaim
		if json.Unmarshal(raw, &body) != nil {
			return
		}
		asked, err := parseClaim(body)
		if err != nil {
			return
		}
		if len(asked) > maxClaimed {
			t.Errorf("%d devices", len(asked))
		}
		for _, p := range asked {
			if body.OneTimeKeys[p.user.MatrixID()][string(p.device)] != algorithm {
				t.Errorf("nobody asked for %v", p)
			}
		}
	})
}

// Of signatures every object is judged or among the failures, and an object judged is what was uploaded.
func FuzzSignatures(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"` + someone + `":{"PHONE":{"user_id":"` + someone + `","signatures":{"` + someone + `":{"ed25519:PHONE":"AA"}}}}}`,
		`{"` + someone + `":{"":{},"x":[],"y":{"signatures":7},"z":{"signatures":{"a":{"b":1}}},"w":{"n":1e99}}}`, `{"@x:y":{"PHONE":{}}}`, `{"` + someone + `":null}`,
		`{"` + someone + `":{"PHONE":{"signatures":{"` + someone + `":{"":"` + aKey + `"}},"unsigned":[]}}}`,
	} {
		f.Add([]byte(seed))
	}
	many := map[string]map[string]int{}
	for i := range maxSignedObjects + 1 {
		many[strconv.Itoa(i)] = map[string]int{"x": 1}
	}
	raw, err := json.Marshal(many)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	caller := somebody.UserID
	f.Fuzz(func(t *testing.T, raw []byte) {
		var body wire.SignaturesUpload
		if json.Unmarshal(raw, &body) != nil {
			return
		}
		uploads, failed, err := parseSignatures(body)
		if err != nil {
			return
		}
		given, refused := 0, 0
		for _, targets := range body {
			given += len(targets)
		}
		for _, targets := range failed {
			refused += len(targets)
		}
		if len(uploads)+refused != given || given > maxSignedObjects {
			t.Errorf("of %d objects %d are judged and %d refused", given, len(uploads), refused)
		}
		// Each is the only device that is known, and unsigned: then no signature is good.
		for _, upload := range uploads {
			d := directory{devices: map[place]signed{{upload.user, wire.DeviceID(upload.target)}: upload.object}}
			if j := d.judge(caller, uploads); len(j.good) > 0 && !verifiable(upload.object, caller) {
				t.Errorf("a good signature out of %q: %+v", raw, j.good)
			}
		}
	})
}

// verifiable reports whether the object has a key that has signed it: the fuzzer cannot make one, but a seed may hold one.
func verifiable(object signed, caller wire.UserID) bool {
	all, _ := object.signatures()
	for name := range all[caller.MatrixID()] {
		device := wire.DeviceID(strings.TrimPrefix(name, ed25519Prefix))
		if key, err := signingKey(object, device); err == nil && object.signedBy(caller.MatrixID(), string(device), key) == nil {
			return true
		}
	}
	return false
}

// An identity that is taken is the caller's, and each of its keys is called by itself.
func FuzzIdentity(f *testing.F) {
	key := func(usage string) string {
		return `{"user_id":"` + someone + `","usage":["` + usage + `"],"keys":{"ed25519:` + aKey + `":"` + aKey + `"},"signatures":{}}`
	}
	for _, seed := range []string{
		`{}`, `{"master_key":` + key("master") + `}`, `{"master_key":` + key("master") + `,"self_signing_key":` + key("self_signing") + `,"user_signing_key":` + key("user_signing") + `}`,
		`{"master_key":` + key("self_signing") + `}`, `{"master_key":null,"auth":{"type":"m.login.password","password":""}}`, `{"master_key":[]}`,
		`{"master_key":{"user_id":"` + someone + `","usage":["master"],"keys":{}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var body wire.IdentityUpload
		if json.Unmarshal(raw, &body) != nil {
			return
		}
		uploaded, err := parseIdentity(body, somebody.UserID)
		if err != nil {
			return
		}
		for usage, key := range uploaded {
			named, err := key.namedKey(ed25519Prefix, key.public)
			if err != nil || !bytes.Equal(named, key.key()) || key.usage != usage || key.field("user_id") != somebody.UserID.MatrixID() {
				t.Errorf("%q is taken as a %s key: %+v, %v", raw, usage, key, err)
			}
		}
	})
}

// Events are queued for those who were named, and each content is one JSON object that every reader can read.
func FuzzDelivery(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"messages":{"` + someone + `":{"*":{},"PHONE":{"a":1}}}}`, `{"messages":{"` + someone + `":{"PHONE":null}}}`,
		`{"messages":{"` + someone + `":{"a b":{"a":1.5}}}}`, `{"messages":{"":{"":7}}}`, `{"messages":{"` + someone + `":{"PHONE":{"a":"\ud800"}}}}`,
	} {
		f.Add("m.room.encrypted", "txn", []byte(seed))
	}
	f.Add("", "", []byte(`{}`))
	f.Add("m/x", "a\n", []byte(`{}`))
	f.Fuzz(func(t *testing.T, kind, txn string, raw []byte) {
		var body wire.ToDevice
		if json.Unmarshal(raw, &body) != nil {
			return
		}
		d, err := parseDelivery(kind, txn, body)
		if err != nil {
			return
		}
		check := func(user wire.UserID, device, content string) {
			if _, named := body.Messages[user.MatrixID()][device]; !named {
				t.Errorf("nobody named %s %s", user, device)
			}
			if _, err := decode([]byte(content), maxContent); err != nil {
				t.Errorf("queued %q: %v", content, err)
			}
		}
		for p, content := range d.contents {
			check(p.user, string(p.device), content)
		}
		for user, content := range d.every {
			check(user, everyDevice, content)
		}
	})
}

// A backup takes objects under names that a reader can ask for again, and says which version a number is.
func FuzzBackup(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"rooms":{"!r:secureconnect":{"sessions":{"s":{"first_message_index":1,"forwarded_count":0,"is_verified":true,"session_data":{"a":"b"}}}}}}`,
		`{"rooms":{"":{"sessions":{"s":{}}}}}`, `{"rooms":{"r":{"sessions":null}}}`, `{"rooms":{"r":{"sessions":{"s":{"session_data":[]}}}}}`,
		`{"rooms":{"r":{"sessions":{"s":{"first_message_index":-1,"session_data":{}}}}}}`, `{"rooms":{"r":{"sessions":{"\u0000":{"session_data":{}}}}}}`,
	} {
		f.Add("1", []byte(seed))
	}
	for _, version := range []string{"", "0", "01", "-1", "999999999999999999", "9223372036854775808", "1\n"} {
		f.Add(version, []byte(`{}`))
	}
	f.Fuzz(func(t *testing.T, version string, raw []byte) {
		if number, err := neededVersion(version); err == nil && strconv.FormatInt(number, 10) != version {
			t.Errorf("version %q is %d", version, number)
		}
		var body wire.BackupKeys
		if json.Unmarshal(raw, &body) != nil {
			return
		}
		rows, err := parseBackup(body)
		if err != nil {
			return
		}
		for _, row := range rows {
			_, given := body.Rooms[row.room].Sessions[row.session]
			if _, err := decode(row.key.SessionData, 8*maxSessionData); err != nil || !given || !backupName.MatchString(row.room) || row.key.FirstMessageIndex < 0 {
				t.Errorf("took %+v: %v", row, err)
			}
		}
	})
}
