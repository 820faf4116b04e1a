package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"secureconnect/services/internal/config"
	"secureconnect/services/internal/token"
)

const (
	refreshInfo = "secureconnect refresh v1"

	// repeatWindow is how long a used refresh token gives its successor again: for an answer that was lost, and for
	// tabs that ask at the same time.
	repeatWindow = 30 * time.Second

	// sessionLifetime without a refresh ends a session.
	sessionLifetime = 30 * 24 * time.Hour

	// usedKept is how long used tokens are remembered, so that their reuse ends the session. Older ones are
	// refused like any unknown token.
	usedKept = 7 * 24 * time.Hour

	refreshBytes = 32
)

// refreshKey derives successors: the same token always has the same one, and only auth can tell which.
type refreshKey []byte

func newRefreshKey(secret config.Secret) (refreshKey, error) {
	return token.Derive(secret, refreshInfo, sha256.Size)
}

// newRefreshToken starts a family.
func newRefreshToken() config.Secret { return encodeRefresh(randomBytes(refreshBytes)) }

func encodeRefresh(raw []byte) config.Secret {
	return config.NewSecret(base64.RawURLEncoding.EncodeToString(raw))
}

// wellFormed spares the store a question about what cannot be a token.
func wellFormed(refresh config.Secret) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(refresh.Reveal())
	return err == nil && len(raw) == refreshBytes
}

func (k refreshKey) successor(refresh config.Secret) config.Secret {
	mac := hmac.New(sha256.New, k)
	mac.Write([]byte(refresh.Reveal()))
	return encodeRefresh(mac.Sum(nil))
}

// hashOf is what the store keeps: 256 random bits need no salt and no cost.
func hashOf(secret config.Secret) []byte {
	sum := sha256.Sum256([]byte(secret.Reveal()))
	return sum[:]
}

// verdict is what a refresh token is good for.
type verdict int

const (
	refuse verdict = iota // unknown, or its session has ended
	rotate                // first use
	repeat                // used a moment ago, the successor not yet
	reuse                 // somebody has a copy
)

// tokenState is what the store knows about a refresh token.
type tokenState struct {
	known         bool
	live          bool // its session and account
	usedAt        *time.Time
	successorUsed bool
}

// judge is the whole rule of rotation. A token whose successor has been used is reuse at once: both its owner and
// somebody else have gone on from it (RFC 9700 §4.14.2).
func judge(t tokenState, now time.Time) verdict {
	switch {
	case !t.known || !t.live:
		return refuse
	case t.usedAt == nil:
		return rotate
	case t.successorUsed || now.Sub(*t.usedAt) > repeatWindow:
		return reuse
	default:
		return repeat
	}
}
