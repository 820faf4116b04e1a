package video

import (
	"context"
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
)

const (
	historyPage    = 50
	maxHistoryPage = 100

	// missedAtOnce is how far back missed calls are counted.
	missedAtOnce = 100
	missedTime   = 30 * 24 * time.Hour

	logAtOnce = 50
)

// recordsOf are what a call that is over becomes in its members' logs. Whom it did not ring for has none.
func recordsOf(c stored) map[wire.UserID]wire.CallRecord {
	records := map[wire.UserID]wire.CallRecord{}
	for _, member := range c.Members {
		outcome, known := outcomeOf(c, member)
		if !known {
			continue
		}
		r := wire.CallRecord{
			CallID: c.ID, ConversationID: c.ConversationID, Media: c.Media, StartedBy: c.StartedBy,
			StartedAt: c.StartedAt, EndedAt: *c.EndedAt, Outcome: outcome, Reason: c.Reason,
		}
		if c.AnsweredAt != nil && outcome == wire.OutcomeAnswered {
			r.Seconds = int(c.EndedAt.Sub(*c.AnsweredAt).Round(time.Second).Seconds())
		}
		records[member.UserID] = r
	}
	return records
}

func outcomeOf(c stored, member wire.CallMember) (outcome string, known bool) {
	switch {
	case member.State == wire.MemberIdle:
		return "", false
	case member.UserID == c.StartedBy && c.AnsweredAt == nil:
		return wire.OutcomeUnanswered, true
	case member.State == wire.MemberLeft, member.State == wire.MemberJoined:
		return wire.OutcomeAnswered, true
	case member.State == wire.MemberDeclined:
		return wire.OutcomeDeclined, true
	default:
		return wire.OutcomeMissed, true
	}
}

// logSoon asks for a turn of logging now.
func (s *Service) logSoon() {
	select {
	case s.unlogged <- struct{}{}:
	default: // one is due already
	}
}

// logEnded writes the log of calls that are over. A call is noted as logged after its records are durable: whoever dies between writes
// them again, or another host does.
func (s *Service) logEnded(ctx context.Context) error {
	ids, err := s.store.callsWhere(ctx, "are to be logged", sqlUnlogged, logAtOnce)
	if err != nil {
		return err
	}
	if err := s.logAll(ctx, ids); err != nil {
		return err
	}
	if len(ids) == logAtOnce {
		s.logSoon()
	}
	return nil
}

// logOf writes the log of a user's calls, so that who was just told that one is over finds it there.
func (s *Service) logOf(ctx context.Context, user wire.UserID) error {
	ids, err := s.store.callsWhere(ctx, "are to be logged for a user", sqlUnloggedOf, user, logAtOnce)
	if err != nil {
		return err
	}
	return s.logAll(ctx, ids)
}

func (s *Service) logAll(ctx context.Context, ids []wire.CallID) error {
	for _, id := range ids {
		call, err := s.store.call(ctx, id)
		if err != nil {
			return err
		}
		for user, record := range recordsOf(call) {
			if err := s.records.put(ctx, user, record); err != nil {
				return err
			}
		}
		if err := s.store.setLogged(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// History is a page of the caller's call log, the newest first. Before is what a page before it gave as next.
func (s *Service) History(ctx context.Context, caller wire.Session, before string, limit int) (wire.CallHistory, error) {
	const op = "video.History"
	at, call, err := readMark(before, s.now())
	if err != nil {
		return wire.CallHistory{}, apperr.E(op, apperr.Invalid, "This is not where a page ended.", err, apperr.Code("invalid_before"))
	}
	if limit <= 0 {
		limit = historyPage
	}
	limit = min(limit, maxHistoryPage)
	if err := s.logOf(ctx, caller.UserID); err != nil {
		return wire.CallHistory{}, apperr.OrUnavailable(op, err)
	}
	found, err := s.records.before(ctx, caller.UserID, at, call, limit)
	if err != nil {
		return wire.CallHistory{}, apperr.OrUnavailable(op, err)
	}
	page := wire.CallHistory{Calls: found}
	if len(found) == limit {
		page.Next = markOf(found[limit-1])
	}
	if page.SeenAt, err = s.store.seen(ctx, caller.UserID); err != nil {
		return wire.CallHistory{}, apperr.OrUnavailable(op, err)
	}
	page.Missed, err = s.missed(ctx, caller.UserID, page.SeenAt)
	return page, apperr.OrUnavailable(op, err)
}

func (s *Service) missed(ctx context.Context, user wire.UserID, seen *time.Time) (n int, err error) {
	since := s.now().Add(-missedTime)
	if seen != nil && seen.After(since) {
		since = *seen
	}
	latest, err := s.records.before(ctx, user, s.now().Add(time.Minute), lastCall, missedAtOnce)
	for _, record := range latest {
		if record.Outcome == wire.OutcomeMissed && record.StartedAt.After(since) {
			n++
		}
	}
	return n, err
}

// lastCall is after every call of the same moment.
const lastCall wire.CallID = "ffffffff-ffff-ffff-ffff-ffffffffffff"

// markOf names a record's place in the log.
func markOf(r wire.CallRecord) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(r.StartedAt.UnixMilli(), 10) + " " + string(r.CallID)))
}

// readMark reads what markOf made; "" is the beginning.
func readMark(mark string, now time.Time) (at time.Time, call wire.CallID, err error) {
	if mark == "" {
		return now.Add(time.Minute), lastCall, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(mark)
	if err != nil {
		return time.Time{}, "", err
	}
	stamp, id, _ := strings.Cut(string(text), " ")
	milliseconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || milliseconds < 0 || milliseconds > now.Add(time.Hour).UnixMilli() {
		return time.Time{}, "", errMark
	}
	call, err = wire.ParseCallID(id)
	return time.UnixMilli(milliseconds), call, err
}
