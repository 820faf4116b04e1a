package keys_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"maunium.net/go/mautrix/crypto/canonicaljson"

	"secureconnect/services/auth"
	"secureconnect/services/auth/keys"
	"secureconnect/services/internal/config"
	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/web"
	"secureconnect/services/internal/wire"
)

const password = "correct horse battery"

var quiet = slog.New(slog.DiscardHandler)

// world is auth with its key directory on a real store, spoken to over HTTP.
type world struct {
	t         *testing.T
	sql       *sqlstore.Store
	auth      *auth.Service
	directory *keys.Service
	clock     *testkit.Clock
	server    *httptest.Server
}

func newWorld(t *testing.T) *world {
	t.Helper()
	sql, clock := testkit.Postgres(t), testkit.NewClock()
	if _, err := sql.Migrate(t.Context(), quiet, auth.Migrations()...); err != nil {
		t.Fatal(err)
	}
	service, err := auth.New(auth.Parts{
		Log: quiet, SQL: sql, TokenSecret: config.NewSecret(strings.Repeat("k", 40)),
		Registration: auth.RegistrationOpen, Now: clock.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.Close)
	w := &world{t: t, sql: sql, auth: service, clock: clock}
	w.directory = keys.New(keys.Parts{Log: quiet, SQL: sql, Passwords: service, Now: clock.Now})
	floor := web.NewServer(quiet, "auth", web.Config{BodyLimit: keys.BodyLimit})
	auth.Routes(floor.Echo, service, true)
	keys.Routes(floor.Echo, w.directory, service.Authenticate)
	w.server = httptest.NewServer(floor.Echo)
	t.Cleanup(w.server.Close)
	return w
}

func (w *world) operator() auth.Operator { return auth.Operator{Service: w.auth, By: "test"} }

func (w *world) add(username string) wire.User {
	w.t.Helper()
	user, err := w.operator().Add(w.t.Context(), username, "", config.NewSecret(password), 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return user
}

// exec runs a statement as whoever has the store's password could.
func (w *world) exec(statement string, arguments ...any) {
	w.t.Helper()
	if _, err := w.sql.Exec(w.t.Context(), statement, arguments...); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) count(query string, arguments ...any) (n int) {
	w.t.Helper()
	if err := w.sql.QueryRow(w.t.Context(), query, arguments...).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// device is a login with keys of its own, made of nothing but Ed25519: what a client sends, to be bent at will.
type device struct {
	*world
	session wire.Session
	token   string
	key     ed25519.PrivateKey
	uploads int
}

// login opens a session of a device; id may be "".
func (w *world) login(username, id string) *device {
	w.t.Helper()
	grant, err := w.auth.Login(w.t.Context(), auth.Credentials{
		Username: username, Password: config.NewSecret(password), DeviceID: id, Address: "127.0.0.1",
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return &device{world: w, session: grant.Session, token: grant.AccessToken, key: newKey()}
}

// join makes a user with one device, whose keys it uploads.
func (w *world) join(username string) *device {
	w.t.Helper()
	w.add(username)
	d := w.login(username, "")
	d.mustUpload(object{"device_keys": d.deviceKeys()})
	return d
}

func (d *device) user() string { return d.session.UserID.MatrixID() }
func (d *device) id() string   { return string(d.session.DeviceID) }

type object = map[string]any

func newKey() ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		panic(err)
	}
	return key
}

func public(key ed25519.PrivateKey) string {
	return base64.RawStdEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
}

func curveKey() string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	return base64.RawStdEncoding.EncodeToString(raw)
}

// sign adds user's signature by a key called name, over somebody else's canonical JSON than the server's.
func sign(o object, user, name string, key ed25519.PrivateKey) object {
	rest := maps.Clone(o)
	delete(rest, "signatures")
	delete(rest, "unsigned")
	text, err := canonicaljson.Marshal(rest)
	if err != nil {
		panic(err)
	}
	signature := base64.RawStdEncoding.EncodeToString(ed25519.Sign(key, text))
	signatures, _ := o["signatures"].(object)
	if signatures == nil {
		signatures = object{}
	}
	mine, _ := signatures[user].(object)
	if mine == nil {
		mine = object{}
	}
	mine["ed25519:"+name], signatures[user] = signature, mine
	signed := maps.Clone(o)
	signed["signatures"] = signatures
	return signed
}

func (d *device) bareDeviceKeys() object {
	return object{
		"user_id": d.user(), "device_id": d.id(),
		"algorithms": []any{"m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"},
		"keys": object{
			"ed25519:" + d.id():    public(d.key),
			"curve25519:" + d.id(): base64.RawStdEncoding.EncodeToString(d.key.Seed()), // stable, and 32 bytes
		},
	}
}

func (d *device) deviceKeys() object { return sign(d.bareDeviceKeys(), d.user(), d.id(), d.key) }

func (d *device) oneTimeKey() object {
	return sign(object{"key": curveKey()}, d.user(), d.id(), d.key)
}

func (d *device) fallbackKey() object {
	return sign(object{"key": curveKey(), "fallback": true}, d.user(), d.id(), d.key)
}

// oneTimeKeys are n new ones under new ids.
func (d *device) oneTimeKeys(n int) object {
	all := object{}
	for range n {
		d.uploads++
		all["signed_curve25519:AAAA"+strings.Repeat("A", d.uploads/26)+string(rune('A'+d.uploads%26))] = d.oneTimeKey()
	}
	return all
}

// answer is what came back, whatever it was.
type answer struct {
	status int
	body   []byte
}

func (a answer) code() string {
	var problem wire.Problem
	_ = json.Unmarshal(a.body, &problem)
	return problem.Code
}

func into[T any](t *testing.T, a answer) (value T) {
	t.Helper()
	if a.status != http.StatusOK {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	if err := json.Unmarshal(a.body, &value); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	return value
}

func (w *world) want(a answer, status int, code string) {
	w.t.Helper()
	if a.status != status || a.code() != code {
		w.t.Errorf("got %d %.300s, want %d %s", a.status, a.body, status, code)
	}
}

// call sends body: bytes as they are, nil not at all, anything else as JSON.
func (w *world) call(ctx context.Context, token, method, path string, body any) answer {
	w.t.Helper()
	content, isRaw := body.([]byte)
	if body != nil && !isRaw {
		var err error
		if content, err = json.Marshal(body); err != nil {
			w.t.Fatal(err)
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, w.server.URL+path, bytes.NewReader(content))
	if err != nil {
		w.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := w.server.Client().Do(request)
	if err != nil {
		w.t.Error(err)
		return answer{}
	}
	defer func() { _ = response.Body.Close() }()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Error(err)
	}
	return answer{response.StatusCode, read}
}

func (d *device) post(path string, body any) answer {
	d.t.Helper()
	return d.call(d.t.Context(), d.token, http.MethodPost, "/v1/keys/"+path, body)
}

func (d *device) get(path string) answer {
	d.t.Helper()
	return d.call(d.t.Context(), d.token, http.MethodGet, "/v1/keys/"+path, nil)
}

// mustUpload gives the count of one-time keys.
func (d *device) mustUpload(body object) int {
	d.t.Helper()
	return into[wire.KeysUploaded](d.t, d.post("upload", body)).OneTimeKeyCounts["signed_curve25519"]
}

func (d *device) query(others ...*device) wire.KeysFound {
	d.t.Helper()
	asked := wire.KeysQuery{DeviceKeys: map[string][]string{}}
	for _, other := range others {
		asked.DeviceKeys[other.user()] = []string{}
	}
	return into[wire.KeysFound](d.t, d.post("query", asked))
}

// claim gives the id of the key of other that d got, or "".
func (d *device) claim(other *device) string {
	d.t.Helper()
	a := into[wire.KeysClaimed](d.t, d.post("claim", object{"one_time_keys": object{other.user(): object{other.id(): "signed_curve25519"}}}))
	for id := range a.OneTimeKeys[other.user()][other.id()] {
		return id
	}
	return ""
}

func (d *device) send(txn string, content object, others ...*device) answer {
	d.t.Helper()
	messages := object{}
	for _, other := range others {
		to, _ := messages[other.user()].(object)
		if to == nil {
			to = object{}
		}
		to[other.id()], messages[other.user()] = content, to
	}
	return d.call(d.t.Context(), d.token, http.MethodPut, "/v1/keys/sendToDevice/m.test/"+txn, object{"messages": messages})
}

func (d *device) sync(since string) wire.KeysSync {
	d.t.Helper()
	return into[wire.KeysSync](d.t, d.get("sync?since="+since))
}

// changedSince are the users in the device lists of all pages after since.
func (d *device) changedSince(since string) (changed []string, next string) {
	d.t.Helper()
	for {
		page := d.sync(since)
		if len(page.DeviceLists.Changed) == 0 {
			return changed, page.NextBatch
		}
		changed, since = append(changed, page.DeviceLists.Changed...), page.NextBatch
	}
}

func sameJSON(t *testing.T, got, want any) {
	t.Helper()
	if a, b := plain(t, got), plain(t, want); !reflect.DeepEqual(a, b) {
		t.Errorf("got %v, want %v", a, b)
	}
}

func plain(t *testing.T, value any) (decoded any) {
	t.Helper()
	raw, err := json.Marshal(value)
	if err == nil {
		err = json.Unmarshal(raw, &decoded)
	}
	if err != nil {
		t.Fatal(err)
	}
	return decoded
}
