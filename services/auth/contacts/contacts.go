// Package contacts knows who is whose contact, who has asked whom, and who has blocked whom; and it finds people.
// It never tells that somebody blocked or rejected the one who asks: to them it looks like a request that waits, and
// like an account that is not there.
package contacts

import (
	"context"
	"log/slog"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/ratelimit"
	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/wire"
)

// Service is the rules of contacts. Its methods are what HTTP calls, and where permission is decided.
type Service struct {
	store   *store
	limiter *ratelimit.Limiter
	hints   *hints
	now     func() time.Time
}

// Parts are what a Service is made of. Redis may be nil, Now too.
type Parts struct {
	Log   *slog.Logger
	SQL   *sqlstore.Store
	Redis *redis.Client
	Now   func() time.Time
}

// New puts a Service together.
func New(parts Parts) *Service {
	if parts.Now == nil {
		parts.Now = time.Now
	}
	return &Service{
		store:   &store{db: parts.SQL},
		limiter: ratelimit.New(parts.Redis, parts.Now),
		hints:   &hints{log: parts.Log, redis: parts.Redis},
		now:     parts.Now,
	}
}

// Without Redis each host counts for itself: finding people goes on, and nobody reads the directory out meanwhile.
var (
	ruleSearch = ratelimit.Rule{Burst: 100, Every: 9 * time.Second}
	ruleAsk    = ratelimit.Rule{Burst: 50, Every: 30 * time.Second}
	// Asking and cancelling in turn would ring at somebody's door all day.
	ruleAskOne = ratelimit.Rule{Burst: 5, Every: 10 * time.Minute}
)

const (
	minSearch = 2
	maxFound  = 20
)

// usernameStart is how a username can begin; nobody is called like anything else.
var usernameStart = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{1,31}$`)

// Search finds people by the start of their username, in order: at most 20, never the caller, nobody whose account is
// disabled or expired, nobody who has blocked the caller. Too short a start is Invalid, too many searches TooMany.
func (s *Service) Search(ctx context.Context, caller wire.Session, start string) ([]wire.Profile, error) {
	const op = "contacts.Search"
	start = strings.ToLower(strings.TrimSpace(start))
	if utf8.RuneCountInString(start) < minSearch {
		return nil, apperr.E(op, apperr.Invalid, "Search with at least two characters of the username.", nil, apperr.Code("invalid_search"))
	}
	err := s.take(ctx, op, ratelimit.Bucket{Key: "contacts:search:" + string(caller.UserID), Rule: ruleSearch})
	if err != nil {
		return nil, err
	}
	if !usernameStart.MatchString(start) {
		return []wire.Profile{}, nil
	}
	found, err := s.store.search(ctx, caller.UserID, start, s.now())
	return found, apperr.OrUnavailable(op, err)
}

// Profile is somebody by id. An account that is disabled, expired or has blocked the caller is NotFound, like one that
// never was.
func (s *Service) Profile(ctx context.Context, caller wire.Session, id wire.UserID) (wire.Profile, error) {
	found, err := s.store.profile(ctx, caller.UserID, id, s.now())
	return found, apperr.OrUnavailable("contacts.Profile", err)
}

// List is a page of the caller's relations, by id, from behind after; all of them are reached by following Next.
func (s *Service) List(ctx context.Context, caller wire.Session, after wire.UserID) (wire.Contacts, error) {
	page, err := s.store.list(ctx, caller.UserID, after)
	return page, apperr.OrUnavailable("contacts.List", err)
}

// Ask asks somebody to be a contact, or agrees to who has asked. Asked again, the request stays as it is. To somebody
// the caller blocks it is Conflict; whether the other has blocked or rejected the caller, nobody can see from the answer.
func (s *Service) Ask(ctx context.Context, caller wire.Session, other wire.UserID) (wire.Contact, error) {
	const op = "contacts.Ask"
	err := s.take(ctx, op,
		ratelimit.Bucket{Key: "contacts:ask:" + string(caller.UserID), Rule: ruleAsk},
		ratelimit.Bucket{Key: "contacts:ask:" + string(caller.UserID) + ":" + string(other), Rule: ruleAskOne})
	if err != nil {
		return wire.Contact{}, err
	}
	return s.change(ctx, op, caller, other, ask)
}

// Accept makes a contact of who has asked the caller. Where nobody has, it is NotFound.
func (s *Service) Accept(ctx context.Context, caller wire.Session, other wire.UserID) (wire.Contact, error) {
	return s.change(ctx, "contacts.Accept", caller, other, accept)
}

// Reject takes a request from the caller's sight. Who asked is not told, and does not reach the caller again for 30 days.
func (s *Service) Reject(ctx context.Context, caller wire.Session, other wire.UserID) error {
	_, err := s.change(ctx, "contacts.Reject", caller, other, reject)
	return err
}

// Remove ends a contact for both, or cancels the caller's own request. Where there is neither, it is NotFound.
func (s *Service) Remove(ctx context.Context, caller wire.Session, other wire.UserID) error {
	_, err := s.change(ctx, "contacts.Remove", caller, other, remove)
	return err
}

// Block ends whatever was between the two, and keeps the other away from then on.
func (s *Service) Block(ctx context.Context, caller wire.Session, other wire.UserID) error {
	_, err := s.change(ctx, "contacts.Block", caller, other, block)
	return err
}

// Unblock ends the caller's block and restores nothing of what was before. Where there is none, it is NotFound.
func (s *Service) Unblock(ctx context.Context, caller wire.Session, other wire.UserID) error {
	_, err := s.change(ctx, "contacts.Unblock", caller, other, unblock)
	return err
}

// Relations is what a service must know before it lets user write to other. For services only.
func (s *Service) Relations(ctx context.Context, user, other wire.UserID) (wire.Relations, error) {
	found, err := s.store.relations(ctx, user, other, s.now())
	return found, apperr.OrUnavailable("contacts.Relations", err)
}

// Ready fails while the migrations have not run.
func (s *Service) Ready(ctx context.Context) error { return s.store.ready(ctx) }

func (s *Service) change(ctx context.Context, op string, caller wire.Session, other wire.UserID, apply rule) (wire.Contact, error) {
	if caller.UserID == other {
		return wire.Contact{}, apperr.E(op, apperr.Invalid, "That is yourself.", nil, apperr.Code("yourself"))
	}
	c, err := s.store.change(ctx, caller.UserID, other, stamp(s.now()), apply)
	if err != nil {
		return wire.Contact{}, apperr.OrUnavailable(op, err)
	}
	s.hints.changed(ctx, c)
	return c.contact, nil
}

func (s *Service) take(ctx context.Context, op string, buckets ...ratelimit.Bucket) error {
	if verdict := s.limiter.Take(ctx, buckets...); !verdict.Allowed {
		return apperr.E(op, apperr.TooMany, "Too many requests. Try again later.", nil, apperr.RetryAfter(verdict.Wait))
	}
	return nil
}

// stamp is a time as the store keeps it, so that what is answered now equals what is read later.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
