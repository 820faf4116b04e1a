// Package token makes and checks access tokens: short-lived EdDSA JWTs (RFC 7519, RFC 8037) that name a session.
// It knows nothing of refresh tokens, and a valid token does not say that its session still lives.
package token

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"secureconnect/services/internal/config"
	"secureconnect/services/internal/wire"
)

const (
	issuer     = "secureconnect"
	accessType = "access"
	keyInfo    = "secureconnect access token v1"

	// Lifetime of an access token. A revoked session's tokens end with it at the latest.
	Lifetime = 10 * time.Minute

	// leeway is what two hosts' clocks may differ by.
	leeway = 15 * time.Second

	// maxLength is far above any token of ours: longer ones are not worth parsing.
	maxLength = 2048
)

// ErrInvalid is every reason to refuse a token: the client need not know which.
var ErrInvalid = errors.New("invalid access token")

// ErrExpired is a token that was good once. It is also an ErrInvalid.
var ErrExpired = fmt.Errorf("expired: %w", ErrInvalid)

type claims struct {
	jwt.RegisteredClaims
	SessionID string `json:"sid"`
	DeviceID  string `json:"device_id"`
	Type      string `json:"typ"`
}

// Signer makes access tokens. Only auth has the secret for one.
type Signer struct {
	key ed25519.PrivateKey
	id  string
}

// NewSigner derives the signing key from the secret that all auth services share.
func NewSigner(secret config.Secret) (*Signer, error) {
	seed, err := Derive(secret, keyInfo, ed25519.SeedSize)
	if err != nil {
		return nil, err
	}
	key := ed25519.NewKeyFromSeed(seed)
	return &Signer{key: key, id: keyID(public(key))}, nil
}

// minSecret bytes are asked for: a guessable secret makes every token forgeable.
const minSecret = 32

// Derive makes a key for one purpose from a secret (HKDF-SHA256, RFC 5869).
func Derive(secret config.Secret, info string, length int) ([]byte, error) {
	if len(secret.Reveal()) < minSecret {
		return nil, fmt.Errorf("token secret: shorter than %d bytes", minSecret)
	}
	key, err := hkdf.Key(sha256.New, []byte(secret.Reveal()), nil, info, length)
	if err != nil {
		return nil, fmt.Errorf("derive key %q: %w", info, err)
	}
	return key, nil
}

// Sign makes a token for session that ends Lifetime after now.
func (s *Signer) Sign(session wire.Session, now time.Time) (string, time.Time, error) {
	expires := now.Add(Lifetime).Truncate(time.Second)
	unsigned := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    issuer,
			Subject:   string(session.UserID),
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(expires),
		},
		SessionID: string(session.SessionID),
		DeviceID:  string(session.DeviceID),
		Type:      accessType,
	})
	unsigned.Header["kid"] = s.id
	signed, err := unsigned.SignedString(s.key)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("sign access token: %w", err)
	}
	return signed, expires, nil
}

// Keys is what others check this signer's tokens with.
func (s *Signer) Keys() KeySet {
	return KeySet{Keys: []Key{{
		Type: "OKP", Curve: "Ed25519", Use: "sig", Algorithm: "EdDSA",
		ID: s.id, X: base64.RawURLEncoding.EncodeToString(public(s.key)),
	}}}
}

// public is never asked of a key that has none.
func public(key ed25519.PrivateKey) ed25519.PublicKey {
	return ed25519.PublicKey(key[ed25519.PrivateKeySize-ed25519.PublicKeySize:])
}

func keyID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}
