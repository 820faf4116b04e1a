package chat

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
)

const (
	defaultPage = 100
	maxPage     = 500
	pageBytes   = 512 << 10 // of bodies; the one that passes it is still given
)

// view is what somebody may see of a conversation.
type view struct {
	head         int64
	role         string // now; "" for who has left
	passingSince *int64 // the first number that may have a life
	stays        []stay // in order
	now          time.Time
}

// stay is one membership: from the number of its beginning to that of its end, both included.
type stay struct {
	from    int64
	through *int64 // nil: it lasts
}

// last is the last number the viewer may see.
func (v view) last() int64 {
	if through := v.stays[len(v.stays)-1].through; through != nil {
		return *through
	}
	return v.head
}

// run is a piece of numbers without a gap.
type run struct{ from, through int64 }

// visible gives the first limit numbers in (after, upTo] that the viewer may see, and the number up to which that is all.
func (v view) visible(after, upTo int64, limit int) (runs []run, through int64) {
	left := int64(limit)
	for _, s := range v.stays {
		r := run{max(s.from, after+1), upTo}
		if s.through != nil {
			r.through = min(r.through, *s.through)
		}
		if r.from > r.through {
			continue
		}
		if r.through-r.from >= left {
			r.through = r.from + left - 1
			return append(runs, r), r.through
		}
		left -= r.through - r.from + 1
		runs = append(runs, r)
		if left == 0 {
			return runs, r.through
		}
	}
	return runs, upTo
}

// Range is a question for messages. UpTo 0 means up to the last, Limit 0 a page of the usual size.
type Range struct {
	After, UpTo int64
	Limit       int
}

// Messages reads what the caller may see: the numbers of the caller's memberships, their first and last included. It
// stops before a number that is still pending, so that a cursor never passes a message that is yet to be stored.
// NotFound: the caller was never in the conversation.
func (s *Service) Messages(ctx context.Context, caller wire.Session, id wire.ConversationID, asked Range) (wire.Page, error) {
	const op = "chat.Messages"
	if asked.After < 0 || asked.UpTo < 0 || asked.Limit < 0 {
		return wire.Page{}, apperr.E(op, apperr.Invalid, "Numbers and limits are not negative.", nil, apperr.Code("invalid_range"))
	}
	view, err := s.store.view(ctx, id, caller.UserID)
	if err != nil {
		return wire.Page{}, apperr.OrUnavailable(op, err)
	}
	if asked.Limit == 0 {
		asked.Limit = defaultPage
	}
	last := view.last()
	if asked.UpTo == 0 || asked.UpTo > last {
		asked.UpTo = last
	}
	page, err := s.page(ctx, id, view, asked.After, asked.UpTo, min(asked.Limit, maxPage))
	return page, apperr.OrUnavailable(op, err)
}

// page asks SQL before Cassandra: what it calls stored by then, a quorum has.
func (s *Service) page(ctx context.Context, id wire.ConversationID, v view, after, upTo int64, limit int) (wire.Page, error) {
	page := wire.Page{Items: []wire.Item{}, Through: after, Head: v.last()}
	upTo = min(upTo, page.Head)
	if after >= upTo {
		return page, nil
	}
	runs, through := v.visible(after, upTo, limit)
	exceptions, err := s.store.exceptions(ctx, id, after, through)
	if err != nil {
		return wire.Page{}, err
	}
	runs, through, held := stopAtPending(runs, through, exceptions)
	items, reached, err := s.items(ctx, id, v, runs, through, exceptions)
	if err != nil {
		return wire.Page{}, err
	}
	page.Items, page.Through = items, reached
	page.More = reached < upTo && (reached < through || !held)
	return page, nil
}

// stopAtPending cuts runs before the first number of theirs that is pending.
func stopAtPending(runs []run, through int64, exceptions map[int64]exception) (cut []run, reach int64, held bool) {
	for _, r := range runs {
		for seq := r.from; seq <= r.through; seq++ {
			if exceptions[seq].state != statePending {
				continue
			}
			if seq > r.from {
				cut = append(cut, run{r.from, seq - 1})
			}
			return cut, seq - 1, true
		}
		cut = append(cut, r)
	}
	return cut, through, false
}

// items reads runs, in order, until enough bytes are read, and tells up to where it got.
func (s *Service) items(ctx context.Context, id wire.ConversationID, v view, runs []run, through int64, exceptions map[int64]exception) (items []wire.Item, reached int64, err error) {
	items = []wire.Item{}
	var missing []int64
	left := pageBytes
	for _, r := range runs {
		passing := v.passingSince != nil && *v.passingSince <= r.through
		found, last, rest, err := s.messages.span(ctx, id, r.from, r.through, passing, left)
		if err != nil {
			return nil, 0, err
		}
		left = rest
		for seq := r.from; seq <= last; seq++ {
			item, given, err := itemOf(seq, found, exceptions, v.now)
			if err != nil {
				return nil, 0, err
			}
			if !given {
				continue
			}
			if item.Kind == wire.ItemExpired && item.At == nil {
				missing = append(missing, seq)
			}
			items = append(items, item)
		}
		if last < r.through || left <= 0 && last < through {
			through = last
			break
		}
	}
	return items, through, s.checkExpired(ctx, id, v, missing)
}

// itemOf is what a reader finds under a number: what SQL knows of it goes before what Cassandra holds. A stored message
// that is not there is taken for expired, to be checked.
func itemOf(seq int64, found map[int64]wire.Item, exceptions map[int64]exception, now time.Time) (item wire.Item, given bool, err error) {
	if e, exceptional := exceptions[seq]; exceptional {
		if e.event == nil {
			return wire.Item{}, false, nil // void
		}
		item, err = e.item()
		return item, err == nil, err
	}
	item, there := found[seq]
	switch {
	case !there:
		return wire.Item{Seq: seq, Kind: wire.ItemExpired}, true, nil
	case item.ExpiresAt != nil && !item.ExpiresAt.After(now):
		return wire.Item{Seq: seq, Kind: wire.ItemExpired, At: item.At}, true, nil
	default:
		return item, true, nil
	}
}

func (e exception) item() (wire.Item, error) {
	at := e.at.UTC()
	item := wire.Item{Seq: e.seq, Kind: wire.ItemEvent, At: &at, Sender: e.sender, Event: new(wire.Event)}
	if err := json.Unmarshal([]byte(*e.event), item.Event); err != nil {
		return wire.Item{}, fmt.Errorf("read event %d: %w", e.seq, err)
	}
	return item, nil
}

// checkExpired fails where a stored message is not there though its life has not passed: better no answer than one with
// a hole that nobody sees.
func (s *Service) checkExpired(ctx context.Context, id wire.ConversationID, v view, missing []int64) error {
	if len(missing) == 0 {
		return nil
	}
	ended, err := s.store.ended(ctx, id, missing)
	if err != nil {
		return err
	}
	lost := slices.IndexFunc(missing, func(seq int64) bool {
		over, remembered := ended[seq]
		return remembered && !over || v.passingSince == nil || seq < *v.passingSince
	})
	if lost >= 0 {
		return apperr.E("chat.page", apperr.Unavailable, "A stored message cannot be read right now.",
			fmt.Errorf("conversation %s: message %d is stored and not there", id, missing[lost]), apperr.Code("message_unreadable"), apperr.RetryAfter(5*time.Second))
	}
	return nil
}
