package auth

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/config"
	"secureconnect/services/internal/wire"
)

// Who may register.
const (
	RegistrationInvite = "invite"
	RegistrationOpen   = "open"
	RegistrationClosed = "closed"
)

const maxDisplayName = 64

var usernamePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,30}[a-z0-9]$`)

// Registration asks for an account.
type Registration struct {
	Username    string
	Password    config.Secret
	DisplayName string
	Invite      config.Secret
	Address     string
}

// Register makes an account, as far as the mode of registration lets strangers do it. A name that is taken is
// Conflict, and shown only to who may register.
func (s *Service) Register(ctx context.Context, asked Registration) (wire.User, error) {
	const op = "auth.Register"
	if s.registration == RegistrationClosed {
		return wire.User{}, apperr.E(op, apperr.Forbidden, "Registration is closed. Ask the operator for an account.", nil, apperr.Code("registration_closed"))
	}
	if err := s.throttle.register(ctx, asked.Address); err != nil {
		return wire.User{}, err
	}
	var invite []byte
	if s.registration == RegistrationInvite {
		invite = hashOf(asked.Invite)
		// Asked again when it is used up; here it keeps those without one from making us hash.
		if err := s.store.inviteGood(ctx, invite, s.now()); err != nil {
			return wire.User{}, apperr.OrUnavailable(op, err)
		}
	}
	user, err := s.newUser(asked.Username, asked.DisplayName, asked.Password)
	if err != nil {
		return wire.User{}, err
	}
	hash, err := s.hasher.hash(ctx, asked.Password)
	if err != nil {
		return wire.User{}, err
	}
	if err := s.store.register(ctx, user, hash, invite); err != nil {
		return wire.User{}, apperr.OrUnavailable(op, err)
	}
	return user, nil
}

// newUser checks what an account is to be.
func (s *Service) newUser(username, displayName string, password config.Secret) (wire.User, error) {
	username = normalUsername(username)
	if !usernamePattern.MatchString(username) {
		return wire.User{}, apperr.E("auth.newUser", apperr.Invalid,
			"A username has 2 to 32 of the characters a-z, 0-9, dot, dash and underscore, and starts and ends with a letter or digit.",
			nil, apperr.Code("invalid_username"))
	}
	if strings.TrimSpace(displayName) == "" {
		displayName = username
	}
	displayName, err := checkDisplayName(displayName)
	if err != nil {
		return wire.User{}, err
	}
	if err := checkNewPassword(password, username); err != nil {
		return wire.User{}, err
	}
	return wire.User{
		ID: wire.UserID(uuid.NewString()), Username: username, DisplayName: displayName, CreatedAt: stamp(s.now()),
	}, nil
}

func checkDisplayName(name string) (string, error) {
	clean, err := plainText(name, maxDisplayName)
	if err != nil || clean == "" {
		return "", apperr.E("auth.checkDisplayName", apperr.Invalid, "A display name has 1 to 64 characters, none of them a control character.", err, apperr.Code("invalid_display_name"))
	}
	return clean, nil
}

var errPlainText = errors.New("too long, or not plain text")

// plainText trims text, and refuses more than limit characters, control characters and those that turn text around.
func plainText(text string, limit int) (string, error) {
	text = strings.TrimSpace(text)
	if utf8.RuneCountInString(text) > limit || !utf8.ValidString(text) {
		return "", errPlainText
	}
	for _, r := range text {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return "", errPlainText
		}
	}
	return text, nil
}

// Me is the caller's account.
func (s *Service) Me(ctx context.Context, caller wire.Session) (wire.User, error) {
	user, err := s.store.user(ctx, caller.UserID)
	return user, apperr.OrUnavailable("auth.Me", err)
}

// ChangeMe changes what is set in change, and gives the account as it is then.
func (s *Service) ChangeMe(ctx context.Context, caller wire.Session, change wire.UserChange) (wire.User, error) {
	if change.DisplayName == nil {
		return s.Me(ctx, caller)
	}
	name, err := checkDisplayName(*change.DisplayName)
	if err != nil {
		return wire.User{}, err
	}
	user, err := s.store.rename(ctx, caller.UserID, name, s.now())
	return user, apperr.OrUnavailable("auth.ChangeMe", err)
}

// ChangePassword sets a new password and ends all other sessions. The current one must be right, or it is Forbidden.
func (s *Service) ChangePassword(ctx context.Context, caller wire.Session, current, next config.Secret) error {
	const op = "auth.ChangePassword"
	user, old, err := s.confirm(ctx, caller, current)
	if err != nil {
		return err
	}
	if err := checkNewPassword(next, user.Username); err != nil {
		return err
	}
	hash, err := s.hasher.hash(ctx, next)
	if err != nil {
		return err
	}
	ended, err := s.store.changePassword(ctx, caller, old, hash, s.now())
	if err != nil {
		return apperr.OrUnavailable(op, err)
	}
	s.hints.revoked(ctx, ended...)
	return nil
}

// RemoveMe deletes the caller's account with all its sessions. The password must be right, or it is Forbidden.
func (s *Service) RemoveMe(ctx context.Context, caller wire.Session, password config.Secret) error {
	const op = "auth.RemoveMe"
	if _, _, err := s.confirm(ctx, caller, password); err != nil {
		return err
	}
	ended, err := s.store.removeUser(ctx, caller.UserID)
	if err != nil {
		return apperr.OrUnavailable(op, err)
	}
	s.hints.revoked(ctx, ended...)
	return nil
}

// ConfirmPassword asks for the caller's password once more: Forbidden where it is wrong, TooMany after many tries.
func (s *Service) ConfirmPassword(ctx context.Context, caller wire.Session, password config.Secret) error {
	_, _, err := s.confirm(ctx, caller, password)
	return err
}

// confirm asks for the password again, for what a stolen access token must not do.
func (s *Service) confirm(ctx context.Context, caller wire.Session, password config.Secret) (wire.User, string, error) {
	const op = "auth.confirm"
	refund, err := s.throttle.confirm(ctx, string(caller.SessionID))
	if err != nil {
		return wire.User{}, "", err
	}
	user, hash, err := s.store.userWithHash(ctx, caller.UserID)
	if err != nil {
		return wire.User{}, "", apperr.OrUnavailable(op, err)
	}
	right, err := s.hasher.matches(ctx, password, hash)
	if err != nil {
		return wire.User{}, "", err
	}
	if !right {
		return wire.User{}, "", apperr.E(op, apperr.Forbidden, "The current password is wrong.", nil, apperr.Code("wrong_password"))
	}
	refund(ctx)
	return user, hash, nil
}
