package wire

import (
	"time"

	"github.com/google/uuid"
)

// ConversationID names a conversation. It never changes and is never given again.
type ConversationID string

// ClientID is a message's name (a UUIDv7, RFC 9562 §5.7), made by the client that sends it: what is sent again under it
// is the same message.
type ClientID string

// ParseConversationID refuses what cannot be a conversation's name.
func ParseConversationID(text string) (ConversationID, error) {
	id, err := uuid.Parse(text)
	if err != nil || id.String() != text {
		return "", errID
	}
	return ConversationID(text), nil
}

// ParseClientID refuses what is no UUIDv7, and tells when it was made.
func ParseClientID(text string) (id ClientID, made time.Time, err error) {
	parsed, err := uuid.Parse(text)
	if err != nil || parsed.String() != text || parsed.Version() != 7 || parsed.Variant() != uuid.RFC4122 {
		return "", time.Time{}, errID
	}
	milliseconds := int64(0)
	for _, b := range parsed[:6] {
		milliseconds = milliseconds<<8 | int64(b)
	}
	return ClientID(text), time.UnixMilli(milliseconds), nil
}

// Kinds of conversations.
const (
	KindDirect = "direct" // exactly two, for good
	KindGroup  = "group"
)

// Roles in a conversation.
const (
	RoleOwner  = "owner"
	RoleAdmin  = "admin"
	RoleMember = "member"
)

// ConversationRequest is the body of POST /v1/conversations. A direct conversation is with UserID; a group has a Name,
// Members and a ClientID under which it is made once.
type ConversationRequest struct {
	Kind     string   `json:"kind"`
	UserID   UserID   `json:"user_id,omitempty"`
	ClientID ClientID `json:"client_id,omitempty"`
	Name     string   `json:"name,omitempty"`
	Members  []UserID `json:"members,omitempty"`
}

// Conversation is one as a member of it sees it.
type Conversation struct {
	ID          ConversationID `json:"id"`
	Kind        string         `json:"kind"`
	Name        string         `json:"name,omitempty"`
	With        UserID         `json:"with,omitempty"` // the other one of a direct conversation
	Role        string         `json:"role"`
	Head        int64          `json:"head"`         // the last number given
	JoinedSeq   int64          `json:"joined_seq"`   // the first number the caller sees of this membership
	MessageLife int            `json:"message_life"` // seconds until a new message disappears; 0 is never
	Delivered   int64          `json:"delivered"`    // this device's cursor
	Read        int64          `json:"read"`         // the caller's cursor
	CreatedAt   time.Time      `json:"created_at"`
}

// Conversations answers GET /v1/conversations. Next is the from of the next page, absent on the last.
type Conversations struct {
	Conversations []Conversation `json:"conversations"`
	Next          ConversationID `json:"next,omitempty"`
}

// ConversationChange is the body of PATCH /v1/conversations/{id}; an absent field stays as it is.
type ConversationChange struct {
	Name        *string `json:"name,omitempty"`
	MessageLife *int    `json:"message_life,omitempty"`
}

// Member is one who is in a conversation now.
type Member struct {
	UserID    UserID `json:"user_id"`
	Role      string `json:"role"`
	JoinedSeq int64  `json:"joined_seq"`
	Delivered int64  `json:"delivered"` // the furthest of the member's devices
	Read      int64  `json:"read"`
}

// Members answers GET /v1/conversations/{id}/members.
type Members struct {
	Members []Member `json:"members"`
}

// MembersRequest is the body of POST /v1/conversations/{id}/members.
type MembersRequest struct {
	UserIDs []UserID `json:"user_ids"`
}

// RoleChange is the body of PATCH /v1/conversations/{id}/members/{user_id}.
type RoleChange struct {
	Role string `json:"role"`
}

// SendRequest is the body of POST /v1/conversations/{id}/messages. Body is opaque text of at most 64 KiB. With Clears the
// message is a deletion for everybody: the body stored under that number is emptied as well.
type SendRequest struct {
	ClientID ClientID `json:"client_id"`
	Body     string   `json:"body"`
	Clears   int64    `json:"clears,omitempty"`
}

// Sent says that a message is stored, and where. The same request has the same answer.
type Sent struct {
	ClientID ClientID  `json:"client_id"`
	Seq      int64     `json:"seq"`
	At       time.Time `json:"at"`
}

// Kinds of items.
const (
	ItemMessage = "message"
	ItemCleared = "cleared" // a message deleted for everybody
	ItemExpired = "expired" // a message whose life has passed; who sent it is forgotten as well
	ItemEvent   = "event"
)

// Item is what a number of a conversation holds.
type Item struct {
	Seq       int64      `json:"seq"`
	Kind      string     `json:"kind"`
	At        *time.Time `json:"at,omitempty"`
	Sender    UserID     `json:"sender,omitempty"`
	Device    DeviceID   `json:"device,omitempty"`
	ClientID  ClientID   `json:"client_id,omitempty"`
	Body      string     `json:"body,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	Event     *Event     `json:"event,omitempty"`
}

// Types of events.
const (
	EventCreated = "created"
	EventRenamed = "renamed"
	EventAdded   = "added"
	EventRemoved = "removed"
	EventLeft    = "left"
	EventRole    = "role"
	EventLife    = "message_life"
)

// Event is a change of a conversation, in the same order as its messages. Its actor is the item's Sender.
type Event struct {
	Type        string   `json:"type"`
	Users       []UserID `json:"users,omitempty"`        // concerned
	Name        string   `json:"name,omitempty"`         // created, renamed
	Role        string   `json:"role,omitempty"`         // role: the new one
	Successor   UserID   `json:"successor,omitempty"`    // left: the new owner, when the last one left
	MessageLife int      `json:"message_life,omitempty"` // message_life: seconds, absent is never
}

// Page answers GET /v1/conversations/{id}/messages: everything the caller may see of what is above the asked number, up
// to Through. A number in between that is not there never will be. More says that the next page can be read at once;
// without it and with Through below Head, a message is still being stored.
type Page struct {
	Items   []Item `json:"items"`
	Through int64  `json:"through"`
	Head    int64  `json:"head"` // the last number the caller may see
	More    bool   `json:"more"`
}

// CursorChange is the body of PUT /v1/conversations/{id}/cursor; an absent field stays as it is, and none goes back.
type CursorChange struct {
	Delivered *int64 `json:"delivered,omitempty"`
	Read      *int64 `json:"read,omitempty"`
}

// Cursors are how far a device has been given, and its user has read, a conversation.
type Cursors struct {
	Delivered int64 `json:"delivered"`
	Read      int64 `json:"read"`
}
