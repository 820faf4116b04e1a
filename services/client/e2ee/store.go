package e2ee

import (
	"context"
	"errors"

	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"secureconnect/services/internal/wire"
)

// store is the library's, in memory, and takes no key that another device than its maker's passes on: nobody here asks for one. The library
// would believe such a device whose the key is as soon as it sends the same key as its own.
type store struct{ *crypto.MemoryStore }

var errForwarded = errors.New("a key that somebody passed on")

func (s store) PutGroupSession(ctx context.Context, session *crypto.InboundGroupSession) error {
	if session.KeySource == id.KeySourceForward {
		return errForwarded
	}
	return s.MemoryStore.PutGroupSession(ctx, session) //nolint:wrapcheck // the library's own
}

// unasked reports what the library would answer by itself, beside the one hand that may be on it, and what nobody here sends.
func unasked(e wire.DeviceEvent) bool { return e.Type == event.ToDeviceRoomKeyRequest.Type }
