package chat

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"

	"github.com/google/uuid"

	"secureconnect/services/internal/wire"
)

func TestCallers(t *testing.T) {
	w := newWorld(t)
	s := w.host()
	ada, bob, eve, gone := newUser(), newUser(), newUser(), newUser()
	group := w.group(s, ada, bob, gone)
	if err := s.Remove(t.Context(), ada, group, gone.UserID); err != nil {
		t.Fatal(err)
	}
	made, _, err := s.Create(t.Context(), ada, wire.ConversationRequest{Kind: wire.KindDirect, UserID: bob.UserID})
	if err != nil {
		t.Fatal(err)
	}
	direct := made.ID

	t.Run("are_the_members_of_now", func(t *testing.T) {
		got, err := s.Callers(t.Context(), group, bob.UserID)
		if err != nil || got.Kind != wire.KindGroup || len(got.Members) != 2 || !slices.Contains(got.Members, ada.UserID) || !slices.Contains(got.Members, bob.UserID) {
			t.Errorf("got %+v, %v", got, err)
		}
		if got, err := s.Callers(t.Context(), direct, bob.UserID); err != nil || got.Kind != wire.KindDirect || len(got.Members) != 2 {
			t.Errorf("got %+v, %v", got, err)
		}
	})
	t.Run("are_told_to_no_one_else", func(t *testing.T) {
		for _, who := range []wire.Session{eve, gone} {
			_, err := s.Callers(t.Context(), group, who.UserID)
			wantCode(t, err, "no_such_conversation")
			_, err = s.Callers(t.Context(), direct, who.UserID)
			wantCode(t, err, "no_such_conversation")
		}
		_, err := s.Callers(t.Context(), wire.ConversationID(uuid.NewString()), ada.UserID)
		wantCode(t, err, "no_such_conversation")
	})
	t.Run("who_is_blocked_calls_nobody", func(t *testing.T) {
		for _, relation := range []wire.Relations{{Blocked: true}, {Blocking: true}} {
			w.friends.set(ada.UserID, bob.UserID, relation)
			_, err := s.Callers(t.Context(), direct, ada.UserID)
			wantCode(t, err, "cannot_call")
		}
		if _, err := s.Callers(t.Context(), group, ada.UserID); err != nil {
			t.Errorf("in a group: %v", err)
		}
	})
	t.Run("what_auth_cannot_say_is_no_yes", func(t *testing.T) {
		w.friends.leave(true)
		defer w.friends.leave(false)
		_, err := s.Callers(t.Context(), direct, bob.UserID)
		wantCode(t, err, "unavailable")
	})
	t.Run("over_http", func(t *testing.T) {
		d := newDoor(t, s)
		response, err := d.server.Client().Get(d.server.URL + wire.PathCallers + string(group) + "/" + string(bob.UserID))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		var got wire.Callers
		if err := json.NewDecoder(response.Body).Decode(&got); err != nil || len(got.Members) != 2 {
			t.Errorf("got %+v, %v", got, err)
		}
		for path, want := range map[string]string{"x/" + string(bob.UserID): "no_such_conversation", string(group) + "/x": "no_such_member"} {
			if status, code := d.ask("GET", wire.PathCallers+path, "", nil); status != http.StatusNotFound || code != want {
				t.Errorf("%s: %d %s", path, status, code)
			}
		}
	})
}
