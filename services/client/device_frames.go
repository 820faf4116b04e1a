package client

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"secureconnect/services/internal/wire"
)

// take does what a frame of the platform asks for.
func (d *Device) take(ctx context.Context, content json.RawMessage) error {
	var head struct {
		Type string `json:"type"`
		ID   string `json:"id"`
	}
	if err := json.Unmarshal(content, &head); err != nil {
		return fmt.Errorf("read frame: %w", err)
	}
	switch head.Type {
	case wire.FrameItems:
		var frame wire.ItemsFrame
		if err := json.Unmarshal(content, &frame); err != nil {
			return fmt.Errorf("read items: %w", err)
		}
		d.receive(ctx, frame)
	case wire.FrameSynced:
		var frame wire.SyncedFrame
		if err := json.Unmarshal(content, &frame); err != nil {
			return fmt.Errorf("read heads: %w", err)
		}
		d.learn(ctx, frame)
	case wire.FrameConversation:
		var frame wire.ConversationFrame
		if err := json.Unmarshal(content, &frame); err != nil {
			return fmt.Errorf("read conversation: %w", err)
		}
		d.begin(frame.Conversation)
		d.notice(head.Type, content)
	case wire.FrameError:
		d.refused(ctx, content)
	case wire.FramePage:
		if id, fills := strings.CutPrefix(head.ID, fillID); fills {
			return d.filled(ctx, wire.ConversationID(id), content)
		}
		d.answer(head.ID, reply{content: content})
	case wire.FrameSent, wire.FramePong:
		d.answer(head.ID, reply{content: content})
	case wire.FrameReady:
		var frame Ready
		if err := json.Unmarshal(content, &frame); err != nil {
			return fmt.Errorf("read frame: %w", err)
		}
		d.renewed(frame)
	default:
		d.notice(head.Type, content)
	}
	return nil
}

func (d *Device) notice(kind string, content json.RawMessage) {
	if d.options.Notice != nil {
		d.options.Notice(kind, content)
	}
}

func (d *Device) answer(id string, got reply) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.asked[id]; r != nil {
		d.forgetLocked(r)
		r.answer <- got
	}
}

// later are the refusals that mean: again, later.
var later = []string{"try_again", "unavailable", "too_many_requests", "conversation_busy"}

// refused passes a refusal on, or sends again after a while what lasts and was only put off.
func (d *Device) refused(ctx context.Context, content json.RawMessage) {
	var frame wire.ErrorFrame
	if json.Unmarshal(content, &frame) != nil {
		return
	}
	wait := time.Duration(frame.RetryAfter) * time.Second
	if id, fills := strings.CutPrefix(frame.ID, fillID); fills {
		d.fillLater(ctx, wire.ConversationID(id), max(wait, fillPause), wait > 0)
		return
	}
	d.mu.Lock()
	r, socket := d.asked[frame.ID], d.socket
	d.mu.Unlock()
	if r != nil && r.lasts && (wait > 0 || slices.Contains(later, frame.Code)) {
		time.AfterFunc(max(wait, d.options.Pause), func() { d.repeat(ctx, socket, r) })
		return
	}
	d.answer(frame.ID, reply{err: &Problem{Code: frame.Code, Detail: frame.Detail, RetryAfter: wait}})
}

// repeat sends a request again on the socket that put it off; on a later one it was sent anyway.
func (d *Device) repeat(ctx context.Context, socket *Socket, r *request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.socket == socket && socket != nil && d.asked[r.frame.ID] == r {
		_ = socket.Send(ctx, r.frame) // what fails here is sent on the next socket
	}
}

func (d *Device) streamLocked(id wire.ConversationID) *stream {
	s := d.streams[id]
	if s == nil {
		s = &stream{}
		d.streams[id] = s
	}
	return s
}

// begin sets the cursor of a conversation that the device has just come into: before its own joining there is nothing to see. Where it
// has a cursor it was a member before, and has yet to read what it missed of that time.
func (d *Device) begin(c wire.Conversation) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.streams[c.ID] == nil {
		d.streams[c.ID] = &stream{through: c.JoinedSeq - 1}
	}
}

// learn asks for conversations that the device had no cursor of.
func (d *Device) learn(ctx context.Context, frame wire.SyncedFrame) {
	for _, c := range frame.Conversations {
		d.mu.Lock()
		known := d.streams[c.ID] != nil
		s := d.streamLocked(c.ID)
		s.target = max(s.target, c.Head)
		d.mu.Unlock()
		if !known {
			d.fill(ctx, c.ID)
		}
	}
}

// receive delivers what continues the cursor; what begins above it waits until the range in between was read.
func (d *Device) receive(ctx context.Context, frame wire.ItemsFrame) {
	d.mu.Lock()
	s := d.streamLocked(frame.ConversationID)
	s.target = max(s.target, frame.Through)
	if frame.After > s.through {
		if len(s.early) < earlyFrames {
			s.early = append(s.early, frame)
		}
		d.mu.Unlock()
		d.fill(ctx, frame.ConversationID)
		return
	}
	d.mu.Unlock()
	d.deliverOn(frame.ConversationID, frame.Items, frame.Through)
}

// deliverOn delivers, and then what waited for it.
func (d *Device) deliverOn(id wire.ConversationID, items []wire.Item, through int64) {
	d.deliver(id, items, through)
	for {
		next, found := d.nextEarly(id)
		if !found {
			return
		}
		d.deliver(id, next.Items, next.Through)
	}
}

func (d *Device) nextEarly(id wire.ConversationID) (wire.ItemsFrame, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.streams[id]
	s.early = slices.DeleteFunc(s.early, func(f wire.ItemsFrame) bool { return f.Through <= s.through })
	for i, f := range s.early {
		if f.After <= s.through {
			s.early = slices.Delete(s.early, i, i+1)
			return f, true
		}
	}
	return wire.ItemsFrame{}, false
}

// deliver moves the cursor forward and gives what is new, in order; what does not fit in is not of this platform's. Only the goroutine that
// reads the socket calls it.
func (d *Device) deliver(id wire.ConversationID, items []wire.Item, through int64) {
	d.mu.Lock()
	s := d.streams[id]
	last := s.through
	fresh := slices.DeleteFunc(slices.Clone(items), func(item wire.Item) bool {
		if item.Seq <= last || item.Seq > through {
			return true
		}
		last = item.Seq
		return false
	})
	forward := through > s.through
	s.through = max(s.through, through)
	d.mu.Unlock()
	if forward && d.options.Deliver != nil {
		d.options.Deliver(id, fresh, through)
	}
}

// fillID begins the ids of the device's own questions.
const fillID = "fill "

// fillPause is before asking again for numbers that are still being stored.
const fillPause = 200 * time.Millisecond

// fill asks for what is between the cursor and the target, one page at a time. Its pages are taken like frames, by whoever reads the socket.
func (d *Device) fill(ctx context.Context, id wire.ConversationID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.streams[id]
	if s == nil || s.asking || d.socket == nil || s.through >= s.target {
		return
	}
	s.asking = true
	frame := wire.ClientFrame{Type: wire.FrameRange, ID: fillID + string(id), ConversationID: id, After: s.through, UpTo: s.target}
	if d.socket.Send(ctx, frame) != nil {
		s.asking = false // the socket has ended; the next one syncs
	}
}

// filled takes a page that was asked for, and asks on. One that nobody asked for is nothing.
func (d *Device) filled(ctx context.Context, id wire.ConversationID, content json.RawMessage) error {
	var frame wire.PageFrame
	if err := json.Unmarshal(content, &frame); err != nil {
		return fmt.Errorf("read page: %w", err)
	}
	d.mu.Lock()
	asked := d.streams[id] != nil && d.streams[id].asking
	d.mu.Unlock()
	if !asked {
		return nil
	}
	d.deliverOn(id, frame.Items, frame.Through)
	d.mu.Lock()
	s := d.streams[id]
	s.asking = false
	s.target = max(s.through, min(s.target, frame.Head)) // what is above the head is not for this user
	d.mu.Unlock()
	if frame.More {
		d.fill(ctx, id)
	} else {
		d.fillLater(ctx, id, fillPause, true)
	}
	return nil
}

// fillLater asks again after a while; without hope it only ceases to ask.
func (d *Device) fillLater(ctx context.Context, id wire.ConversationID, pause time.Duration, hope bool) {
	d.mu.Lock()
	s := d.streamLocked(id)
	s.asking = false
	if !hope {
		s.target = s.through
	}
	due := s.through < s.target
	d.mu.Unlock()
	if due {
		time.AfterFunc(pause, func() { d.fill(ctx, id) })
	}
}
