package auth

import (
	"context"
	"crypto/rand"
	"strings"
	"time"

	"github.com/google/uuid"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/config"
	"secureconnect/services/internal/wire"
)

// Credentials are what somebody shows to log in, and from where.
type Credentials struct {
	Username   string
	Password   config.Secret
	DeviceID   string // as the client remembers it, or ""
	DeviceName string
	Address    string
}

// Grant is what a login or a refresh gives.
type Grant struct {
	User         wire.User
	Session      wire.Session
	AccessToken  string
	RefreshToken config.Secret
}

// Login opens a session. A wrong password, an unknown name and a disabled or expired account are one and the same
// Unauthenticated after the same work; too many attempts are TooMany with a time.
func (s *Service) Login(ctx context.Context, shown Credentials) (Grant, error) {
	const op = "auth.Login"
	device, deviceName, err := checkDevice(shown)
	if err != nil {
		return Grant{}, err
	}
	username := normalUsername(shown.Username)
	refund, err := s.throttle.login(ctx, username, shown.Address)
	if err != nil {
		return Grant{}, err
	}
	account, err := s.store.accountForLogin(ctx, possibleName(username), addressClass(shown.Address), s.now())
	if err != nil {
		return Grant{}, apperr.OrUnavailable(op, err)
	}
	refundName, err := s.throttle.name(ctx, username, account.addressKnown)
	if err != nil {
		return Grant{}, err
	}
	right, err := s.hasher.matches(ctx, shown.Password, account.passwordHash)
	if err != nil {
		return Grant{}, err
	}
	if !right || !account.active {
		return Grant{}, wrongCredentials(op)
	}
	refund(ctx)
	refundName(ctx)
	return s.openSession(ctx, account, shown, device, deviceName)
}

func (s *Service) openSession(ctx context.Context, a account, shown Credentials, device wire.DeviceID, deviceName string) (Grant, error) {
	const op = "auth.openSession"
	refresh := newRefreshToken()
	opening := opening{
		session: wire.Session{
			UserID: a.user.ID, SessionID: wire.SessionID(uuid.NewString()), DeviceID: device,
		},
		deviceName:   deviceName,
		address:      shown.Address,
		addressClass: addressClass(shown.Address),
		refreshHash:  hashOf(refresh),
		passwordHash: a.passwordHash,
		now:          s.now(),
	}
	replaced, err := s.store.openSession(ctx, opening)
	if err != nil {
		return Grant{}, apperr.OrUnavailable(op, err)
	}
	s.hints.revoked(ctx, replaced...)
	s.rehash(ctx, a, shown.Password)
	return s.grant(a.user, opening.session, refresh)
}

// rehash brings an old hash to today's cost while the password is at hand. Whoever fails here tries at the next login.
func (s *Service) rehash(ctx context.Context, a account, password config.Secret) {
	if !s.hasher.outdated(a.passwordHash) {
		return
	}
	hash, err := s.hasher.hash(ctx, password)
	if err == nil {
		err = s.store.replaceHash(ctx, a.user.ID, a.passwordHash, hash)
	}
	if err != nil {
		s.log.Warn("password not rehashed", "user_id", a.user.ID, "error", err)
	}
}

func (s *Service) grant(user wire.User, session wire.Session, refresh config.Secret) (Grant, error) {
	access, expires, err := s.signer.Sign(session, s.now())
	if err != nil {
		return Grant{}, err
	}
	session.Expires = expires
	return Grant{User: user, Session: session, AccessToken: access, RefreshToken: refresh}, nil
}

// Refresh trades a refresh token for its successor and a new access token. Repeated within 30 s it gives the same
// successor. A token whose successor has been used ends its whole session. Everything refused is Unauthenticated.
func (s *Service) Refresh(ctx context.Context, refresh config.Secret) (Grant, error) {
	const op = "auth.Refresh"
	if !wellFormed(refresh) {
		return Grant{}, badRefresh(op)
	}
	successor := s.refreshKey.successor(refresh)
	result, err := s.store.rotate(ctx, hashOf(refresh), hashOf(successor), s.now())
	if err != nil {
		return Grant{}, apperr.OrUnavailable(op, err)
	}
	switch result.verdict {
	case rotate, repeat:
		return s.grant(result.user, result.session, successor)
	case reuse:
		s.hints.revoked(ctx, result.session.SessionID)
		s.log.Warn("refresh token reused, session revoked", "user_id", result.session.UserID, "session_id", result.session.SessionID)
		return Grant{}, apperr.E(op, apperr.Unauthenticated, "This session was used from two places and has been ended. Log in again.",
			nil, apperr.Code("refresh_reused"))
	default:
		return Grant{}, badRefresh(op)
	}
}

func badRefresh(op string) error {
	return apperr.E(op, apperr.Unauthenticated, "The session has ended. Log in again.", nil, apperr.Code("refresh_invalid"))
}

func wrongCredentials(op string) error {
	return apperr.E(op, apperr.Unauthenticated, "Wrong username or password.", nil, apperr.Code("wrong_credentials"))
}

const maxDeviceName = 64

// checkDevice gives a new device its name, and refuses one that cannot be ours.
func checkDevice(shown Credentials) (wire.DeviceID, string, error) {
	const op = "auth.checkDevice"
	name, err := plainText(shown.DeviceName, maxDeviceName)
	if err != nil {
		return "", "", apperr.E(op, apperr.Invalid, "The device name is longer than 64 characters or holds control characters.", err, apperr.Code("invalid_device"))
	}
	if shown.DeviceID == "" {
		return wire.DeviceID(rand.Text()[:16]), name, nil
	}
	id, err := wire.ParseDeviceID(shown.DeviceID)
	if err != nil {
		return "", "", apperr.E(op, apperr.Invalid, "The device id is not valid.", err, apperr.Code("invalid_device"))
	}
	return id, name, nil
}

func normalUsername(username string) string { return strings.ToLower(strings.TrimSpace(username)) }

// possibleName is "", which nobody is called, for what the store need not or cannot look up.
func possibleName(username string) string {
	if usernamePattern.MatchString(username) {
		return username
	}
	return ""
}

// account is a user as a login sees it. The zero account is nobody, whom no password fits.
type account struct {
	user         wire.User
	passwordHash string
	active       bool // not disabled, not expired
	addressKnown bool // has logged in from there before
}

// opening is everything a new session writes.
type opening struct {
	session      wire.Session
	deviceName   string
	address      string
	addressClass string
	refreshHash  []byte
	passwordHash string // as it was checked: whoever changed it meanwhile wins
	now          time.Time
}

// rotation is what became of a refresh token.
type rotation struct {
	verdict verdict
	user    wire.User
	session wire.Session
}
