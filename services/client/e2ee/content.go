package e2ee

import (
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"secureconnect/services/internal/wire"
)

// Kinds of content.
const (
	KindText   = "text"
	KindFile   = "file"
	KindEdit   = "edit"
	KindReact  = "react"
	KindDelete = "delete"
)

// Content is what is inside an encrypted message; services/gateway/web/CONTENT.md says what each kind means.
type Content struct {
	Kind    string        `json:"kind"`
	ID      wire.ClientID `json:"id"` // the message's own name: what goes by another was re-labelled
	Text    string        `json:"text,omitempty"`
	ReplyTo wire.ClientID `json:"reply_to,omitempty"`
	Target  wire.ClientID `json:"target,omitempty"`
	Key     string        `json:"key,omitempty"`
	On      bool          `json:"on"` // of a reaction: what is taken away says so
	File    *File         `json:"file,omitempty"`

	// Restored says that the key came out of the backup: whoever could put one there may have written this, and a person is to be told so.
	Restored bool `json:"-"`
}

// File is an attachment: what lies at URL, with the SHA-256 Hash, is encrypted with AES-256-GCM under Key. Both are unpadded base64.
type File struct {
	Name string `json:"name"`
	Type string `json:"type"`
	Size int64  `json:"size"`
	URL  string `json:"url"`
	Key  string `json:"key"`
	Hash string `json:"hash"`
}

// messageType is the type of what is inside a Megolm message of ours.
var messageType = event.Type{Type: "secureconnect.message", Class: event.MessageEventType}

// roomOf is the conversation as Megolm names it.
func roomOf(conversation wire.ConversationID) id.RoomID {
	return id.RoomID("!" + string(conversation) + ":" + wire.ServerName)
}

func eventOf(message wire.ClientID) id.EventID { return id.EventID("$" + string(message)) }

func matrixUser(user wire.UserID) id.UserID { return id.UserID(user.MatrixID()) }
