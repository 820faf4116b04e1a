package auth

import (
	"context"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/config"
	"secureconnect/services/internal/wire"
)

// Why a session ended, for the store.
const (
	forLogout   = "logout"
	forReuse    = "reuse"
	forReplaced = "replaced"
	forRevoked  = "revoked"
	forPassword = "password"
	forDisabled = "disabled"
)

// Logout ends the caller's session.
func (s *Service) Logout(ctx context.Context, caller wire.Session) error {
	_, err := s.end(ctx, caller.UserID, caller.SessionID, forLogout)
	return err
}

// LogoutByRefresh ends the session of a refresh token, for a client whose access token has expired. A token that is
// nobody's is Unauthenticated.
func (s *Service) LogoutByRefresh(ctx context.Context, refresh config.Secret) error {
	const op = "auth.LogoutByRefresh"
	if !wellFormed(refresh) {
		return badRefresh(op)
	}
	session, err := s.store.sessionOfRefresh(ctx, hashOf(refresh))
	if err != nil {
		return apperr.OrUnavailable(op, err)
	}
	return s.Logout(ctx, session)
}

// Sessions lists the caller's live sessions, the latest used first.
func (s *Service) Sessions(ctx context.Context, caller wire.Session) ([]wire.SessionView, error) {
	views, err := s.store.sessionsOf(ctx, caller.UserID, s.now())
	if err != nil {
		return nil, apperr.OrUnavailable("auth.Sessions", err)
	}
	for i := range views {
		views[i].Current = views[i].ID == caller.SessionID
	}
	return views, nil
}

// Revoke ends one of the caller's sessions. Somebody else's is NotFound like one that never was.
func (s *Service) Revoke(ctx context.Context, caller wire.Session, id wire.SessionID) error {
	found, err := s.end(ctx, caller.UserID, id, forRevoked)
	if err != nil {
		return err
	}
	if !found {
		return apperr.E("auth.Revoke", apperr.NotFound, "There is no such session.", nil, apperr.Code("no_such_session"))
	}
	return nil
}

func (s *Service) end(ctx context.Context, user wire.UserID, id wire.SessionID, reason string) (found bool, err error) {
	found, err = s.store.revoke(ctx, user, id, reason, s.now())
	if err != nil {
		return false, apperr.OrUnavailable("auth.end", err)
	}
	if found {
		s.hints.revoked(ctx, id)
	}
	return found, nil
}
