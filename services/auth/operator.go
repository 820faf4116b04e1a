package auth

import (
	"context"
	"crypto/rand"
	"time"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/config"
	"secureconnect/services/internal/wire"
)

// Operator is auth as seen from an app host's shell. Whoever gets there has the store's password anyway, so nothing is
// forbidden; everything is noted, in the store and in the log, under the name By.
type Operator struct {
	*Service
	By string
}

// note is one line of the audit.
type note struct {
	by, action, username, detail string
	at                           time.Time
}

func (o Operator) note(action, username, detail string) note {
	return note{by: o.By, action: action, username: username, detail: detail, at: stamp(o.now())}
}

// done writes the log's copy of the audit line, or passes the error on.
func (o Operator) done(n note, err error) error {
	if err != nil {
		return apperr.OrUnavailable("auth.Operator", err)
	}
	o.log.Info("user command", "action", n.action, "username", n.username, "detail", n.detail, "by", n.by)
	return nil
}

// Add makes an account, whatever the mode of registration. With lasts it ends by itself after that time; 0 is for ever.
func (o Operator) Add(ctx context.Context, username, displayName string, password config.Secret, lasts time.Duration) (wire.User, error) {
	user, err := o.newUser(username, displayName, password)
	if err != nil {
		return wire.User{}, err
	}
	detail := "for good"
	if lasts > 0 {
		expires := user.CreatedAt.Add(lasts)
		user.ExpiresAt, detail = &expires, "until "+expires.Format(time.RFC3339)
	}
	hash, err := o.hasher.hash(ctx, password)
	if err != nil {
		return wire.User{}, err
	}
	n := o.note("add", user.Username, detail)
	return user, o.done(n, o.store.addUser(ctx, user, hash, n))
}

const maxUses = 10_000

// Invite makes a code with which uses accounts can be registered until it expires. Only its hash is kept.
func (o Operator) Invite(ctx context.Context, uses int, lasts time.Duration) (config.Secret, error) {
	if uses < 1 || uses > maxUses || lasts <= 0 {
		return config.Secret{}, apperr.E("auth.Invite", apperr.Invalid, "An invite is for 1 to 10000 accounts and for a time.", nil, apperr.Code("invalid_invite"))
	}
	code := config.NewSecret(rand.Text())
	expires := stamp(o.now().Add(lasts))
	n := o.note("invite", "", "until "+expires.Format(time.RFC3339))
	return code, o.done(n, o.store.addInvite(ctx, hashOf(code), uses, expires, n))
}

// Disable ends all sessions of an account and lets nobody log in to it.
func (o Operator) Disable(ctx context.Context, username string) error {
	n := o.note("disable", normalUsername(username), "")
	gone, err := o.store.disable(ctx, n)
	o.hints.revoked(ctx, gone...)
	return o.done(n, err)
}

// Enable undoes Disable.
func (o Operator) Enable(ctx context.Context, username string) error {
	n := o.note("enable", normalUsername(username), "")
	return o.done(n, o.store.enable(ctx, n))
}

// ResetPassword sets a new password and ends all sessions.
func (o Operator) ResetPassword(ctx context.Context, username string, password config.Secret) error {
	username = normalUsername(username)
	if err := checkNewPassword(password, username); err != nil {
		return err
	}
	hash, err := o.hasher.hash(ctx, password)
	if err != nil {
		return err
	}
	n := o.note("reset-password", username, "")
	gone, err := o.store.resetPassword(ctx, hash, n)
	o.hints.revoked(ctx, gone...)
	return o.done(n, err)
}

// Remove deletes an account and its sessions.
func (o Operator) Remove(ctx context.Context, username string) error {
	n := o.note("remove", normalUsername(username), "")
	gone, err := o.store.removeByName(ctx, n)
	o.hints.revoked(ctx, gone...)
	return o.done(n, err)
}

// Listed is an account as an operator sees it.
type Listed struct {
	wire.User
	Disabled bool `json:"disabled"`
	Sessions int  `json:"sessions"`
}

// List gives all accounts by name.
func (o Operator) List(ctx context.Context) ([]Listed, error) {
	users, err := o.store.list(ctx, o.now())
	return users, apperr.OrUnavailable("auth.List", err)
}
