package keys

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
)

// maxQueried bounds the users of one request: the members of the largest group.
const maxQueried = 1024

// query is who is asked for: nil device ids mean all.
type query map[wire.UserID][]string

// Query gives the public keys of devices and identities (Matrix C-S specification, POST /keys/query). A user-signing
// key is its owner's only, and so are the signatures made with it. Who is asked for is tracked: later changes are in
// the caller's syncs.
func (s *Service) Query(ctx context.Context, caller wire.Session, body wire.KeysQuery) (wire.KeysFound, error) {
	const op = "keys.Query"
	q, err := parseQuery(body)
	if err != nil {
		return wire.KeysFound{}, err
	}
	// First: a change between the two is then both in the answer and in a sync, and never in neither.
	if err := s.store.track(ctx, caller.UserID, q.users()); err != nil {
		return wire.KeysFound{}, apperr.OrUnavailable(op, err)
	}
	found, err := s.store.directory(ctx, caller.UserID, q.users())
	if err != nil {
		return wire.KeysFound{}, apperr.OrUnavailable(op, err)
	}
	answer, err := found.answer(caller.UserID, q)
	return answer, apperr.OrUnavailable(op, err)
}

// parseQuery passes over what cannot be a user of ours, as the specification has it for unknown ones.
func parseQuery(body wire.KeysQuery) (query, error) {
	if len(body.DeviceKeys) > maxQueried {
		return nil, tooManyAsked("keys.Query")
	}
	q := query{}
	for name, devices := range body.DeviceKeys {
		if user, err := wire.ParseMatrixID(name); err == nil {
			q[user] = devices
		}
	}
	return q, nil
}

// users are in order, so that requests for the same ones meet in the same order.
func (q query) users() []wire.UserID {
	users := make([]wire.UserID, 0, len(q))
	for user := range q {
		users = append(users, user)
	}
	slices.Sort(users)
	return users
}

func (q query) wants(p place) bool {
	devices, asked := q[p.user]
	return asked && (len(devices) == 0 || slices.Contains(devices, string(p.device)))
}

// directory is what is stored about some users. Signatures made by one user about another are there for the signer only.
type directory struct {
	devices    map[place]signed
	identities map[wire.UserID]identity
	signatures []signature
}

// signature is one that was added after its target was uploaded.
type signature struct {
	user   wire.UserID // whose target
	target string      // see deviceTarget and keyTarget
	signer wire.UserID
	key    string // the signer's, with its algorithm
	text   string
}

// A device may be called like somebody's public key; their names here differ all the same.
func deviceTarget(id wire.DeviceID) string { return "device:" + string(id) }
func keyTarget(publicKey string) string    { return "key:" + publicKey }

func (d directory) answer(caller wire.UserID, q query) (wire.KeysFound, error) {
	d.addSignatures()
	found := wire.KeysFound{
		DeviceKeys: map[string]map[string]json.RawMessage{},
		MasterKeys: map[string]json.RawMessage{}, SelfSigningKeys: map[string]json.RawMessage{}, UserSigningKeys: map[string]json.RawMessage{},
		Failures: map[string]json.RawMessage{},
	}
	for p, keys := range d.devices {
		if !q.wants(p) {
			continue
		}
		body, err := keys.text()
		if err != nil {
			return found, fmt.Errorf("write device keys: %w", err)
		}
		user := p.user.MatrixID()
		if found.DeviceKeys[user] == nil {
			found.DeviceKeys[user] = map[string]json.RawMessage{}
		}
		found.DeviceKeys[user][string(p.device)] = json.RawMessage(body)
	}
	return found, d.identityAnswer(caller, found)
}

func (d directory) identityAnswer(caller wire.UserID, found wire.KeysFound) error {
	byUsage := map[string]map[string]json.RawMessage{
		usageMaster: found.MasterKeys, usageSelfSigning: found.SelfSigningKeys, usageUserSigning: found.UserSigningKeys,
	}
	for user, keys := range d.identities {
		for usage, key := range keys {
			if usage == usageUserSigning && user != caller {
				continue
			}
			body, err := key.text()
			if err != nil {
				return fmt.Errorf("write identity key: %w", err)
			}
			byUsage[usage][user.MatrixID()] = json.RawMessage(body)
		}
	}
	return nil
}

// addSignatures puts each signature on the object it is of.
func (d directory) addSignatures() {
	targets := map[wire.UserID]map[string]signed{}
	put := func(user wire.UserID, target string, object signed) {
		if targets[user] == nil {
			targets[user] = map[string]signed{}
		}
		targets[user][target] = object
	}
	for p, keys := range d.devices {
		put(p.user, deviceTarget(p.device), keys)
	}
	for user, keys := range d.identities {
		for _, key := range keys {
			put(user, keyTarget(key.public), key.signed)
		}
	}
	for _, s := range d.signatures {
		if object, known := targets[s.user][s.target]; known {
			object.merge(s.signer.MatrixID(), s.key, s.text)
		}
	}
}

func tooManyAsked(op string) error {
	return apperr.E(op, apperr.Invalid, "The request names too many users or devices. Ask in parts.", nil, apperr.Code("too_many_asked"))
}

func tooManyTracked() error {
	return apperr.E("keys.Query", apperr.Conflict, "You have asked for the keys of too many users.", nil, apperr.Code("too_many_tracked"))
}
