// Package auth knows who somebody is: accounts, passwords, sessions and the tokens that stand for them.
// It alone makes access tokens. What a person may do elsewhere is decided there.
package auth

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/config"
	"secureconnect/services/internal/ratelimit"
	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/token"
	"secureconnect/services/internal/wire"
)

// Service is the rules of auth. Its methods are what HTTP and the user commands call, and where permission is decided.
type Service struct {
	log          *slog.Logger
	store        *store
	signer       *token.Signer
	verifier     *token.Verifier
	refreshKey   refreshKey
	hasher       *hasher
	throttle     *throttle
	hints        *hints
	registration string
	now          func() time.Time
}

// Parts are what a Service is made of. Redis may be nil, Now too.
type Parts struct {
	Log          *slog.Logger
	SQL          *sqlstore.Store
	Redis        *redis.Client
	TokenSecret  config.Secret
	Registration string
	Now          func() time.Time
}

// New puts a Service together. Close it when done.
func New(parts Parts) (*Service, error) {
	if parts.Now == nil {
		parts.Now = time.Now
	}
	signer, err := token.NewSigner(parts.TokenSecret)
	if err != nil {
		return nil, err
	}
	verifier, err := token.NewVerifier(signer.Keys())
	if err != nil {
		return nil, err
	}
	key, err := newRefreshKey(parts.TokenSecret)
	if err != nil {
		return nil, err
	}
	return &Service{
		log:          parts.Log,
		store:        &store{db: parts.SQL},
		signer:       signer,
		verifier:     verifier,
		refreshKey:   key,
		hasher:       newHasher(currentCost),
		throttle:     &throttle{limiter: ratelimit.New(parts.Redis, parts.Now)},
		hints:        &hints{log: parts.Log, redis: parts.Redis},
		registration: parts.Registration,
		now:          parts.Now,
	}, nil
}

// Close stops what the service started.
func (s *Service) Close() { s.hasher.close() }

// Authenticate gives the session of an access token, if the store says that session and account are live: what was
// revoked a moment ago is refused here, whatever Redis knows. It fails with Unauthenticated or Unavailable.
func (s *Service) Authenticate(ctx context.Context, accessToken string) (wire.Session, error) {
	const op = "auth.Authenticate"
	if accessToken == "" {
		return wire.Session{}, apperr.E(op, apperr.Unauthenticated, "Log in first.", nil, apperr.Code("token_missing"))
	}
	now := s.now()
	session, err := s.verifier.Verify(accessToken, now)
	if errors.Is(err, token.ErrExpired) {
		return wire.Session{}, apperr.E(op, apperr.Unauthenticated, "The access token has expired.", err, apperr.Code("token_expired"))
	}
	if err != nil {
		return wire.Session{}, apperr.E(op, apperr.Unauthenticated, "The access token is not valid.", err, apperr.Code("token_invalid"))
	}
	live, err := s.store.sessionLive(ctx, session.SessionID, now)
	if err != nil {
		return wire.Session{}, apperr.OrUnavailable(op, err)
	}
	if !live {
		return wire.Session{}, ended(op)
	}
	return session, nil
}

// SessionLive fails with NotFound for a session that has ended or never was. For services, which ask for their sockets.
func (s *Service) SessionLive(ctx context.Context, id wire.SessionID) error {
	const op = "auth.SessionLive"
	live, err := s.store.sessionLive(ctx, id, s.now())
	if err != nil {
		return apperr.OrUnavailable(op, err)
	}
	if !live {
		return apperr.E(op, apperr.NotFound, "There is no such session.", nil, apperr.Code("session_ended"))
	}
	return nil
}

// Keys is what everybody else checks access tokens with.
func (s *Service) Keys() token.KeySet { return s.signer.Keys() }

func ended(op string) error {
	return apperr.E(op, apperr.Unauthenticated, "The session has ended. Log in again.", nil, apperr.Code("session_ended"))
}
