package wire

import "time"

// SocketProtocol is the subprotocol of /v1/ws (RFC 6455 §1.9). A client that names none is served all the same.
const SocketProtocol = "secureconnect.v1"

// The frames of /v1/ws that come before anything it carries. Each is one JSON object with a type.
const (
	FrameAuth  = "auth"  // client: an access token, within 5 s and again before the last one expires
	FrameReady = "ready" // server: the token was taken
)

// AuthFrame signs a socket in.
type AuthFrame struct {
	Type  string `json:"type"`
	Token string `json:"token"`
}

// ReadyFrame answers an AuthFrame. ExpiresAt is when the next one is due.
type ReadyFrame struct {
	Type      string    `json:"type"`
	SessionID SessionID `json:"session_id"`
	ExpiresAt time.Time `json:"expires_at"`
}
