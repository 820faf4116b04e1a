package token

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"secureconnect/services/internal/wire"
)

// KeySet is a JSON Web Key Set (RFC 7517) of Ed25519 keys (RFC 8037).
type KeySet struct {
	Keys []Key `json:"keys"`
}

// Key is one public key.
type Key struct {
	Type      string `json:"kty"`
	Curve     string `json:"crv"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
	ID        string `json:"kid"`
	X         string `json:"x"`
}

// Verifier checks access tokens with a fixed set of keys.
type Verifier struct {
	keys map[string]ed25519.PublicKey
}

// NewVerifier takes the usable keys of set; a set without one is refused.
func NewVerifier(set KeySet) (*Verifier, error) {
	keys := make(map[string]ed25519.PublicKey, len(set.Keys))
	for _, key := range set.Keys {
		if key.Type != "OKP" || key.Curve != "Ed25519" || key.ID == "" {
			continue
		}
		x, err := base64.RawURLEncoding.DecodeString(key.X)
		if err != nil || len(x) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("key %q: not an Ed25519 public key", key.ID)
		}
		keys[key.ID] = x
	}
	if len(keys) == 0 {
		return nil, errors.New("key set: no Ed25519 key")
	}
	return &Verifier{keys: keys}, nil
}

// errUnknownKey makes Remote look for new keys.
var errUnknownKey = fmt.Errorf("unknown key: %w", ErrInvalid)

// Verify gives the session a token names. It fails with ErrInvalid or, more exactly, ErrExpired.
func (v *Verifier) Verify(raw string, now time.Time) (wire.Session, error) {
	if len(raw) > maxLength {
		return wire.Session{}, ErrInvalid
	}
	var c claims
	_, err := jwt.ParseWithClaims(raw, &c, v.key,
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}),
		jwt.WithIssuer(issuer),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(leeway),
		jwt.WithStrictDecoding(),
		jwt.WithTimeFunc(func() time.Time { return now }),
	)
	switch {
	case errors.Is(err, errUnknownKey):
		return wire.Session{}, errUnknownKey
	case errors.Is(err, jwt.ErrTokenExpired):
		return wire.Session{}, ErrExpired
	case err != nil:
		return wire.Session{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return c.session()
}

func (v *Verifier) key(t *jwt.Token) (any, error) {
	id, isText := t.Header["kid"].(string)
	key, known := v.keys[id]
	if !isText || !known {
		return nil, errUnknownKey
	}
	return key, nil
}

// session refuses tokens of another type and tokens that do not name everything.
func (c *claims) session() (wire.Session, error) {
	if c.Type != accessType {
		return wire.Session{}, fmt.Errorf("%w: of type %q", ErrInvalid, c.Type)
	}
	user, errUser := wire.ParseUserID(c.Subject)
	session, errSession := wire.ParseSessionID(c.SessionID)
	device, errDevice := wire.ParseDeviceID(c.DeviceID)
	if err := errors.Join(errUser, errSession, errDevice); err != nil {
		return wire.Session{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return wire.Session{UserID: user, SessionID: session, DeviceID: device, Expires: c.ExpiresAt.Time}, nil
}
