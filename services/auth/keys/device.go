package keys

import (
	"crypto/ed25519"
	"encoding/json"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
)

// maxDevices bounds the devices of one user that may be in the directory.
const maxDevices = 100

// deviceKeys are a device's identity (Matrix C-S specification, "Device keys").
type deviceKeys struct {
	signed
	key  ed25519.PublicKey
	body string
}

// parseDeviceKeys takes the caller's own device only, signed by itself.
func parseDeviceKeys(raw json.RawMessage, caller wire.Session) (deviceKeys, error) {
	const op = "keys.parseDeviceKeys"
	s, err := parseSigned(raw)
	if err != nil {
		return deviceKeys{}, invalidKeys(op, "The device keys are not a signed JSON object.", err)
	}
	device := string(caller.DeviceID)
	if s.field("user_id") != caller.UserID.MatrixID() || s.field("device_id") != device {
		return deviceKeys{}, apperr.E(op, apperr.Forbidden, "A device uploads its own keys only.", nil, apperr.Code("not_your_device"))
	}
	if !texts(s.fields["algorithms"]) {
		return deviceKeys{}, invalidKeys(op, "The device keys name no algorithms.", nil)
	}
	if _, err := s.namedKey(curve25519Prefix, device); err != nil {
		return deviceKeys{}, invalidKeys(op, "The device has no good Curve25519 key.", err)
	}
	key, err := s.namedKey(ed25519Prefix, device)
	if err != nil {
		return deviceKeys{}, invalidKeys(op, "The device has no good Ed25519 key.", err)
	}
	if err := s.signedBy(caller.UserID.MatrixID(), device, key); err != nil {
		return deviceKeys{}, badSignature(op, "The device keys are not signed by the device.", err)
	}
	body, err := s.text()
	if err != nil {
		return deviceKeys{}, invalidKeys(op, "The device keys cannot be written as canonical JSON.", err)
	}
	return deviceKeys{signed: s, key: key, body: body}, nil
}

// texts reports whether value is an array of strings, and not empty.
func texts(value any) bool {
	values, isArray := value.([]any)
	for _, v := range values {
		if _, isText := v.(string); !isText {
			return false
		}
	}
	return isArray && len(values) > 0
}

// signingKey is the Ed25519 key of stored device keys.
func signingKey(stored signed, device wire.DeviceID) (ed25519.PublicKey, error) {
	return stored.namedKey(ed25519Prefix, string(device))
}

// A client pins what it first saw of a device; whoever lost the keys is another device.
func immutable() error {
	return apperr.E("keys.putDeviceKeys", apperr.Conflict,
		"This device has other keys already, and a device's keys never change. Log in anew, without a device id.",
		nil, apperr.Code("device_keys_immutable"))
}
