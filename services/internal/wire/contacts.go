package wire

import (
	"fmt"
	"strings"
	"time"
)

// Relation is what one person is to another, as the first of them sees it.
type Relation string

// The relations. An outgoing one was asked for by whoever sees it, an incoming one by the other.
const (
	RelationNone     Relation = "none"
	RelationSelf     Relation = "self"
	RelationContact  Relation = "contact"
	RelationIncoming Relation = "incoming"
	RelationOutgoing Relation = "outgoing"
	RelationBlocked  Relation = "blocked"
)

// Profile is an account as others see it, and what it is to whoever asked.
type Profile struct {
	ID          UserID   `json:"id"`
	Username    string   `json:"username"`
	DisplayName string   `json:"display_name"`
	Relation    Relation `json:"relation"`
}

// Profiles answers GET /v1/users?search=.
type Profiles struct {
	Users []Profile `json:"users"`
}

// Contact is one of the caller's relations; its state is never none or self.
type Contact struct {
	ID          UserID    `json:"id"`
	Username    string    `json:"username"`
	DisplayName string    `json:"display_name"`
	State       Relation  `json:"state"`
	Since       time.Time `json:"since"`
}

// Contacts is a page of GET /v1/contacts. Next, where there is more, is the after= of the next page.
type Contacts struct {
	Contacts []Contact `json:"contacts"`
	Next     UserID    `json:"next,omitempty"`
}

// ContactRequest is the body of POST /v1/contacts. The answer is 200 with a Contact.
type ContactRequest struct {
	UserID UserID `json:"user_id"`
}

// Relations is what a service must know of two people before it lets the first write to the other.
type Relations struct {
	Contact  bool `json:"contact"`
	Blocked  bool `json:"blocked"`  // by the other
	Blocking bool `json:"blocking"` // the other
	Active   bool `json:"active"`   // both accounts are there, neither disabled nor expired
}

// PathRelations and two user ids with a slash between them are auth's own, for services only, like PathSession.
const PathRelations = "/internal/relations/"

// RelationChannel carries a RelationHint for every side of a pair that sees it changed; SQL is the truth.
const RelationChannel = "relation-changed"

// RelationHint says that what user sees of other has changed. Whatever is kept about the two, in either direction, is
// old. Only user's devices may be told: to other it may be a secret, such as a block.
type RelationHint struct {
	User, Other UserID
}

func (h RelationHint) String() string { return string(h.User) + " " + string(h.Other) }

// ParseRelationHint reads what the channel carries.
func ParseRelationHint(text string) (RelationHint, error) {
	first, second, _ := strings.Cut(text, " ")
	user, err := ParseUserID(first)
	if err != nil {
		return RelationHint{}, fmt.Errorf("read relation hint: %w", err)
	}
	other, err := ParseUserID(second)
	if err != nil {
		return RelationHint{}, fmt.Errorf("read relation hint: %w", err)
	}
	return RelationHint{User: user, Other: other}, nil
}
