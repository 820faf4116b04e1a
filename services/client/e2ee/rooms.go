package e2ee

import (
	"context"
	"maps"
	"sync"

	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"secureconnect/services/internal/wire"
)

// A Megolm session ends after so many messages, or so much time; and whenever the members, or one's devices, change.
const (
	sessionMessages     = 100
	sessionMilliseconds = 7 * 24 * 60 * 60 * 1000
)

// rooms knows who was in each conversation when this device last wrote there. All are encrypted, and nobody is given what was before.
type rooms struct {
	mu      sync.Mutex
	members map[id.RoomID]map[id.UserID]bool
}

func newRooms() *rooms { return &rooms{members: map[id.RoomID]map[id.UserID]bool{}} }

// change sets the members of a room and reports whether they were others.
func (r *rooms) change(room id.RoomID, members []wire.UserID) bool {
	now := make(map[id.UserID]bool, len(members))
	for _, member := range members {
		now[matrixUser(member)] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.members[room]
	r.members[room] = now
	return !maps.Equal(before, now)
}

func (r *rooms) FindSharedRooms(_ context.Context, user id.UserID) ([]id.RoomID, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var shared []id.RoomID
	for room, members := range r.members {
		if members[user] {
			shared = append(shared, room)
		}
	}
	return shared, nil
}

func (*rooms) IsEncrypted(context.Context, id.RoomID) (bool, error) { return true, nil }

func (*rooms) GetEncryptionEvent(context.Context, id.RoomID) (*event.EncryptionEventContent, error) {
	return &event.EncryptionEventContent{
		Algorithm: id.AlgorithmMegolmV1, RotationPeriodMillis: sessionMilliseconds, RotationPeriodMessages: sessionMessages,
	}, nil
}

func (*rooms) GetHistoryVisibility(context.Context, id.RoomID) (*event.HistoryVisibilityEventContent, error) {
	return &event.HistoryVisibilityEventContent{HistoryVisibility: event.HistoryVisibilityJoined}, nil
}
