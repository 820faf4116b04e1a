// Package video carries calls: who is called and who comes, on which app host a call lives, and through its SFU what is sent there.
// It reads no media: frames are encrypted by who sends them.
package video

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/cqlstore"
	"secureconnect/services/internal/ratelimit"
	"secureconnect/services/internal/session"
	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/wire"
)

const (
	// ringTime is how long a call rings for who has not answered.
	ringTime = 45 * time.Second
	// emptyTime is how long a call lasts to which nobody is connected.
	emptyTime = 60 * time.Second
	// keptTime is how long a call that has ended can still be asked for.
	keptTime = 24 * time.Hour
	// testTime is how long a call with oneself lasts.
	testTime = 60 * time.Second

	// maxParticipants bounds a call; conversations that are larger do not ring.
	maxParticipants = 50
)

// Callers says who may be in a call of a conversation, if user may be: it fails with NotFound or Forbidden where not, with Unavailable
// where nobody can say.
type Callers func(ctx context.Context, id wire.ConversationID, user wire.UserID) (wire.Callers, error)

// Service is the rules of calls, over the stores. Its methods are what HTTP and sockets call, and where permission is decided.
type Service struct {
	log      *slog.Logger
	store    *store
	records  records
	callers  Callers
	verifier session.Verifier
	hints    *hints
	limits   *ratelimit.Limiter
	now      func() time.Time
	unlogged chan struct{} // has one waiting when a call may have to be logged
}

// Parts are what a Service is made of. Redis may be nil: then nobody is told, and everybody asks in time.
type Parts struct {
	Log      *slog.Logger
	SQL      *sqlstore.Store
	CQL      *cqlstore.Store
	Redis    *redis.Client
	Callers  Callers
	Verifier session.Verifier
	Now      func() time.Time // nil: the clock
}

// New puts a Service together.
func New(parts Parts) *Service {
	if parts.Now == nil {
		parts.Now = time.Now
	}
	return &Service{
		log:      parts.Log,
		store:    &store{db: parts.SQL},
		records:  newCassandra(parts.CQL),
		callers:  parts.Callers,
		verifier: parts.Verifier,
		hints:    &hints{log: parts.Log, redis: parts.Redis},
		limits:   ratelimit.New(parts.Redis, parts.Now),
		now:      parts.Now,
		unlogged: make(chan struct{}, 1),
	}
}

// Authenticate gives the session of an access token. Whether that session was ended since, the gateway has asked.
// It fails with Unauthenticated or Unavailable.
func (s *Service) Authenticate(ctx context.Context, accessToken string) (wire.Session, error) {
	return session.Of(ctx, s.verifier, accessToken, s.now())
}

func noCall(op string) error {
	return apperr.E(op, apperr.NotFound, "There is no such call.", nil, apperr.Code("no_such_call"))
}

func callOver(op string) error {
	return apperr.E(op, apperr.Conflict, "This call is over.", nil, apperr.Code("call_ended"))
}

// Limits of what one user may do.
var (
	beginLimit = ratelimit.Rule{Burst: 12, Every: 5 * time.Second}
	testLimit  = ratelimit.Rule{Burst: 4, Every: time.Minute}
	enterLimit = ratelimit.Rule{Burst: 30, Every: time.Second}
)

func (s *Service) bounded(ctx context.Context, op string, user wire.UserID, rule ratelimit.Rule) error {
	if verdict := s.limits.Take(ctx, ratelimit.Bucket{Key: op + ":" + string(user), Rule: rule}); !verdict.Allowed {
		return apperr.Overrun(op, verdict.Wait)
	}
	return nil
}

// Begin begins a call in a conversation, or gives the one that goes on there, which is what two get who call each other at once. The same
// request again has the same answer. New reports whether it was begun now.
//
// NotFound: the caller is not in the conversation. Forbidden: one of two blocks the other. Conflict: the client id stands for another call.
func (s *Service) Begin(ctx context.Context, caller wire.Session, request wire.CallRequest) (call wire.Call, isNew bool, err error) {
	const op = "video.Begin"
	if _, err := wire.ParseConversationID(string(request.ConversationID)); err != nil {
		return wire.Call{}, false, apperr.E(op, apperr.NotFound, "There is no such conversation.", err, apperr.Code("no_such_conversation"))
	}
	if _, _, err := wire.ParseClientID(string(request.ClientID)); err != nil {
		return wire.Call{}, false, apperr.E(op, apperr.Invalid, "A call's client_id is a UUIDv7.", err, apperr.Code("invalid_client_id"))
	}
	if request.Media != wire.MediaAudio && request.Media != wire.MediaVideo {
		return wire.Call{}, false, apperr.E(op, apperr.Invalid, "The media of a call is audio or video.", nil, apperr.Code("invalid_media"))
	}
	callers, err := s.callers(ctx, request.ConversationID, caller.UserID)
	if err != nil {
		return wire.Call{}, false, err
	}
	if err := s.bounded(ctx, op, caller.UserID, beginLimit); err != nil {
		return wire.Call{}, false, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return wire.Call{}, false, apperr.OrUnavailable(op, err)
	}
	begun, isNew, err := s.store.begin(ctx, beginning{
		id: wire.CallID(id.String()), request: request, by: caller, direct: callers.Kind == wire.KindDirect, members: callers.Members,
	})
	if err != nil {
		return wire.Call{}, false, apperr.OrUnavailable(op, err)
	}
	if isNew {
		s.changed(ctx, begun)
	}
	return begun.Call, isNew, nil
}

// Test begins a call of the caller with themselves.
func (s *Service) Test(ctx context.Context, caller wire.Session) (wire.Call, error) {
	const op = "video.Test"
	if err := s.bounded(ctx, op, caller.UserID, testLimit); err != nil {
		return wire.Call{}, err
	}
	id, clientID := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	begun, _, err := s.store.begin(ctx, beginning{
		id: wire.CallID(id.String()), by: caller, members: []wire.UserID{caller.UserID},
		request: wire.CallRequest{ClientID: wire.ClientID(clientID.String()), Media: wire.MediaVideo},
	})
	return begun.Call, apperr.OrUnavailable(op, err)
}

// Calls lists what goes on for the caller.
func (s *Service) Calls(ctx context.Context, caller wire.Session) (wire.CallList, error) {
	found, err := s.store.of(ctx, caller.UserID)
	if err != nil {
		return wire.CallList{}, apperr.OrUnavailable("video.Calls", err)
	}
	return wire.CallList{Calls: found}, nil
}

// Call is one call, to who is or was called there: NotFound for everybody else.
func (s *Service) Call(ctx context.Context, caller wire.Session, id wire.CallID) (wire.Call, error) {
	const op = "video.Call"
	found, err := s.store.call(ctx, id)
	if err != nil {
		return wire.Call{}, apperr.OrUnavailable(op, err)
	}
	if _, among := memberOf(found.Call, caller.UserID); !among {
		return wire.Call{}, noCall(op)
	}
	return found.Call, nil
}

func memberOf(call wire.Call, user wire.UserID) (wire.CallMember, bool) {
	for _, member := range call.Members {
		if member.UserID == user {
			return member, true
		}
	}
	return wire.CallMember{}, false
}

// Decline stops a call's ringing for the caller, on all their devices. One who does not ring any more declines nothing, and that is no
// error.
func (s *Service) Decline(ctx context.Context, caller wire.Session, id wire.CallID) error {
	return s.quit(ctx, "video.Decline", caller, id, wire.MemberDeclined)
}

// Leave hangs up for the caller: who began a call that nobody has answered cancels it.
func (s *Service) Leave(ctx context.Context, caller wire.Session, id wire.CallID) error {
	return s.quit(ctx, "video.Leave", caller, id, wire.MemberLeft)
}

func (s *Service) quit(ctx context.Context, op string, caller wire.Session, id wire.CallID, state string) error {
	if _, err := s.Call(ctx, caller, id); err != nil {
		return err
	}
	_, err := s.move(ctx, op, id, caller.UserID, state, wire.EndedLeft)
	return err
}

// move puts a member into a state, ends the call where that is the end of it, and tells everybody. Reason is why it ends if it was answered.
func (s *Service) move(ctx context.Context, op string, id wire.CallID, user wire.UserID, state, reason string) (stored, error) {
	after, changed, err := s.store.quit(ctx, id, user, state, reason)
	if err != nil {
		return stored{}, apperr.OrUnavailable(op, err)
	}
	if changed {
		s.changed(ctx, after)
	}
	return after, nil
}

// enter lets a user who may be there into a call, from a device: it is theirs then, and every other call of theirs is left.
func (s *Service) enter(ctx context.Context, caller wire.Session, id wire.CallID) (stored, error) {
	const op = "video.enter"
	if err := s.bounded(ctx, op, caller.UserID, enterLimit); err != nil {
		return stored{}, err
	}
	after, changed, err := s.store.enter(ctx, id, caller)
	if err != nil {
		return stored{}, apperr.OrUnavailable(op, err)
	}
	for _, call := range changed {
		s.changed(ctx, call)
	}
	return after, nil
}

// mayEnter says whether a user may be in a call: NotFound where not, as for a call that is not there; Conflict where it is over.
func (s *Service) mayEnter(ctx context.Context, caller wire.Session, id wire.CallID) (stored, error) {
	const op = "video.mayEnter"
	found, err := s.store.call(ctx, id)
	if err != nil {
		return stored{}, apperr.OrUnavailable(op, err)
	}
	if found.Test {
		if found.StartedBy != caller.UserID {
			return stored{}, noCall(op)
		}
	} else if _, err := s.callers(ctx, found.ConversationID, caller.UserID); err != nil {
		if apperr.Is(err, apperr.NotFound) {
			return stored{}, noCall(op) // as for who never was a member
		}
		return stored{}, err
	}
	if found.EndedAt != nil {
		return stored{}, callOver(op)
	}
	return found, nil
}

// endedBy is why a call that is over has ended.
func (s *Service) endedBy(ctx context.Context, id wire.CallID) string {
	found, err := s.store.call(ctx, id)
	if err != nil || found.Reason == "" {
		return wire.EndedLeft
	}
	return found.Reason
}

// changed tells the members' devices, and has a call that is over logged.
func (s *Service) changed(ctx context.Context, call stored) {
	users := make([]wire.UserID, len(call.Members))
	for i, member := range call.Members {
		users[i] = member.UserID
	}
	s.hints.calls(ctx, users)
	if call.EndedAt != nil {
		s.logSoon()
	}
}

var (
	errSeenLater = errors.New("seen in the future")
	errMark      = errors.New("not the mark of a page")
)

// Seen notes that the caller has seen what was missed up to a moment. It never goes back.
func (s *Service) Seen(ctx context.Context, caller wire.Session, at time.Time) error {
	const op = "video.Seen"
	if at.After(s.now().Add(time.Minute)) {
		return apperr.E(op, apperr.Invalid, "Nobody has seen what is to come.", errSeenLater, apperr.Code("invalid_time"))
	}
	return apperr.OrUnavailable(op, s.store.setSeen(ctx, caller.UserID, at))
}
