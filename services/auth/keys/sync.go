package keys

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
)

const (
	// A page ends at the first of these; the next sync goes on from there.
	pageEvents  = 100
	pageBytes   = 1 << 20
	pageChanges = 500

	// maxWait is less than the 30 s that the gateway and the load balancer give a request.
	maxWait = 25 * time.Second

	// pollEvery is how often a waiting sync looks by itself: hints may get lost, and without Redis there are none.
	pollEvery = 5 * time.Second
)

// position is where a device is in its queue and in the changes of keys. Its text is opaque to clients.
type position struct {
	incarnation string // of the device
	inbox       int64
	changes     int64
}

var positionPattern = regexp.MustCompile(`^([A-Z2-7]{26})\.(0|[1-9][0-9]{0,18})\.(0|[1-9][0-9]{0,18})$`)

func (p position) String() string { return fmt.Sprintf("%s.%d.%d", p.incarnation, p.inbox, p.changes) }

// parsePosition gives the start for no text.
func parsePosition(text string) (position, error) {
	if text == "" {
		return position{}, nil
	}
	parts := positionPattern.FindStringSubmatch(text)
	if parts == nil {
		return position{}, badPosition(nil)
	}
	inbox, inboxErr := strconv.ParseInt(parts[2], 10, 64)
	changes, changesErr := strconv.ParseInt(parts[3], 10, 64)
	if inboxErr != nil || changesErr != nil {
		return position{}, badPosition(nil)
	}
	return position{incarnation: parts[1], inbox: inbox, changes: changes}, nil
}

// check refuses a position that this device, as it is now, cannot have been given.
func (p position) check(d device, changeHead int64) error {
	if p.incarnation != d.incarnation || p.inbox > d.inboxHead || p.changes > changeHead {
		return badPosition(nil)
	}
	return nil
}

func badPosition(cause error) error {
	return apperr.E("keys.Sync", apperr.Invalid, "The position is not one this device was given. Sync without one.", cause, apperr.Code("invalid_since"))
}

// Sync gives what is new for the caller's device since a position it was given (Matrix C-S specification, the parts of
// GET /sync for "Send-to-device messaging" and "End-to-end encryption"). Events are given again until a later position
// than theirs comes back, and are gone then. Where there is nothing new it waits for it. A position of the future or of
// another device is Invalid.
func (s *Service) Sync(ctx context.Context, caller wire.Session, since string, wait time.Duration) (wire.KeysSync, error) {
	const op = "keys.Sync"
	from, err := parsePosition(since)
	if err != nil {
		return wire.KeysSync{}, err
	}
	if since != "" {
		if err := s.store.acknowledge(ctx, caller, from); err != nil {
			return wire.KeysSync{}, apperr.OrUnavailable(op, err)
		}
	}
	watch := s.hints.watch(caller.UserID, min(wait, maxWait))
	defer watch.stop()
	for {
		page, err := s.store.page(ctx, caller, from)
		if err != nil {
			return wire.KeysSync{}, apperr.OrUnavailable(op, err)
		}
		if !empty(page) || !watch.next(ctx, s.pollEvery) {
			return page, nil
		}
	}
}

func empty(page wire.KeysSync) bool {
	return len(page.ToDevice.Events) == 0 && len(page.DeviceLists.Changed) == 0 && len(page.DeviceLists.Left) == 0
}
