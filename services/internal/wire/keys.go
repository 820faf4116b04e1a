package wire

import (
	"encoding/json"
	"strings"
)

// ServerName is the constant host of identifiers inside encrypted messages and signed keys. It is never the public
// domain: what was signed under one name must stay good when the domain changes.
const ServerName = "secureconnect"

// MatrixID is the user as signed keys and encrypted messages name them (Matrix specification, Appendices, "User
// Identifiers").
func (id UserID) MatrixID() string { return "@" + string(id) + ":" + ServerName }

// ParseMatrixID is the inverse of UserID.MatrixID.
func ParseMatrixID(text string) (UserID, error) {
	local, found := strings.CutPrefix(text, "@")
	local, ours := strings.CutSuffix(local, ":"+ServerName)
	if !found || !ours {
		return "", errID
	}
	return ParseUserID(local)
}

// What follows has the shapes of the Matrix client-server specification, "End-to-end encryption" and "Send-to-device
// messaging"; only the paths are ours. Signed objects stay raw: a field that is lost breaks their signatures.

// KeysUpload is the body of POST /v1/keys/upload.
type KeysUpload struct {
	DeviceKeys   json.RawMessage            `json:"device_keys,omitempty"`
	OneTimeKeys  map[string]json.RawMessage `json:"one_time_keys,omitempty"`
	FallbackKeys map[string]json.RawMessage `json:"fallback_keys,omitempty"`
}

// KeyCounts counts one-time keys by algorithm.
type KeyCounts map[string]int

// KeysUploaded answers POST /v1/keys/upload. A client takes a missing count for 0, so it is never missing.
type KeysUploaded struct {
	OneTimeKeyCounts KeyCounts `json:"one_time_key_counts"`
}

// KeysQuery is the body of POST /v1/keys/query: device ids by user id, none meaning all.
type KeysQuery struct {
	DeviceKeys map[string][]string `json:"device_keys"`
}

// KeysFound answers POST /v1/keys/query. Users and devices that do not exist are absent.
type KeysFound struct {
	DeviceKeys      map[string]map[string]json.RawMessage `json:"device_keys"`
	MasterKeys      map[string]json.RawMessage            `json:"master_keys"`
	SelfSigningKeys map[string]json.RawMessage            `json:"self_signing_keys"`
	UserSigningKeys map[string]json.RawMessage            `json:"user_signing_keys"`
	Failures        map[string]json.RawMessage            `json:"failures"`
}

// KeysClaim is the body of POST /v1/keys/claim: an algorithm by user and device id.
type KeysClaim struct {
	OneTimeKeys map[string]map[string]string `json:"one_time_keys"`
}

// KeysClaimed answers POST /v1/keys/claim: one key by its id, by user and device id. Failures names other servers, of
// which there are none.
type KeysClaimed struct {
	OneTimeKeys map[string]map[string]map[string]json.RawMessage `json:"one_time_keys"`
	Failures    map[string]json.RawMessage                       `json:"failures"`
}

// IdentityUpload is the body of POST /v1/keys/device_signing/upload.
type IdentityUpload struct {
	MasterKey      json.RawMessage `json:"master_key,omitempty"`
	SelfSigningKey json.RawMessage `json:"self_signing_key,omitempty"`
	UserSigningKey json.RawMessage `json:"user_signing_key,omitempty"`
	Auth           *PasswordAuth   `json:"auth,omitempty"`
}

// PasswordAuth shows the password once more, for what a stolen access token must not do. Type is AuthPassword.
type PasswordAuth struct {
	Type     string `json:"type"`
	Password string `json:"password"`
}

// AuthPassword is the only stage of user-interactive authentication.
const AuthPassword = "m.login.password"

// SignaturesUpload is the body of POST /v1/keys/signatures/upload: signed objects by user id, and by device id or
// public key.
type SignaturesUpload map[string]map[string]json.RawMessage

// SignaturesUploaded answers POST /v1/keys/signatures/upload with what was refused.
type SignaturesUploaded struct {
	Failures map[string]map[string]SignatureFailure `json:"failures"`
}

// SignatureFailure says why a signature was not taken.
type SignatureFailure struct {
	Code string `json:"errcode"`
	Text string `json:"error"`
}

// ToDevice is the body of PUT /v1/keys/sendToDevice/{type}/{txn}: contents by user id and by device id or "*".
type ToDevice struct {
	Messages map[string]map[string]json.RawMessage `json:"messages"`
}

// ToDeviceSent answers PUT /v1/keys/sendToDevice/{type}/{txn}. Full are the device ids, by user id, whose queues took
// nothing more.
type ToDeviceSent struct {
	Full map[string][]string `json:"full,omitempty"`
}

// KeysSync answers GET /v1/keys/sync.
type KeysSync struct {
	NextBatch                string      `json:"next_batch"`
	ToDevice                 DeviceInbox `json:"to_device"`
	DeviceLists              DeviceLists `json:"device_lists"`
	DeviceOneTimeKeysCount   KeyCounts   `json:"device_one_time_keys_count"`
	DeviceUnusedFallbackKeys []string    `json:"device_unused_fallback_key_types"`
}

// DeviceInbox is the next part of a device's queue, in order.
type DeviceInbox struct {
	Events []DeviceEvent `json:"events"`
}

// DeviceEvent is one event of a device's queue. Sender is the server's word.
type DeviceEvent struct {
	Sender  string          `json:"sender"`
	Type    string          `json:"type"`
	Content json.RawMessage `json:"content"`
}

// DeviceLists are the users whose keys are to be asked for again, and those that no longer exist.
type DeviceLists struct {
	Changed []string `json:"changed"`
	Left    []string `json:"left"`
}

// BackupVersion is the body of POST /v1/keys/backup/version.
type BackupVersion struct {
	Algorithm string          `json:"algorithm"`
	AuthData  json.RawMessage `json:"auth_data"`
}

// BackupVersionMade answers POST /v1/keys/backup/version.
type BackupVersionMade struct {
	Version string `json:"version"`
}

// BackupState answers GET /v1/keys/backup/version. The ETag changes whenever a key does.
type BackupState struct {
	Version   string          `json:"version"`
	Algorithm string          `json:"algorithm"`
	AuthData  json.RawMessage `json:"auth_data"`
	Count     int             `json:"count"`
	ETag      string          `json:"etag"`
}

// BackupKeys is the body of PUT /v1/keys/backup/keys and the answer to GET: room keys by room id.
type BackupKeys struct {
	Rooms map[string]BackupRoom `json:"rooms"`
}

// BackupRoom is the keys of one room by session id.
type BackupRoom struct {
	Sessions map[string]BackupKey `json:"sessions"`
}

// BackupKey is one room key, encrypted by its owner; the rest says which of two is better.
type BackupKey struct {
	FirstMessageIndex int64           `json:"first_message_index"`
	ForwardedCount    int64           `json:"forwarded_count"`
	IsVerified        bool            `json:"is_verified"`
	SessionData       json.RawMessage `json:"session_data"`
}

// BackupStored answers PUT /v1/keys/backup/keys.
type BackupStored struct {
	Count int    `json:"count"`
	ETag  string `json:"etag"`
}
