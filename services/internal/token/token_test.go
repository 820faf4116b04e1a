package token_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"secureconnect/services/internal/config"
	"secureconnect/services/internal/token"
	"secureconnect/services/internal/wire"
)

var (
	secret  = config.NewSecret(strings.Repeat("a", 40))
	start   = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	session = wire.Session{
		UserID:    "6f1f9cb9-6d4e-4f4e-9b8d-1d6c1f6d7b1a",
		SessionID: "0b9f3f7e-55f0-4d31-8a35-4f6c2f8f4c11",
		DeviceID:  "PHONE_1",
	}
)

func newSigner(t testing.TB, s config.Secret) *token.Signer {
	t.Helper()
	signer, err := token.NewSigner(s)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func newVerifier(t testing.TB, set token.KeySet) *token.Verifier {
	t.Helper()
	verifier, err := token.NewVerifier(set)
	if err != nil {
		t.Fatal(err)
	}
	return verifier
}

func sign(t testing.TB, signer *token.Signer) string {
	t.Helper()
	raw, _, err := signer.Sign(session, start)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestVerify(t *testing.T) {
	// Two hosts with the same secret: one signs, the other checks.
	verifier := newVerifier(t, newSigner(t, secret).Keys())
	raw := sign(t, newSigner(t, secret))

	got, err := verifier.Verify(raw, start.Add(9*time.Minute))
	want := session
	want.Expires = start.Add(token.Lifetime)
	if err != nil || got.Expires.Compare(want.Expires) != 0 {
		t.Fatalf("got %v, %v", got, err)
	}
	got.Expires = want.Expires
	if got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if _, err := verifier.Verify(raw, start.Add(token.Lifetime+time.Minute)); !errors.Is(err, token.ErrExpired) {
		t.Errorf("after its time: %v", err)
	}
}

// forge signs any claims with the real key, as a bug of ours might.
func forge(t *testing.T, change func(header map[string]any, claims jwt.MapClaims)) string {
	t.Helper()
	seed, err := token.Derive(secret, "secureconnect access token v1", ed25519.SeedSize)
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.MapClaims{
		"iss": "secureconnect", "sub": string(session.UserID), "sid": string(session.SessionID),
		"device_id": string(session.DeviceID), "typ": "access", "iat": start.Unix(), "exp": start.Add(time.Minute).Unix(),
	}
	unsigned := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	unsigned.Header["kid"] = newSigner(t, secret).Keys().Keys[0].ID
	change(unsigned.Header, claims)
	signed, err := unsigned.SignedString(ed25519.NewKeyFromSeed(seed))
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func TestVerifyRefuses(t *testing.T) {
	signer := newSigner(t, secret)
	verifier := newVerifier(t, signer.Keys())
	good := sign(t, signer)
	parts := strings.Split(good, ".")
	without := func(name string) string {
		return forge(t, func(_ map[string]any, c jwt.MapClaims) { delete(c, name) })
	}
	with := func(name string, value any) string {
		return forge(t, func(_ map[string]any, c jwt.MapClaims) { c[name] = value })
	}
	encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	kid := signer.Keys().Keys[0].ID
	public, err := base64.RawURLEncoding.DecodeString(signer.Keys().Keys[0].X)
	if err != nil {
		t.Fatal(err)
	}
	hmacWithPublicKey := jwt.New(jwt.SigningMethodHS256)
	hmacWithPublicKey.Header["kid"] = kid
	confused, err := hmacWithPublicKey.SignedString(public)
	if err != nil {
		t.Fatal(err)
	}

	// The forger works: what it signs unchanged is good.
	if _, err := verifier.Verify(forge(t, func(map[string]any, jwt.MapClaims) {}), start); err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string]string{
		"empty":                   "",
		"not_a_token":             "abc",
		"no_signature":            parts[0] + "." + parts[1] + ".",
		"other_signature":         parts[0] + "." + parts[1] + "." + encode(strings.Repeat("x", ed25519.SignatureSize)),
		"other_payload":           parts[0] + "." + encode(`{"sub":"x"}`) + "." + parts[2],
		"algorithm_none":          encode(`{"alg":"none","kid":"`+kid+`"}`) + "." + parts[1] + ".",
		"hmac_of_the_public_key":  confused,
		"signed_by_other_secret":  sign(t, newSigner(t, config.NewSecret(strings.Repeat("b", 40)))),
		"no_key_id":               forge(t, func(h map[string]any, _ jwt.MapClaims) { delete(h, "kid") }),
		"key_id_of_another_type":  forge(t, func(h map[string]any, _ jwt.MapClaims) { h["kid"] = 7 }),
		"refresh_token":           with("typ", "refresh"),
		"no_type":                 without("typ"),
		"other_issuer":            with("iss", "somebody"),
		"no_issuer":               without("iss"),
		"no_end":                  without("exp"),
		"from_the_future":         with("iat", start.Add(time.Hour).Unix()),
		"no_session":              without("sid"),
		"session_that_is_no_id":   with("sid", "../../etc"),
		"no_user":                 without("sub"),
		"user_that_is_no_id":      with("sub", "admin"),
		"no_device":               without("device_id"),
		"device_that_is_no_id":    with("device_id", "a b"),
		"longer_than_any_of_ours": with("sub", strings.Repeat("a", 4096)),
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := verifier.Verify(raw, start); !errors.Is(err, token.ErrInvalid) {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func TestSignerRefusesAShortSecret(t *testing.T) {
	if _, err := token.NewSigner(config.NewSecret("short")); err == nil {
		t.Error("accepted")
	}
}

func TestVerifierRefusesBadKeySets(t *testing.T) {
	for name, set := range map[string]token.KeySet{
		"empty":     {},
		"rsa":       {Keys: []token.Key{{Type: "RSA", ID: "a"}}},
		"short_key": {Keys: []token.Key{{Type: "OKP", Curve: "Ed25519", ID: "a", X: "AAAA"}}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := token.NewVerifier(set); err == nil {
				t.Error("accepted")
			}
		})
	}
}

// published is an auth service whose key can change and which can be away.
type published struct {
	signer atomic.Pointer[token.Signer]
	away   atomic.Bool
	asked  atomic.Int64
}

func (p *published) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	p.asked.Add(1)
	if p.away.Load() {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	_ = json.NewEncoder(w).Encode(p.signer.Load().Keys())
}

func TestRemote(t *testing.T) {
	auth := &published{}
	first, second := newSigner(t, secret), newSigner(t, config.NewSecret(strings.Repeat("c", 40)))
	auth.signer.Store(first)
	auth.away.Store(true)
	server := httptest.NewServer(auth)
	t.Cleanup(server.Close)
	remote := token.NewRemote(server.URL, server.Client())
	ctx := t.Context()

	if _, err := remote.Verify(ctx, sign(t, first), start); !errors.Is(err, token.ErrNoKeys) || errors.Is(err, token.ErrInvalid) {
		t.Errorf("without keys nothing can be said of a token: %v", err)
	}
	auth.away.Store(false)
	if _, err := remote.Verify(ctx, sign(t, first), start); err != nil {
		t.Errorf("keys are there now: %v", err)
	}
	auth.away.Store(true)
	if _, err := remote.Verify(ctx, sign(t, first), start); err != nil {
		t.Errorf("known keys go on working without auth: %v", err)
	}
	auth.away.Store(false)

	// A flood of tokens with unknown keys asks once in a while.
	before := auth.asked.Load()
	auth.signer.Store(second)
	for range 50 {
		if _, err := remote.Verify(ctx, sign(t, second), start); !errors.Is(err, token.ErrInvalid) {
			t.Fatalf("accepted before the keys were fetched again: %v", err)
		}
	}
	if asked := auth.asked.Load() - before; asked != 0 {
		t.Errorf("asked %d times for keys in one moment", asked)
	}
	if _, err := remote.Verify(ctx, sign(t, second), start.Add(11*time.Second)); err != nil {
		t.Errorf("a new key is not learnt: %v", err)
	}
	if _, err := remote.Verify(ctx, sign(t, first), start.Add(11*time.Second)); !errors.Is(err, token.ErrInvalid) {
		t.Errorf("a withdrawn key is still good: %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	signer := newSigner(f, secret)
	good := sign(f, signer)
	parts := strings.Split(good, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	for _, seed := range []string{"", ".", "..", "a.b.c", good, good + "=", strings.ToUpper(good), parts[0] + "." + parts[1] + ".",
		none + "." + parts[1] + ".", good + ".x", "{}", "\x00", strings.Repeat("A", 5000), rand.Text()} {
		f.Add(seed)
	}
	verifier := newVerifier(f, signer.Keys())
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := verifier.Verify(raw, start)
		if err == nil && raw != good {
			t.Fatalf("a token nobody signed is good: %q is %v", raw, got)
		}
		if err != nil && !errors.Is(err, token.ErrInvalid) {
			t.Fatalf("an error of no kind: %v", err)
		}
	})
}
