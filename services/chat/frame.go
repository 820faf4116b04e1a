package chat

import (
	"encoding/json"
	"errors"
	"strconv"
	"unicode/utf8"

	"secureconnect/services/internal/wire"
)

const (
	// frameLimit is for a message of the largest size, every second character of it escaped.
	frameLimit = bodyLimit

	// pushBytes is about how much one frame of ours carries; a single item may be larger.
	pushBytes = 128 << 10
	pushItems = 64

	maxRequestID = 64
	maxWatched   = 500
	maxSynced    = 5000
)

var errFrame = errors.New("not a frame of this protocol")

// parseFrame reads what a client said. Unknown fields are for later versions; an unknown type is nobody's.
func parseFrame(content []byte) (wire.ClientFrame, error) {
	var frame wire.ClientFrame
	// A text frame is UTF-8 (RFC 6455 §5.6); encoding/json would repair it silently.
	if !utf8.Valid(content) || json.Unmarshal(content, &frame) != nil || !wellFormed(frame) {
		return wire.ClientFrame{}, errFrame
	}
	return frame, nil
}

func wellFormed(f wire.ClientFrame) bool {
	if len(f.ID) > maxRequestID {
		return false
	}
	switch f.Type {
	case wire.FrameAuth:
		return f.Token != ""
	case wire.FrameSync:
		return len(f.Cursors) <= maxSynced
	case wire.FrameSend, wire.FrameRange, wire.FrameTyping:
		return f.ConversationID != ""
	case wire.FrameCursor:
		return f.ConversationID != "" && (f.Delivered != nil || f.Read != nil)
	case wire.FrameWatch:
		return len(f.Users) <= maxWatched
	case wire.FramePing:
		return true
	default:
		return false
	}
}

// frameOf encodes what is made of our own types only, which does not fail.
func frameOf(frame any) []byte {
	encoded, err := json.Marshal(frame)
	if err != nil {
		panic(err)
	}
	return encoded
}

// batch is a piece of a conversation's order: everything in (after, through], with its items ready as JSON.
type batch struct {
	after, through int64
	encoded        []byte // the array of items
	items          []wire.Item
	leaving        []wire.UserID // for whom this is the last
	frame          []byte        // once it was needed
}

// items of a batch are those it was made of, or read again from what another host encoded.
func (b *batch) decoded() []wire.Item {
	if b.items == nil {
		_ = json.Unmarshal(b.encoded, &b.items) // what our own hosts encoded
	}
	return b.items
}

// framed is the frame for everybody who has all up to after; it is built once.
func (b *batch) framed(id wire.ConversationID, head int64) []byte {
	if b.frame == nil {
		b.frame = itemsFrame(id, b.after, b.encoded, b.through, max(head, b.through))
	}
	return b.frame
}

// framedFrom is for who has a part already.
func (b *batch) framedFrom(id wire.ConversationID, after int64) []byte {
	rest := []wire.Item{}
	for _, item := range b.decoded() {
		if item.Seq > after {
			rest = append(rest, item)
		}
	}
	return itemsFrame(id, after, frameOf(rest), b.through, b.through)
}

func itemsFrame(id wire.ConversationID, after int64, items []byte, through, head int64) []byte {
	frame := make([]byte, 0, len(items)+160)
	frame = append(frame, `{"type":"items","conversation_id":"`...)
	frame = append(frame, id...)
	frame = append(frame, `","after":`...)
	frame = strconv.AppendInt(frame, after, 10)
	frame = append(frame, `,"items":`...)
	frame = append(frame, items...)
	frame = append(frame, `,"through":`...)
	frame = strconv.AppendInt(frame, through, 10)
	frame = append(frame, `,"head":`...)
	frame = strconv.AppendInt(frame, head, 10)
	return append(frame, '}')
}

// batchesOf cuts what was read in (after, through] into frames of a bearable size; a removal is the last of its batch, so that
// whoever it concerns gets that batch and no more.
func batchesOf(after int64, items []wire.Item, through int64) []*batch {
	var batches []*batch
	begin, size := 0, 0
	cut := func(end int, at int64) {
		part := items[begin:end:end]
		batches = append(batches, &batch{after: after, through: at, encoded: frameOf(part), items: part, leaving: leavers(part)})
		begin, size, after = end, 0, at
	}
	for i, item := range items {
		size += len(item.Body)
		if i+1 < len(items) && (size >= pushBytes || i+1-begin >= pushItems || len(leavers(items[i:i+1])) > 0) {
			cut(i+1, item.Seq)
		}
	}
	if begin < len(items) && len(leavers(items[len(items)-1:])) > 0 {
		cut(len(items), items[len(items)-1].Seq)
	}
	if begin < len(items) || after < through {
		cut(len(items), through)
	}
	return batches
}

// leavers are who a piece of the order puts out.
func leavers(items []wire.Item) (users []wire.UserID) {
	for _, item := range items {
		if item.Event != nil && (item.Event.Type == wire.EventRemoved || item.Event.Type == wire.EventLeft) {
			users = append(users, item.Event.Users...)
		}
	}
	return users
}

// comers are who a piece of the order lets in.
func comers(items []wire.Item) (users []wire.UserID) {
	for _, item := range items {
		if item.Event != nil && (item.Event.Type == wire.EventCreated || item.Event.Type == wire.EventAdded) {
			users = append(users, item.Event.Users...)
		}
	}
	return users
}
