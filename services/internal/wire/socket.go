package wire

import "time"

// SocketProtocol is the subprotocol of /v1/ws (RFC 6455 §1.9). A client that names none is served all the same.
const SocketProtocol = "secureconnect.v1"

// The frames of /v1/ws, described in services/chat/PROTOCOL.md. Each is one JSON object with a type.
const (
	FrameAuth   = "auth"
	FrameSync   = "sync"
	FrameSend   = "send"
	FrameRange  = "range"
	FrameCursor = "cursor"
	FrameTyping = "typing" // also the server's
	FrameWatch  = "watch"
	FramePing   = "ping"

	FrameReady        = "ready"
	FrameSynced       = "synced"
	FrameSent         = "sent"
	FramePage         = "page"
	FramePong         = "pong"
	FrameItems        = "items"
	FrameConversation = "conversation"
	FrameCursors      = "cursors"
	FramePresence     = "presence"
	FrameInbox        = "inbox"
	FrameContacts     = "contacts"
	FrameError        = "error"
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
	UserID    UserID    `json:"user_id"`
	DeviceID  DeviceID  `json:"device_id"`
	ExpiresAt time.Time `json:"expires_at"`
}

// ClientFrame is what a client may send; its Type says which fields count.
type ClientFrame struct {
	Type           string                   `json:"type"`
	ID             string                   `json:"id,omitempty"`
	Token          string                   `json:"token,omitempty"`
	Cursors        map[ConversationID]int64 `json:"cursors,omitempty"`
	ConversationID ConversationID           `json:"conversation_id,omitempty"`
	ClientID       ClientID                 `json:"client_id,omitempty"`
	Body           string                   `json:"body,omitempty"`
	Clears         int64                    `json:"clears,omitempty"`
	After          int64                    `json:"after,omitempty"`
	UpTo           int64                    `json:"up_to,omitempty"`
	Limit          int                      `json:"limit,omitempty"`
	Delivered      *int64                   `json:"delivered,omitempty"`
	Read           *int64                   `json:"read,omitempty"`
	On             bool                     `json:"on,omitempty"`
	Users          []UserID                 `json:"users,omitempty"`
}

// ConversationHead is how far a conversation has come.
type ConversationHead struct {
	ID   ConversationID `json:"id"`
	Head int64          `json:"head"`
}

// SyncedFrame answers sync, in several frames where there are many; all but the last say More.
type SyncedFrame struct {
	Type          string             `json:"type"`
	ID            string             `json:"id"`
	Conversations []ConversationHead `json:"conversations"`
	More          bool               `json:"more,omitempty"`
}

// SentFrame answers send once the message is stored.
type SentFrame struct {
	Type           string         `json:"type"`
	ID             string         `json:"id"`
	ConversationID ConversationID `json:"conversation_id"`
	Sent
}

// PageFrame answers range.
type PageFrame struct {
	Type           string         `json:"type"`
	ID             string         `json:"id"`
	ConversationID ConversationID `json:"conversation_id"`
	Page
}

// ItemsFrame is what is new: everything in (After, Through] that its reader may see.
type ItemsFrame struct {
	Type           string         `json:"type"`
	ConversationID ConversationID `json:"conversation_id"`
	After          int64          `json:"after"`
	Items          []Item         `json:"items"`
	Through        int64          `json:"through"`
	Head           int64          `json:"head"`
}

// ConversationFrame tells of a conversation that its reader has come into.
type ConversationFrame struct {
	Type         string       `json:"type"`
	Conversation Conversation `json:"conversation"`
}

// MemberCursors are how far a member has been given, and has read, a conversation; 0 is not said.
type MemberCursors struct {
	UserID    UserID `json:"user_id"`
	Delivered int64  `json:"delivered,omitempty"`
	Read      int64  `json:"read,omitempty"`
}

// CursorsFrame tells that members received or read.
type CursorsFrame struct {
	Type           string          `json:"type"`
	ConversationID ConversationID  `json:"conversation_id"`
	Cursors        []MemberCursors `json:"cursors"`
}

// TypingFrame tells that a member writes, or has ceased to.
type TypingFrame struct {
	Type           string         `json:"type"`
	ConversationID ConversationID `json:"conversation_id"`
	UserID         UserID         `json:"user_id"`
	On             bool           `json:"on"`
}

// Presence is whether somebody has a socket anywhere, and since when not.
type Presence struct {
	UserID UserID     `json:"user_id"`
	Online bool       `json:"online"`
	SeenAt *time.Time `json:"seen_at,omitempty"`
}

// PresenceFrame tells of watched contacts that came or went.
type PresenceFrame struct {
	Type  string     `json:"type"`
	Users []Presence `json:"users"`
}

// PongFrame answers ping.
type PongFrame struct {
	Type string `json:"type"`
	ID   string `json:"id,omitempty"`
}

// HintFrame is inbox or contacts: something waits elsewhere.
type HintFrame struct {
	Type string `json:"type"`
}

// ErrorFrame answers a request that was refused. RetryAfter is in seconds, absent where asking again does not help.
type ErrorFrame struct {
	Type       string `json:"type"`
	ID         string `json:"id,omitempty"`
	Code       string `json:"code"`
	Detail     string `json:"detail,omitempty"`
	RetryAfter int    `json:"retry_after,omitempty"`
}
