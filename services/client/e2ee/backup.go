package e2ee

import (
	"context"
	"crypto/ecdh"
	"encoding/json"
	"errors"
	"fmt"

	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/crypto/backup"
	"maunium.net/go/mautrix/id"

	"secureconnect/services/client"
	"secureconnect/services/internal/wire"
)

// keeping is what a device knows of its user's backup.
type keeping struct {
	version  string
	key      *ecdh.PublicKey       // nil while no backup is known
	absent   bool                  // there was none when it was looked for
	left     map[string]bool       // the public keys of the backups before, to which nothing goes again
	restored map[id.SessionID]bool // sessions whose keys came out of a backup
}

func newKeeping() keeping {
	return keeping{left: map[string]bool{}, restored: map[id.SessionID]bool{}}
}

func (k *keeping) use(version string, key *ecdh.PublicKey) {
	k.leave()
	k.version, k.key, k.absent = version, key, false
}

func (k *keeping) leave() {
	if k.key != nil {
		k.left[string(k.key.Bytes())] = true
	}
	k.version, k.key = "", nil
}

// BackUp puts the keys that this device has into its user's backup, where they are not yet, and returns when they are durable. A Messenger
// that runs does it by itself. A device that has not made or opened the backup finds it, and so does one whose backup was replaced; it
// takes one that the user's identity has signed, and none that was left once. The errors are ErrNoIdentity, ErrNoBackup, ErrBackupForged
// and the platform's.
func (m *Machine) BackUp(ctx context.Context) error {
	m.backingUp.Lock()
	defer m.backingUp.Unlock()
	for {
		part, err := m.unsaved(ctx)
		if err != nil || len(part.sessions) == 0 {
			return err
		}
		token, err := m.options.Token(ctx)
		if err != nil {
			return err
		}
		switch _, _, err := m.client.StoreBackup(ctx, token, part.version, part.keys); client.CodeOf(err) {
		case "":
			if err != nil {
				return fmt.Errorf("store keys: %w", err)
			}
			m.saved(part)
		case codeOtherBackup, codeNoBackup:
			m.replaced(part.version)
		default:
			return fmt.Errorf("store keys: %w", err)
		}
	}
}

// part is what one request carries. It is far below what the platform takes in one.
type part struct {
	version  string
	keys     wire.BackupKeys
	sessions []*crypto.InboundGroupSession
}

const partSessions = 200

// unsaved is the next part of what the backup has not, or an empty one.
func (m *Machine) unsaved(ctx context.Context) (part, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.olm.CrossSigningKeys == nil {
		return part{}, ErrNoIdentity
	}
	if held, err := m.olm.CryptoStore.GetAllGroupSessions(ctx).AsList(); err != nil || len(held) == 0 {
		return part{}, err //nolint:wrapcheck // a store in memory does not fail
	}
	if err := m.findBackup(ctx); err != nil {
		return part{}, err
	}
	sessions, err := m.olm.CryptoStore.GetGroupSessionsWithoutKeyBackupVersion(ctx, id.KeyBackupVersion(m.backup.version)).AsList()
	if err != nil {
		return part{}, fmt.Errorf("read sessions: %w", err)
	}
	next := part{version: m.backup.version, sessions: sessions[:min(len(sessions), partSessions)]}
	next.keys.Rooms = map[string]wire.BackupRoom{}
	for _, session := range next.sessions {
		key, err := m.backedUp(session)
		if err != nil {
			return part{}, err
		}
		room := string(session.RoomID)
		if next.keys.Rooms[room].Sessions == nil {
			next.keys.Rooms[room] = wire.BackupRoom{Sessions: map[string]wire.BackupKey{}}
		}
		next.keys.Rooms[room].Sessions[string(session.ID())] = key
	}
	return next, nil
}

// findBackup looks for the backup, once where there is none.
func (m *Machine) findBackup(ctx context.Context) error {
	switch {
	case m.backup.key != nil:
		return nil
	case m.backup.absent:
		return ErrNoBackup
	}
	state, err := m.currentBackup(ctx)
	if err != nil {
		m.backup.absent = errors.Is(err, ErrNoBackup)
		return err
	}
	data, raw, err := parseAuthData(state.AuthData)
	if err != nil {
		return err
	}
	if err := signedByIdentity(raw, m.options.User, m.olm.CrossSigningKeys.MasterKey.PublicKey()); err != nil {
		return err
	}
	if m.backup.left[string(data.PublicKey)] {
		return fmt.Errorf("%w: it is one that was replaced before", ErrBackupForged)
	}
	key, err := ecdh.X25519().NewPublicKey(data.PublicKey)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBackupForged, err)
	}
	m.backup.use(state.Version, key)
	return nil
}

// backedUp is a key as browsers put it (matrix-sdk-crypto): none is called verified, so that of two the one that opens more is kept.
func (m *Machine) backedUp(session *crypto.InboundGroupSession) (wire.BackupKey, error) {
	first := session.Internal.FirstKnownIndex()
	exported, err := session.Internal.Export(first)
	if err != nil {
		return wire.BackupKey{}, fmt.Errorf("export session: %w", err)
	}
	encrypted, err := backup.EncryptSessionDataWithPubkey(m.backup.key, backup.MegolmSessionData{
		Algorithm: id.AlgorithmMegolmV1, SenderKey: session.SenderKey, SenderClaimedKeys: backup.SenderClaimedKeys{Ed25519: session.SigningKey},
		SessionKey: string(exported), ForwardingKeyChain: append([]string{}, session.ForwardingChains...), SharedHistory: session.SharedHistory,
	})
	if err != nil {
		return wire.BackupKey{}, fmt.Errorf("encrypt session: %w", err)
	}
	raw, err := json.Marshal(encrypted)
	if err != nil {
		return wire.BackupKey{}, fmt.Errorf("write session: %w", err)
	}
	key := wire.BackupKey{FirstMessageIndex: int64(first), SessionData: raw}
	if session.KeySource != id.KeySourceDirect || m.backup.restored[session.ID()] {
		key.ForwardedCount = 1
	}
	return key, nil
}

func (m *Machine) saved(p part) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, session := range p.sessions {
		session.KeyBackupVersion = id.KeyBackupVersion(p.version)
	}
}

// replaced makes the device look for the backup that has come in the place of version.
func (m *Machine) replaced(version string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.backup.version == version {
		m.backup.leave()
	}
}
