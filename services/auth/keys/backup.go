package keys

import (
	"context"
	"errors"
	"regexp"
	"strconv"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
)

const (
	// Bounds of the backups of one user: versions not deleted, and keys in one.
	maxBackups    = 20
	maxBackupKeys = 200_000

	// maxAuthData and maxSessionData are in bytes.
	maxAuthData    = 16 << 10
	maxSessionData = 8 << 10

	// backupPage is how many keys are read at once.
	backupPage = 1000
)

var (
	backupAlgorithm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,255}$`)
	backupName      = regexp.MustCompile(`^[!-~]{1,255}$`) // of rooms and sessions
	backupVersion   = regexp.MustCompile(`^[1-9][0-9]{0,17}$`)
)

// backupRow is one key of a backup. SessionData is canonical JSON.
type backupRow struct {
	room    string
	session string
	key     wire.BackupKey
}

// NewBackup begins a backup of room keys, which is the current one from then on (Matrix C-S specification, POST
// /room_keys/version).
func (s *Service) NewBackup(ctx context.Context, caller wire.Session, body wire.BackupVersion) (wire.BackupVersionMade, error) {
	const op = "keys.NewBackup"
	authData, err := decode(body.AuthData, maxAuthData)
	if err != nil || !backupAlgorithm.MatchString(body.Algorithm) {
		return wire.BackupVersionMade{}, invalidBackup(op, "A backup has an algorithm and auth_data, a JSON object.", err)
	}
	text, err := canonical(authData)
	if err != nil {
		return wire.BackupVersionMade{}, invalidBackup(op, "The auth_data cannot be written as canonical JSON.", err)
	}
	version, err := s.store.newBackup(ctx, caller.UserID, body.Algorithm, text)
	if err != nil {
		return wire.BackupVersionMade{}, apperr.OrUnavailable(op, err)
	}
	return wire.BackupVersionMade{Version: strconv.FormatInt(version, 10)}, nil
}

// Backup tells about one of the caller's backups, or with "" about the current one (GET /room_keys/version).
func (s *Service) Backup(ctx context.Context, caller wire.Session, version string) (wire.BackupState, error) {
	number, err := parseVersion(version)
	if err != nil {
		return wire.BackupState{}, err
	}
	state, err := s.store.backup(ctx, caller.UserID, number)
	return state, apperr.OrUnavailable("keys.Backup", err)
}

// RemoveBackup deletes one of the caller's backups with its keys (DELETE /room_keys/version). Its number is not used
// again.
func (s *Service) RemoveBackup(ctx context.Context, caller wire.Session, version string) error {
	number, err := parseVersion(version)
	if err != nil {
		return err
	}
	return apperr.OrUnavailable("keys.RemoveBackup", s.store.removeBackup(ctx, caller.UserID, number))
}

// StoreBackup adds keys to the current backup (PUT /room_keys/keys). A key that is there gives way to a better one
// only: verified before not, then the one that opens earlier messages, then the one forwarded less often. Another
// backup than the current one takes nothing: Conflict.
func (s *Service) StoreBackup(ctx context.Context, caller wire.Session, version string, body wire.BackupKeys) (wire.BackupStored, error) {
	const op = "keys.StoreBackup"
	number, err := neededVersion(version)
	if err != nil {
		return wire.BackupStored{}, err
	}
	rows, err := parseBackup(body)
	if err != nil {
		return wire.BackupStored{}, err
	}
	stored, err := s.store.putBackup(ctx, caller.UserID, number, rows)
	return stored, apperr.OrUnavailable(op, err)
}

// ReadBackup gives the keys of one of the caller's backups to each, in order of room and session, in pieces of which
// none is large: of all rooms, of one, or one session's (GET /room_keys/keys). What is stored meanwhile may be missing.
func (s *Service) ReadBackup(ctx context.Context, caller wire.Session, version, room, session string, each func(backupRow) error) error {
	const op = "keys.ReadBackup"
	number, err := neededVersion(version)
	if err != nil {
		return err
	}
	if (room != "" && !backupName.MatchString(room)) || (session != "" && !backupName.MatchString(session)) {
		return invalidBackup(op, "There can be no such room or session.", nil)
	}
	if _, err := s.store.backup(ctx, caller.UserID, number); err != nil {
		return apperr.OrUnavailable(op, err)
	}
	after := backupRow{}
	for {
		rows, err := s.store.backupPage(ctx, caller.UserID, number, room, session, after)
		if err != nil {
			return apperr.OrUnavailable(op, err)
		}
		for _, row := range rows {
			if err := each(row); err != nil {
				return err
			}
		}
		if len(rows) < backupPage {
			return nil
		}
		after = rows[len(rows)-1]
	}
}

func parseBackup(body wire.BackupKeys) ([]backupRow, error) {
	const op = "keys.parseBackup"
	var rows []backupRow
	for room, sessions := range body.Rooms {
		for session, key := range sessions.Sessions {
			if !backupName.MatchString(room) || !backupName.MatchString(session) || key.FirstMessageIndex < 0 || key.ForwardedCount < 0 {
				return nil, invalidBackup(op, "A key's room, session or numbers are not valid.", nil)
			}
			data, err := decode(key.SessionData, maxSessionData)
			if err != nil {
				return nil, invalidBackup(op, "A key's session_data is no JSON object of up to 8 KiB.", err)
			}
			text, err := canonical(data)
			if err != nil {
				return nil, invalidBackup(op, "A key's session_data cannot be written as canonical JSON.", err)
			}
			key.SessionData = []byte(text)
			rows = append(rows, backupRow{room: room, session: session, key: key})
		}
	}
	return rows, nil
}

var errVersion = errors.New("not a version's number")

// parseVersion gives 0 for none.
func parseVersion(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	if !backupVersion.MatchString(text) {
		return 0, noBackup(errVersion)
	}
	return strconv.ParseInt(text, 10, 64)
}

func neededVersion(text string) (int64, error) {
	if text == "" {
		return 0, invalidBackup("keys.neededVersion", "Say which version of the backup.", nil)
	}
	return parseVersion(text)
}

func invalidBackup(op, text string, cause error) error {
	return apperr.E(op, apperr.Invalid, text, cause, apperr.Code("invalid_backup"))
}

func noBackup(cause error) error {
	return apperr.E("keys.backup", apperr.NotFound, "There is no such backup.", cause, apperr.Code("no_such_backup"))
}

func otherBackup() error {
	return apperr.E("keys.StoreBackup", apperr.Conflict, "There is a newer backup. Use that one.", nil, apperr.Code("wrong_backup_version"))
}

func backupFull() error {
	return apperr.E("keys.StoreBackup", apperr.Conflict, "The backup is full. Begin a new one.", nil, apperr.Code("backup_full"))
}

func tooManyBackups() error {
	return apperr.E("keys.NewBackup", apperr.Conflict, "You have too many backups. Delete old ones.", nil, apperr.Code("too_many_backups"))
}
