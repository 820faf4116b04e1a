package client

import (
	"context"
	"net/http"
	"net/url"

	"secureconnect/services/internal/wire"
)

// What is sent and answered is told once, in wire; these are its names for programs outside the services.
type (
	User         = wire.User
	Registration = wire.RegisterRequest
	Credentials  = wire.LoginRequest
	Tokens       = wire.Tokens
	Session      = wire.SessionView
	SessionID    = wire.SessionID
)

// Register makes an account; it opens no session.
func (c *Client) Register(ctx context.Context, r Registration) (User, Answer, error) {
	var user User
	answer, err := c.call(ctx, http.MethodPost, "/v1/auth/register", "", r, &user)
	return user, answer, err
}

// Login opens a session.
func (c *Client) Login(ctx context.Context, credentials Credentials) (Tokens, Answer, error) {
	var tokens Tokens
	answer, err := c.call(ctx, http.MethodPost, "/v1/auth/login", "", credentials, &tokens)
	return tokens, answer, err
}

// Refresh trades a refresh token for a new pair. A token whose successor has been used revokes the session.
func (c *Client) Refresh(ctx context.Context, refreshToken string) (Tokens, Answer, error) {
	var tokens Tokens
	answer, err := c.call(ctx, http.MethodPost, "/v1/auth/refresh", "", wire.RefreshRequest{RefreshToken: refreshToken}, &tokens)
	return tokens, answer, err
}

// Logout ends the session of the access token.
func (c *Client) Logout(ctx context.Context, accessToken string) (Answer, error) {
	return c.call(ctx, http.MethodPost, "/v1/auth/logout", accessToken, nil, nil)
}

// Sessions lists the caller's live sessions.
func (c *Client) Sessions(ctx context.Context, accessToken string) ([]Session, Answer, error) {
	var page wire.Sessions
	answer, err := c.call(ctx, http.MethodGet, "/v1/auth/sessions", accessToken, nil, &page)
	return page.Sessions, answer, err
}

// RevokeSession ends one of the caller's sessions.
func (c *Client) RevokeSession(ctx context.Context, accessToken string, id SessionID) (Answer, error) {
	return c.call(ctx, http.MethodDelete, "/v1/auth/sessions/"+url.PathEscape(string(id)), accessToken, nil, nil)
}

// Me returns the caller's account.
func (c *Client) Me(ctx context.Context, accessToken string) (User, Answer, error) {
	var user User
	answer, err := c.call(ctx, http.MethodGet, "/v1/users/me", accessToken, nil, &user)
	return user, answer, err
}

// UpdateMe changes the caller's display name.
func (c *Client) UpdateMe(ctx context.Context, accessToken, displayName string) (User, Answer, error) {
	var user User
	answer, err := c.call(ctx, http.MethodPatch, "/v1/users/me", accessToken, wire.UserChange{DisplayName: &displayName}, &user)
	return user, answer, err
}

// ChangePassword changes the caller's password and ends the caller's other sessions.
func (c *Client) ChangePassword(ctx context.Context, accessToken, current, next string) (Answer, error) {
	body := wire.PasswordChange{CurrentPassword: current, NewPassword: next}
	return c.call(ctx, http.MethodPost, "/v1/users/me/password", accessToken, body, nil)
}

// DeleteMe removes the caller's account for good; the password is asked for once more.
func (c *Client) DeleteMe(ctx context.Context, accessToken, password string) (Answer, error) {
	return c.call(ctx, http.MethodDelete, "/v1/users/me", accessToken, wire.AccountRemoval{Password: password}, nil)
}
