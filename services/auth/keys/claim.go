package keys

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
)

// maxClaimed bounds the devices of one request: those of the largest group, twice each.
const maxClaimed = 2048

// claimed is a key handed out.
type claimed struct {
	place
	id   string
	body string
}

// Claim hands out one one-time key of each device asked for (Matrix C-S specification, POST /keys/claim). No key is
// handed out twice, whoever asks at the same time. A device that has none left gives its fallback key, and so does one
// that this caller has asked often: nobody empties another's stock. A device without either is absent.
func (s *Service) Claim(ctx context.Context, caller wire.Session, body wire.KeysClaim) (wire.KeysClaimed, error) {
	const op = "keys.Claim"
	asked, err := parseClaim(body)
	if err != nil {
		return wire.KeysClaimed{}, err
	}
	if err := s.throttle.claim(ctx, caller.UserID); err != nil {
		return wire.KeysClaimed{}, err
	}
	keys, err := s.store.claim(ctx, s.throttle.oneTime(ctx, caller.UserID, asked), asked, s.now())
	if err != nil {
		return wire.KeysClaimed{}, apperr.OrUnavailable(op, err)
	}
	return claimAnswer(keys), nil
}

// parseClaim passes over other algorithms and what cannot be a device of ours: there is no key of those. The devices
// are in order, so that requests for the same ones meet in the same order.
func parseClaim(body wire.KeysClaim) ([]place, error) {
	var asked []place
	for name, devices := range body.OneTimeKeys {
		user, err := wire.ParseMatrixID(name)
		if err != nil {
			continue
		}
		for id, wanted := range devices {
			device, err := wire.ParseDeviceID(id)
			if err == nil && wanted == algorithm {
				asked = append(asked, place{user, device})
			}
		}
		if len(asked) > maxClaimed {
			return nil, tooManyAsked("keys.Claim")
		}
	}
	sortPlaces(asked)
	return asked, nil
}

func sortPlaces(places []place) {
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.user, b.user), cmp.Compare(a.device, b.device))
	})
}

func claimAnswer(keys []claimed) wire.KeysClaimed {
	answer := wire.KeysClaimed{
		OneTimeKeys: map[string]map[string]map[string]json.RawMessage{}, Failures: map[string]json.RawMessage{},
	}
	for _, key := range keys {
		user := key.user.MatrixID()
		if answer.OneTimeKeys[user] == nil {
			answer.OneTimeKeys[user] = map[string]map[string]json.RawMessage{}
		}
		answer.OneTimeKeys[user][string(key.device)] = map[string]json.RawMessage{key.id: json.RawMessage(key.body)}
	}
	return answer
}
