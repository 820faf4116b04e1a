package e2ee

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.mau.fi/util/jsonbytes"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/crypto/backup"
	"maunium.net/go/mautrix/crypto/canonicaljson"
	"maunium.net/go/mautrix/crypto/signatures"
	"maunium.net/go/mautrix/crypto/utils"
	"maunium.net/go/mautrix/id"

	"secureconnect/services/client"
	"secureconnect/services/internal/wire"
)

// Errors of backup and recovery.
var (
	ErrNoIdentity       = errors.New("this device has no identity to make or to keep a backup with")
	ErrNoBackup         = errors.New("there is no backup")
	ErrWrongRecoveryKey = errors.New("not the recovery key of the backup that is there")
	ErrBackupForged     = errors.New("the backup is not as its owner's identity has left it")
	ErrBackupReplaced   = errors.New("the backup was replaced while it was read")
)

// authData says whose a backup is (services/gateway/web/CONTENT.md, "Recovery"): the public half of the recovery key, and the seeds of the
// identity sealed with it.
type authData struct {
	PublicKey  jsonbytes.UnpaddedBytes `json:"public_key"`
	Identity   sealed                  `json:"secureconnect_identity"`
	Signatures signatures.Signatures   `json:"signatures,omitempty"`
}

// sealed is AES-256-GCM.
type sealed struct {
	IV         jsonbytes.UnpaddedBytes `json:"iv"`
	Ciphertext jsonbytes.UnpaddedBytes `json:"ciphertext"`
}

type seeds struct {
	Master      jsonbytes.UnpaddedBytes `json:"master"`
	SelfSigning jsonbytes.UnpaddedBytes `json:"self_signing"`
	UserSigning jsonbytes.UnpaddedBytes `json:"user_signing"`
}

// NewRecovery begins a backup of this device's identity and of the keys to its messages, in place of any before, and gives the one key that
// opens it, as a person keeps it (Matrix C-S specification, "Recovery key"). BackUp fills it. The errors are ErrNoIdentity and the platform's.
func (m *Machine) NewRecovery(ctx context.Context) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.olm.CrossSigningKeys == nil {
		return "", ErrNoIdentity
	}
	key, err := backup.NewMegolmBackupKey()
	if err != nil {
		return "", fmt.Errorf("make recovery key: %w", err)
	}
	data, err := m.signedAuthData(key)
	if err != nil {
		return "", err
	}
	token, err := m.options.Token(ctx)
	if err != nil {
		return "", err
	}
	version, _, err := m.client.NewBackup(ctx, token, wire.BackupVersion{Algorithm: string(id.KeyBackupAlgorithmMegolmBackupV1), AuthData: data})
	if err != nil {
		return "", fmt.Errorf("begin backup: %w", err)
	}
	m.backup.use(version, key.PublicKey())
	return utils.EncodeBase58RecoveryKey(key.Bytes()), nil
}

func (m *Machine) signedAuthData(key *backup.MegolmBackupKey) (json.RawMessage, error) {
	identity := m.olm.CrossSigningKeys.Seeds()
	box, err := sealIdentity(key.Bytes(), identity)
	if err != nil {
		return nil, fmt.Errorf("seal identity: %w", err)
	}
	data := authData{PublicKey: key.PublicKey().Bytes(), Identity: box}
	byDevice, err := m.olm.GetAccount().SignJSON(data)
	if err != nil {
		return nil, fmt.Errorf("sign backup: %w", err)
	}
	byIdentity, err := m.olm.CrossSigningKeys.MasterKey.SignJSON(data)
	if err != nil {
		return nil, fmt.Errorf("sign backup: %w", err)
	}
	master := m.olm.CrossSigningKeys.MasterKey.PublicKey()
	data.Signatures = signatures.Signatures{matrixUser(m.options.User): {
		id.NewKeyID(id.KeyAlgorithmEd25519, string(m.options.Device)): byDevice,
		id.NewKeyID(id.KeyAlgorithmEd25519, master.String()):          byIdentity,
	}}
	raw, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("write backup: %w", err)
	}
	return raw, nil
}

// Recovered counts the keys of a backup. Those that are damaged open nothing, and keep the others from nobody.
type Recovered struct{ Keys, Damaged int }

// Recover makes this device its user's own by the recovery key alone, in place of Join: it takes the identity out of the backup and signs
// the device with it, takes the keys to what was written before, and keeps them in that backup from then on. What it reads with such a key
// is marked (Content.Restored).
//
// ErrNoBackup, ErrWrongRecoveryKey (also of what is no recovery key at all), ErrBackupForged, ErrBackupReplaced: nothing was taken. An
// IdentityChangedError of the user's own: the server shows another identity than the backup holds.
func (m *Machine) Recover(ctx context.Context, recoveryKey string) (Recovered, error) {
	key, err := readRecoveryKey(recoveryKey)
	if err != nil {
		return Recovered{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	state, err := m.currentBackup(ctx)
	if err != nil {
		return Recovered{}, err
	}
	identity, err := openBackup(state, m.options.User, key)
	if err != nil {
		return Recovered{}, err
	}
	kept, err := m.readBackup(ctx, state.Version)
	if err != nil {
		return Recovered{}, err
	}
	if err := m.take(ctx, identity); err != nil {
		return Recovered{}, err
	}
	m.backup.use(state.Version, key.PublicKey())
	return m.restore(ctx, state.Version, key, kept)
}

// readRecoveryKey reads what a person typed; spaces mean nothing.
func readRecoveryKey(text string) (*backup.MegolmBackupKey, error) {
	const longest = 128 // bytes; decoding takes the square of them
	text = strings.Join(strings.Fields(text), "")
	if len(text) > longest {
		return nil, ErrWrongRecoveryKey
	}
	raw := utils.DecodeBase58RecoveryKey(text)
	if raw == nil {
		return nil, ErrWrongRecoveryKey
	}
	key, err := backup.MegolmBackupKeyFromBytes(raw)
	if err != nil {
		return nil, ErrWrongRecoveryKey
	}
	return key, nil
}

func (m *Machine) currentBackup(ctx context.Context) (wire.BackupState, error) {
	token, err := m.options.Token(ctx)
	if err != nil {
		return wire.BackupState{}, err
	}
	state, _, err := m.client.Backup(ctx, token, "")
	switch {
	case client.CodeOf(err) == codeNoBackup:
		return wire.BackupState{}, ErrNoBackup
	case err != nil:
		return wire.BackupState{}, fmt.Errorf("find backup: %w", err)
	case state.Algorithm != string(id.KeyBackupAlgorithmMegolmBackupV1):
		return wire.BackupState{}, fmt.Errorf("%w: its algorithm is %.40q", ErrBackupForged, state.Algorithm)
	}
	return state, nil
}

// Codes of the platform's refusals.
const (
	codeNoBackup    = "no_such_backup"
	codeOtherBackup = "wrong_backup_version"
)

// readBackup gives the keys of the backup that is current, and of no other: who has replaced it wants its key to open nothing more.
func (m *Machine) readBackup(ctx context.Context, version string) (wire.BackupKeys, error) {
	token, err := m.options.Token(ctx)
	if err != nil {
		return wire.BackupKeys{}, err
	}
	kept, _, err := m.client.ReadBackup(ctx, token, version, "")
	if err != nil && client.CodeOf(err) != codeNoBackup {
		return wire.BackupKeys{}, fmt.Errorf("read backup: %w", err)
	}
	now, gone := m.currentBackup(ctx)
	switch {
	case err != nil || errors.Is(gone, ErrNoBackup) || (gone == nil && now.Version != version):
		return wire.BackupKeys{}, ErrBackupReplaced
	case gone != nil:
		return wire.BackupKeys{}, gone
	}
	return kept, nil
}

// openBackup takes the identity of user out of a backup. Whatever else its auth_data says was signed by that identity.
func openBackup(state wire.BackupState, user wire.UserID, key *backup.MegolmBackupKey) (Identity, error) {
	data, raw, err := parseAuthData(state.AuthData)
	if err != nil {
		return Identity{}, err
	}
	if string(data.PublicKey) != string(key.PublicKey().Bytes()) {
		return Identity{}, ErrWrongRecoveryKey
	}
	identity, err := openIdentity(key.Bytes(), data.Identity)
	if err != nil {
		return Identity{}, err
	}
	keys, err := identity.Decode()
	if err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrBackupForged, err)
	}
	return identity, signedByIdentity(raw, user, keys.MasterKey.PublicKey())
}

// parseAuthData also gives the text that the signatures are of. Both are of one reading: of a name that is there twice, a parser that
// takes the first would check another object than the one used here.
func parseAuthData(raw json.RawMessage) (data authData, plain json.RawMessage, err error) {
	var object map[string]any
	if err := json.Unmarshal(raw, &object); err != nil {
		return data, nil, fmt.Errorf("%w: %w", ErrBackupForged, err)
	}
	if plain, err = canonicaljson.Marshal(object); err != nil {
		return data, nil, fmt.Errorf("%w: %w", ErrBackupForged, err)
	}
	if err := json.Unmarshal(plain, &data); err != nil {
		return data, nil, fmt.Errorf("%w: %w", ErrBackupForged, err)
	}
	return data, plain, nil
}

func signedByIdentity(raw json.RawMessage, user wire.UserID, master id.Ed25519) error {
	good, err := signatures.VerifySignatureJSON(raw, matrixUser(user), master.String(), master)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBackupForged, err)
	}
	if !good {
		return fmt.Errorf("%w: its signature is not good", ErrBackupForged)
	}
	return nil
}

func identityCipher(recoveryKey []byte) (cipher.AEAD, error) {
	secret, err := hkdf.Key(sha256.New, recoveryKey, nil, "secureconnect identity", 32)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	return cipher.NewGCM(block) //nolint:wrapcheck // a block of another size than AES's does not come here
}

func sealIdentity(recoveryKey []byte, identity Identity) (sealed, error) {
	box, err := identityCipher(recoveryKey)
	if err != nil {
		return sealed{}, err
	}
	content, err := json.Marshal(seeds{
		Master: []byte(identity.MasterKey), SelfSigning: []byte(identity.SelfSigningKey), UserSigning: []byte(identity.UserSigningKey),
	})
	if err != nil {
		return sealed{}, fmt.Errorf("write identity: %w", err)
	}
	iv := make([]byte, box.NonceSize())
	_, _ = rand.Read(iv) // never fails
	return sealed{IV: iv, Ciphertext: box.Seal(nil, iv, content, nil)}, nil
}

func openIdentity(recoveryKey []byte, from sealed) (Identity, error) {
	box, err := identityCipher(recoveryKey)
	if err != nil {
		return Identity{}, err
	}
	if len(from.IV) != box.NonceSize() {
		return Identity{}, fmt.Errorf("%w: it holds no identity", ErrBackupForged)
	}
	content, err := box.Open(nil, from.IV, from.Ciphertext, nil)
	if err != nil {
		return Identity{}, fmt.Errorf("%w: open identity: %w", ErrBackupForged, err)
	}
	var opened seeds
	if err := json.Unmarshal(content, &opened); err != nil {
		return Identity{}, fmt.Errorf("%w: read identity: %w", ErrBackupForged, err)
	}
	return Identity{
		MasterKey: []byte(opened.Master), SelfSigningKey: []byte(opened.SelfSigning), UserSigningKey: []byte(opened.UserSigning),
	}, nil
}

// restore takes the keys of a backup. Nothing but the recovery key's public half is needed to put a key there, so that of none is known
// whose it was: each is noted, for good, also when its session comes from a device later. The library would then take the device's word for
// the session, and the backup's for whose device it is.
func (m *Machine) restore(ctx context.Context, version string, key *backup.MegolmBackupKey, kept wire.BackupKeys) (got Recovered, err error) {
	for room, sessions := range kept.Rooms {
		for session, stored := range sessions.Sessions {
			taken, err := m.restoreKey(ctx, version, id.RoomID(room), id.SessionID(session), stored.SessionData, key)
			switch {
			case err != nil:
				return got, err
			case taken:
				got.Keys++
			default:
				got.Damaged++
			}
		}
	}
	return got, nil
}

func (m *Machine) restoreKey(
	ctx context.Context, version string, room id.RoomID, session id.SessionID, raw json.RawMessage, key *backup.MegolmBackupKey,
) (bool, error) {
	data, err := openKey(raw, key)
	if err != nil {
		return false, nil //nolint:nilerr // one that is damaged is counted
	}
	before, err := m.olm.CryptoStore.GetGroupSession(ctx, room, session)
	if err != nil && !errors.Is(err, crypto.ErrGroupSessionWithheld) {
		return false, fmt.Errorf("read session: %w", err)
	}
	if _, err := m.olm.ImportRoomKeyFromBackup(ctx, id.KeyBackupVersion(version), room, session, data); err != nil {
		return false, nil //nolint:nilerr // as above
	}
	now, err := m.olm.CryptoStore.GetGroupSession(ctx, room, session)
	if err != nil {
		return false, fmt.Errorf("read session: %w", err)
	}
	if now != before { // else it was no better than what had come from its device
		m.backup.restored[session] = true
	}
	return true, nil
}

// openKey decrypts one key of a backup. The format has no integrity: what is wrong here was damaged or put there.
func openKey(raw json.RawMessage, key *backup.MegolmBackupKey) (*backup.MegolmSessionData, error) {
	var encrypted backup.EncryptedSessionData[backup.MegolmSessionData]
	if err := json.Unmarshal(raw, &encrypted); err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	if encrypted.Ephemeral.PublicKey == nil {
		return nil, errors.New("read key: it has no ephemeral key")
	}
	data, err := encrypted.Decrypt(key)
	if err != nil {
		return nil, fmt.Errorf("decrypt key: %w", err)
	}
	return data, nil
}
