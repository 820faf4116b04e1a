// Package wire holds the types that cross a process: between services, and between them and their clients.
// It knows no transport, no store and no rule beyond the shape of an identifier.
package wire

import (
	"errors"
	"regexp"
	"time"

	"github.com/google/uuid"
)

// UserID names an account. It never changes and is never given again.
type UserID string

// SessionID names one login of one device. All refresh tokens that follow from that login are its family.
type SessionID string

// DeviceID names a device among those of one user.
type DeviceID string

var errID = errors.New("not an identifier")

var devicePattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// ParseSessionID refuses what cannot be a session's name.
func ParseSessionID(text string) (SessionID, error) {
	id, err := uuid.Parse(text)
	if err != nil || id.String() != text {
		return "", errID
	}
	return SessionID(text), nil
}

// ParseUserID refuses what cannot be an account's name.
func ParseUserID(text string) (UserID, error) {
	id, err := uuid.Parse(text)
	if err != nil || id.String() != text {
		return "", errID
	}
	return UserID(text), nil
}

// ParseDeviceID refuses what cannot be a device's name.
func ParseDeviceID(text string) (DeviceID, error) {
	if !devicePattern.MatchString(text) {
		return "", errID
	}
	return DeviceID(text), nil
}

// Session is who a request comes from, as an access token says it.
type Session struct {
	UserID    UserID
	SessionID SessionID
	DeviceID  DeviceID
	Expires   time.Time // when the access token ends, not the session
}

// Problem is the answer to a refused or failed request (RFC 9457). Programs read Code; Detail is for people.
type Problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Code      string `json:"code"`
	Detail    string `json:"detail,omitempty"`
	RequestID string `json:"request_id,omitempty"`
}

// ProblemMediaType is the content type of a Problem.
const ProblemMediaType = "application/problem+json"

// Names of headers and of Redis channels and keys that two programs must agree on.
const (
	HeaderClient    = "X-Secureconnect-Client" // "web" asks for the refresh token in a cookie
	ClientWeb       = "web"
	HeaderRequestID = "X-Request-Id"
	HeaderRealIP    = "X-Real-Ip"
	HeaderServedBy  = "X-Served-By"

	// RevokedPrefix and a session's id are a Redis key that lives as long as an access token may.
	RevokedPrefix = "session:revoked:"
	// RevokedChannel carries the id of every session that ends, as a hint; SQL is the truth.
	RevokedChannel = "session-revoked"
	// KeysChannel carries the id of every user for whom something new is in GET /v1/keys/sync, as a hint; SQL is the truth.
	KeysChannel = "keys-changed"
)

// PathJWKS and PathSession are auth's own, for services only; the gateway does not proxy /internal.
const (
	PathJWKS    = "/internal/jwks"
	PathSession = "/internal/sessions/"
)
