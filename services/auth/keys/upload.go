package keys

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
)

// algorithm is the only one of one-time and fallback keys: unsigned ones could be anybody's.
const algorithm = "signed_curve25519"

const (
	// maxOneTime bounds the unclaimed one-time keys of a device; clients keep half of that.
	maxOneTime = 100

	// maxOneTimeKey bounds one key in bytes.
	maxOneTimeKey = 1 << 10
)

var keyIDPattern = regexp.MustCompile(`^signed_curve25519:[A-Za-z0-9+/=_-]{1,64}$`)

// upload is the body of a keys/upload, taken apart. All of it is of one device.
type upload struct {
	device   *deviceKeys
	oneTime  []oneTimeKey
	fallback *oneTimeKey
}

// oneTimeKey is a one-time or fallback key (Matrix C-S specification, "One-time keys and fallback keys").
type oneTimeKey struct {
	signed
	id   string
	body string
}

// Upload publishes keys of the caller's device and tells how many one-time keys it has left (Matrix C-S specification,
// POST /keys/upload). The same keys again are fine. Other keys for the device, or other bytes under a one-time key's id
// that is known, used or not, are Conflict: the client has lost its store and must log in anew.
func (s *Service) Upload(ctx context.Context, caller wire.Session, body wire.KeysUpload) (wire.KeysUploaded, error) {
	u, err := parseUpload(body, caller)
	if err != nil {
		return wire.KeysUploaded{}, err
	}
	result, err := s.store.upload(ctx, caller, u, s.now())
	if err != nil {
		return wire.KeysUploaded{}, apperr.OrUnavailable("keys.Upload", err)
	}
	if result.changed {
		s.changed(ctx, caller.UserID)
	}
	return wire.KeysUploaded{OneTimeKeyCounts: wire.KeyCounts{algorithm: result.left}}, nil
}

func parseUpload(body wire.KeysUpload, caller wire.Session) (u upload, err error) {
	if given(body.DeviceKeys) {
		device, err := parseDeviceKeys(body.DeviceKeys, caller)
		if err != nil {
			return u, err
		}
		u.device = &device
	}
	if len(body.OneTimeKeys) > maxOneTime {
		return u, tooManyKeys()
	}
	u.oneTime, err = parseOneTimeKeys(body.OneTimeKeys, false)
	if err != nil {
		return u, err
	}
	fallback, err := parseOneTimeKeys(body.FallbackKeys, true)
	if err != nil {
		return u, err
	}
	if len(fallback) > 1 {
		return u, invalidKeys("keys.parseUpload", "A device has one fallback key of an algorithm.", nil)
	}
	if len(fallback) == 1 {
		u.fallback = &fallback[0]
	}
	return u, nil
}

// given reports whether an optional part of a body is there.
func given(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

func parseOneTimeKeys(raw map[string]json.RawMessage, fallback bool) ([]oneTimeKey, error) {
	var parsed []oneTimeKey
	for _, id := range slices.Sorted(maps.Keys(raw)) {
		key, err := parseOneTimeKey(id, raw[id], fallback)
		if err != nil {
			return nil, err
		}
		parsed = append(parsed, key)
	}
	return parsed, nil
}

func parseOneTimeKey(id string, raw json.RawMessage, fallback bool) (oneTimeKey, error) {
	const op = "keys.parseOneTimeKey"
	if !keyIDPattern.MatchString(id) || len(raw) > maxOneTimeKey {
		return oneTimeKey{}, invalidKeys(op, "One-time and fallback keys are small and called signed_curve25519:….", nil)
	}
	s, err := parseSigned(raw)
	if err != nil {
		return oneTimeKey{}, invalidKeys(op, "A one-time or fallback key is not a signed JSON object.", err)
	}
	if _, err := decodeKey(s.field("key")); err != nil {
		return oneTimeKey{}, invalidKeys(op, "A one-time or fallback key is no Curve25519 key.", err)
	}
	if marked, _ := s.fields["fallback"].(bool); marked != fallback {
		return oneTimeKey{}, invalidKeys(op, "Fallback keys say so, and no other key does.", nil)
	}
	body, err := s.text()
	if err != nil {
		return oneTimeKey{}, invalidKeys(op, "A one-time or fallback key cannot be written as canonical JSON.", err)
	}
	return oneTimeKey{signed: s, id: id, body: body}, nil
}

// signedBy fails unless the device signed every key of the upload.
func (u upload) signedBy(caller wire.Session, key ed25519.PublicKey) error {
	all := u.oneTime
	if u.fallback != nil {
		all = append(slices.Clip(all), *u.fallback)
	}
	for _, k := range all {
		if err := k.signedBy(caller.UserID.MatrixID(), string(caller.DeviceID), key); err != nil {
			return badSignature("keys.Upload", "A one-time or fallback key is not signed by the device.", fmt.Errorf("%s: %w", k.id, err))
		}
	}
	return nil
}

func (u upload) needsDevice() bool { return len(u.oneTime) > 0 || u.fallback != nil }

func tooManyKeys() error {
	return apperr.E("keys.Upload", apperr.Conflict, "A device keeps at most 100 unclaimed one-time keys here.", nil, apperr.Code("too_many_one_time_keys"))
}

func keyExists() error {
	return apperr.E("keys.Upload", apperr.Conflict,
		"Another one-time key was uploaded under that id. If the device lost its store, log in anew, without a device id.",
		nil, apperr.Code("one_time_key_exists"))
}

func noDeviceKeys() error {
	return apperr.E("keys.Upload", apperr.Conflict, "Upload the device's own keys first.", nil, apperr.Code("device_keys_missing"))
}
