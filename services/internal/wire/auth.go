package wire

import "time"

// RegisterRequest is the body of POST /v1/auth/register. The answer is 201 with a User.
type RegisterRequest struct {
	Username    string `json:"username"`
	Password    string `json:"password"`
	DisplayName string `json:"display_name"`
	Invite      string `json:"invite,omitempty"`
}

// LoginRequest is the body of POST /v1/auth/login. The answer is 200 with a Tokens.
type LoginRequest struct {
	Username   string `json:"username"`
	Password   string `json:"password"`
	DeviceName string `json:"device_name,omitempty"`
	DeviceID   string `json:"device_id,omitempty"`
}

// RefreshRequest is the body of POST /v1/auth/refresh, empty where a cookie carries the token.
// Logout takes it too, for a client whose access token has ended.
type RefreshRequest struct {
	RefreshToken string `json:"refresh_token,omitempty"`
}

// Tokens answers login and refresh. RefreshToken is absent where a cookie carries it.
type Tokens struct {
	AccessToken  string    `json:"access_token"`
	TokenType    string    `json:"token_type"`
	ExpiresIn    int       `json:"expires_in"`
	RefreshToken string    `json:"refresh_token,omitempty"`
	User         User      `json:"user"`
	DeviceID     DeviceID  `json:"device_id"`
	SessionID    SessionID `json:"session_id"`
}

// User is an account as its owner sees it.
type User struct {
	ID          UserID     `json:"id"`
	Username    string     `json:"username"`
	DisplayName string     `json:"display_name"`
	CreatedAt   time.Time  `json:"created_at"`
	ExpiresAt   *time.Time `json:"expires_at,omitempty"`
}

// UserChange is the body of PATCH /v1/users/me; an absent field stays as it is.
type UserChange struct {
	DisplayName *string `json:"display_name,omitempty"`
}

// PasswordChange is the body of POST /v1/users/me/password. The answer is 204; all other sessions end.
type PasswordChange struct {
	CurrentPassword string `json:"current_password"`
	NewPassword     string `json:"new_password"`
}

// SessionView is one live login of the caller.
type SessionView struct {
	ID         SessionID `json:"id"`
	DeviceID   DeviceID  `json:"device_id"`
	DeviceName string    `json:"device_name"`
	Address    string    `json:"address"`
	CreatedAt  time.Time `json:"created_at"`
	LastUsedAt time.Time `json:"last_used_at"`
	Current    bool      `json:"current"`
}

// Sessions answers GET /v1/auth/sessions.
type Sessions struct {
	Sessions []SessionView `json:"sessions"`
}

// AccountRemoval is the body of DELETE /v1/users/me: a stolen access token alone removes nobody.
type AccountRemoval struct {
	Password string `json:"password"`
}
