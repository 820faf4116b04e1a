package keys

import (
	"context"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"time"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
)

const (
	// maxContent bounds one event's content in bytes, as Matrix does for any event.
	maxContent = 64 << 10

	// maxQueued bounds a device's queue in events. When it is full it takes nothing more until the device has read: what
	// was taken is kept, and the sender is told which devices took nothing.
	maxQueued = 10_000

	// queuedFor is how long an event waits for its device.
	queuedFor = 30 * 24 * time.Hour

	everyDevice = "*"
)

var (
	typePattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,255}$`)
	txnPattern  = regexp.MustCompile(`^[A-Za-z0-9._~:-]{1,255}$`)
)

// delivery is one request to queue events of one type.
type delivery struct {
	txn      string
	kind     string
	contents map[place]string
	every    map[wire.UserID]string // for all devices of a user but those in contents
}

// SendToDevice queues an event for each device named, or for all of a user's ("*"), in the order in which requests are
// answered (Matrix C-S specification, PUT /sendToDevice/{eventType}/{txnId}). The same transaction id from the same
// device is one request. The sender is the caller, whatever the content says. Users and devices that do not exist are
// passed over.
func (s *Service) SendToDevice(ctx context.Context, caller wire.Session, kind, txn string, body wire.ToDevice) (wire.ToDeviceSent, error) {
	d, err := parseDelivery(kind, txn, body)
	if err != nil {
		return wire.ToDeviceSent{}, err
	}
	if err := s.throttle.send(ctx, caller.UserID); err != nil {
		return wire.ToDeviceSent{}, err
	}
	result, err := s.store.deliver(ctx, caller, d, s.now())
	if err != nil {
		return wire.ToDeviceSent{}, apperr.OrUnavailable("keys.SendToDevice", err)
	}
	s.wake(ctx, usersOf(result.queued))
	return sentAnswer(result.full), nil
}

func parseDelivery(kind, txn string, body wire.ToDevice) (delivery, error) {
	const op = "keys.SendToDevice"
	d := delivery{txn: txn, kind: kind, contents: map[place]string{}, every: map[wire.UserID]string{}}
	if !typePattern.MatchString(kind) || !txnPattern.MatchString(txn) {
		return d, apperr.E(op, apperr.Invalid, "The event's type or the transaction id is not valid.", nil, apperr.Code("invalid_event"))
	}
	for name, devices := range body.Messages {
		user, err := wire.ParseMatrixID(name)
		if err != nil {
			continue
		}
		for id, raw := range devices {
			content, err := parseContent(raw)
			if err != nil {
				return d, apperr.E(op, apperr.Invalid, "A content is no JSON object of up to 64 KiB, or holds what canonical JSON does not.", err, apperr.Code("invalid_event"))
			}
			device, err := wire.ParseDeviceID(id)
			switch {
			case id == everyDevice:
				d.every[user] = content
			case err == nil:
				d.contents[place{user, device}] = content
			}
		}
	}
	return d, nil
}

func parseContent(raw json.RawMessage) (string, error) {
	content, err := decode(raw, maxContent)
	if err != nil {
		return "", err
	}
	return canonical(content)
}

// addressed are the devices named, and all that are there of users named as a whole.
func (d delivery) addressed(there []place) []place {
	var places []place
	for _, p := range there {
		if _, named := d.contents[p]; named {
			places = append(places, p)
		} else if _, all := d.every[p.user]; all {
			places = append(places, p)
		}
	}
	sortPlaces(places)
	return places
}

func (d delivery) users() []wire.UserID {
	users := slices.Collect(maps.Keys(d.every))
	for p := range d.contents {
		users = append(users, p.user)
	}
	slices.Sort(users)
	return slices.Compact(users)
}

func (d delivery) contentFor(p place) string {
	if content, named := d.contents[p]; named {
		return content
	}
	return d.every[p.user]
}

func usersOf(places []place) []wire.UserID {
	var users []wire.UserID
	for _, p := range places {
		users = append(users, p.user)
	}
	slices.Sort(users)
	return slices.Compact(users)
}

func sentAnswer(full []place) (answer wire.ToDeviceSent) {
	for _, p := range full {
		if answer.Full == nil {
			answer.Full = map[string][]string{}
		}
		user := p.user.MatrixID()
		answer.Full[user] = append(answer.Full[user], string(p.device))
	}
	return answer
}
