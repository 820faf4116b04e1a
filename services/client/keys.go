package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"secureconnect/services/internal/wire"
)

// The key directory's bodies have Matrix's shapes; a Matrix library makes and reads them.
type (
	KeysUpload         = wire.KeysUpload
	KeysUploaded       = wire.KeysUploaded
	KeysQuery          = wire.KeysQuery
	KeysFound          = wire.KeysFound
	KeysClaim          = wire.KeysClaim
	KeysClaimed        = wire.KeysClaimed
	IdentityUpload     = wire.IdentityUpload
	PasswordAuth       = wire.PasswordAuth
	SignaturesUpload   = wire.SignaturesUpload
	SignaturesUploaded = wire.SignaturesUploaded
	ToDevice           = wire.ToDevice
	ToDeviceSent       = wire.ToDeviceSent
	KeysSync           = wire.KeysSync
	BackupVersion      = wire.BackupVersion
	BackupState        = wire.BackupState
	BackupKeys         = wire.BackupKeys
	BackupRoom         = wire.BackupRoom
	BackupKey          = wire.BackupKey
	BackupStored       = wire.BackupStored
)

// UploadKeys publishes keys of the session's device.
func (c *Client) UploadKeys(ctx context.Context, accessToken string, keys KeysUpload) (KeysUploaded, Answer, error) {
	var uploaded KeysUploaded
	answer, err := c.call(ctx, http.MethodPost, "/v1/keys/upload", accessToken, keys, &uploaded)
	return uploaded, answer, err
}

// QueryKeys gives the public keys of users, and tracks them.
func (c *Client) QueryKeys(ctx context.Context, accessToken string, asked KeysQuery) (KeysFound, Answer, error) {
	var found KeysFound
	answer, err := c.call(ctx, http.MethodPost, "/v1/keys/query", accessToken, asked, &found)
	return found, answer, err
}

// ClaimKeys takes a one-time key of each device.
func (c *Client) ClaimKeys(ctx context.Context, accessToken string, asked KeysClaim) (KeysClaimed, Answer, error) {
	var claimed KeysClaimed
	answer, err := c.call(ctx, http.MethodPost, "/v1/keys/claim", accessToken, asked, &claimed)
	return claimed, answer, err
}

// PublishIdentity publishes cross-signing keys; to replace some needs the password in identity.Auth.
func (c *Client) PublishIdentity(ctx context.Context, accessToken string, identity IdentityUpload) (Answer, error) {
	return c.call(ctx, http.MethodPost, "/v1/keys/device_signing/upload", accessToken, identity, nil)
}

// PublishSignatures adds signatures to devices and master keys, and gives those that were refused.
func (c *Client) PublishSignatures(ctx context.Context, accessToken string, signatures SignaturesUpload) (SignaturesUploaded, Answer, error) {
	var uploaded SignaturesUploaded
	answer, err := c.call(ctx, http.MethodPost, "/v1/keys/signatures/upload", accessToken, signatures, &uploaded)
	return uploaded, answer, err
}

// SendToDevice queues events of one type. The same transaction id is one request.
func (c *Client) SendToDevice(ctx context.Context, accessToken, eventType, transaction string, events ToDevice) (ToDeviceSent, Answer, error) {
	var sent ToDeviceSent
	path := "/v1/keys/sendToDevice/" + url.PathEscape(eventType) + "/" + url.PathEscape(transaction)
	answer, err := c.call(ctx, http.MethodPut, path, accessToken, events, &sent)
	return sent, answer, err
}

// SyncKeys gives what is new for the session's device since a position, waiting for it up to wait. The client's own
// time limit must be longer than that.
func (c *Client) SyncKeys(ctx context.Context, accessToken, since string, wait time.Duration) (KeysSync, Answer, error) {
	query := url.Values{"timeout": {strconv.FormatInt(wait.Milliseconds(), 10)}}
	if since != "" {
		query.Set("since", since)
	}
	var page KeysSync
	answer, err := c.call(ctx, http.MethodGet, "/v1/keys/sync?"+query.Encode(), accessToken, nil, &page)
	return page, answer, err
}

// NewBackup begins a backup of room keys and gives its version.
func (c *Client) NewBackup(ctx context.Context, accessToken string, backup BackupVersion) (string, Answer, error) {
	var made wire.BackupVersionMade
	answer, err := c.call(ctx, http.MethodPost, "/v1/keys/backup/version", accessToken, backup, &made)
	return made.Version, answer, err
}

// Backup tells about a backup, or with "" about the current one.
func (c *Client) Backup(ctx context.Context, accessToken, version string) (BackupState, Answer, error) {
	path := "/v1/keys/backup/version"
	if version != "" {
		path += "/" + url.PathEscape(version)
	}
	var state BackupState
	answer, err := c.call(ctx, http.MethodGet, path, accessToken, nil, &state)
	return state, answer, err
}

// RemoveBackup deletes a backup with its keys.
func (c *Client) RemoveBackup(ctx context.Context, accessToken, version string) (Answer, error) {
	return c.call(ctx, http.MethodDelete, "/v1/keys/backup/version/"+url.PathEscape(version), accessToken, nil, nil)
}

// StoreBackup adds keys to the current backup.
func (c *Client) StoreBackup(ctx context.Context, accessToken, version string, keys BackupKeys) (BackupStored, Answer, error) {
	var stored BackupStored
	query := url.Values{"version": {version}}
	answer, err := c.call(ctx, http.MethodPut, "/v1/keys/backup/keys?"+query.Encode(), accessToken, keys, &stored)
	return stored, answer, err
}

// ReadBackup gives the keys of a backup, of one room where roomID is given.
func (c *Client) ReadBackup(ctx context.Context, accessToken, version, roomID string) (BackupKeys, Answer, error) {
	query := url.Values{"version": {version}}
	if roomID != "" {
		query.Set("room_id", roomID)
	}
	var keys BackupKeys
	answer, err := c.call(ctx, http.MethodGet, "/v1/keys/backup/keys?"+query.Encode(), accessToken, nil, &keys)
	return keys, answer, err
}
