package chat

import (
	"context"
	"slices"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
)

// Callers says who may be in a call of a conversation, if this user may be. A call is no more than a message may be: not between two of
// whom one blocks the other.
func (s *Service) Callers(ctx context.Context, id wire.ConversationID, user wire.UserID) (wire.Callers, error) {
	const op = "chat.Callers"
	k, err := s.kindOf(ctx, id)
	if err != nil {
		return wire.Callers{}, apperr.OrUnavailable(op, err)
	}
	found, err := s.store.members(ctx, id)
	if err != nil {
		return wire.Callers{}, apperr.OrUnavailable(op, err)
	}
	callers := wire.Callers{Kind: wire.KindGroup, Members: make([]wire.UserID, len(found))}
	for i, member := range found {
		callers.Members[i] = member.UserID
	}
	if !slices.Contains(callers.Members, user) {
		return wire.Callers{}, noConversation(op)
	}
	if k.direct {
		callers.Kind = wire.KindDirect
	}
	switch err := s.mayWrite(ctx, user, id); {
	case apperr.Is(err, apperr.Forbidden):
		return wire.Callers{}, apperr.E(op, apperr.Forbidden, "You cannot call this person.", err, apperr.Code("cannot_call"))
	case err != nil:
		return wire.Callers{}, apperr.OrUnavailable(op, err)
	}
	return callers, nil
}
