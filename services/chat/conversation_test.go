package chat

import (
	"slices"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"secureconnect/services/internal/wire"
)

func (w *world) wantEvents(s *Service, as wire.Session, id wire.ConversationID, want ...string) {
	w.t.Helper()
	var got []string
	for _, item := range w.readAll(s, as, id) {
		if item.Event != nil {
			got = append(got, item.Event.Type)
		}
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("events are %q, want %q", got, want)
	}
}

func role(t *testing.T, s *Service, as wire.Session, id wire.ConversationID) string {
	t.Helper()
	c, err := s.Conversation(t.Context(), as, id)
	if err != nil {
		t.Fatal(err)
	}
	return c.Role
}

func TestDirect(t *testing.T) {
	w := newWorld(t)
	hosts := []*Service{w.host(), w.host()}
	ada, bob, eve := newUser(), newUser(), newUser()
	with := func(user wire.UserID) wire.ConversationRequest {
		return wire.ConversationRequest{Kind: wire.KindDirect, UserID: user}
	}
	ids, fresh := make([]wire.ConversationID, 10), make([]bool, 10)
	group, ctx := errgroup.WithContext(t.Context())
	for i := range ids {
		from, to := ada, bob
		if i%2 == 1 {
			from, to = bob, ada
		}
		group.Go(func() error {
			made, isNew, err := hosts[i%2].Create(ctx, from, with(to.UserID))
			ids[i], fresh[i] = made.ID, isNew
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	made := len(slices.DeleteFunc(slices.Clone(fresh), func(isNew bool) bool { return !isNew }))
	if slices.Sort(ids); ids[0] != ids[len(ids)-1] || made != 1 {
		t.Errorf("two people who begin at the same time have %v, of which %d are new", ids, made)
	}
	s, id := hosts[0], ids[0]
	w.send(s, ada, id, "hello")
	w.send(s, bob, id, "hi")
	w.wantBodies(w.readAll(s, ada, id), "hello", "hi")

	t.Run("outsider_learns_nothing", func(t *testing.T) {
		w.friends.leave(true) // nobody is even asked
		defer w.friends.leave(false)
		_, err := s.Send(t.Context(), eve, id, text("x"))
		wantCode(t, err, "no_such_conversation")
	})
	t.Run("stays_one_of_two", func(t *testing.T) {
		name := "Us"
		_, err := s.Change(t.Context(), ada, id, wire.ConversationChange{Name: &name})
		wantCode(t, err, "direct_conversation")
		_, err = s.Add(t.Context(), ada, id, []wire.UserID{eve.UserID})
		wantCode(t, err, "direct_conversation")
		wantCode(t, s.Remove(t.Context(), ada, id, bob.UserID), "direct_conversation")
		wantCode(t, s.Remove(t.Context(), ada, id, ada.UserID), "direct_conversation")
		wantCode(t, s.SetRole(t.Context(), ada, id, ada.UserID, wire.RoleOwner), "direct_conversation")
	})
	t.Run("block_stops_writing_both_ways", func(t *testing.T) {
		w.friends.set(ada.UserID, bob.UserID, wire.Relations{Blocked: true, Active: true})
		w.friends.set(bob.UserID, ada.UserID, wire.Relations{Blocking: true, Active: true})
		for _, who := range []wire.Session{ada, bob} {
			_, err := s.Send(t.Context(), who, id, text("x"))
			wantCode(t, err, "cannot_write")
		}
		if again, isNew, err := s.Create(t.Context(), ada, with(bob.UserID)); err != nil || isNew || again.ID != id {
			t.Errorf("the conversation that was is gone: %+v, %v", again, err)
		}
	})
	t.Run("unknown_relation_is_no_yes", func(t *testing.T) {
		w.friends.leave(true)
		defer w.friends.leave(false)
		_, err := s.Send(t.Context(), ada, id, text("x"))
		wantCode(t, err, "unavailable")
		_, _, err = s.Create(t.Context(), ada, with(eve.UserID))
		wantCode(t, err, "unavailable")
	})
	t.Run("is_for_contacts", func(t *testing.T) {
		for _, relation := range []wire.Relations{{Active: true}, {Contact: true}, {Contact: true, Active: true, Blocked: true}} {
			w.friends.set(ada.UserID, eve.UserID, relation)
			_, _, err := s.Create(t.Context(), ada, with(eve.UserID))
			wantCode(t, err, "not_a_contact")
		}
		_, _, err := s.Create(t.Context(), ada, with(ada.UserID))
		wantCode(t, err, "invalid_conversation")
	})
}

func TestGroup(t *testing.T) {
	w := newWorld(t)
	s := w.host()
	ada, bob, cem, dan := newUser(), newUser(), newUser(), newUser()
	ctx := t.Context()

	t.Run("is_made_once_under_its_client_id", func(t *testing.T) {
		request := wire.ConversationRequest{Kind: wire.KindGroup, Name: " Lunch ", ClientID: newClientID(), Members: []wire.UserID{bob.UserID, bob.UserID}}
		first, isNew, err := s.Create(ctx, ada, request)
		if err != nil || !isNew || first.Name != "Lunch" || first.Role != wire.RoleOwner || first.Head != 1 {
			t.Fatalf("got %+v, %v", first, err)
		}
		again, isNew, err := s.Create(ctx, ada, request)
		if err != nil || isNew || again.ID != first.ID {
			t.Errorf("got %+v, %v", again, err)
		}
		other, isNew, err := s.Create(ctx, bob, wire.ConversationRequest{Kind: wire.KindGroup, Name: "Mine", ClientID: request.ClientID})
		if err != nil || !isNew || other.ID == first.ID {
			t.Errorf("somebody else's client id leads to their group: %+v, %v", other, err)
		}
	})
	t.Run("roles", func(t *testing.T) {
		id := w.group(s, ada, bob, cem, dan)
		name := "Dinner"
		_, err := s.Change(ctx, bob, id, wire.ConversationChange{Name: &name})
		wantCode(t, err, "not_allowed")
		wantCode(t, s.SetRole(ctx, bob, id, bob.UserID, wire.RoleOwner), "not_allowed")
		wantCode(t, s.Remove(ctx, bob, id, cem.UserID), "not_allowed")
		_, err = s.Add(ctx, bob, id, []wire.UserID{newUser().UserID})
		wantCode(t, err, "not_allowed")
		wantCode(t, s.SetRole(ctx, ada, id, ada.UserID, wire.RoleMember), "last_owner")
		wantCode(t, s.SetRole(ctx, ada, id, newUser().UserID, wire.RoleAdmin), "no_such_member")
		wantCode(t, s.SetRole(ctx, ada, id, bob.UserID, "king"), "invalid_role")
		for _, admin := range []wire.Session{bob, cem} {
			if err := s.SetRole(ctx, ada, id, admin.UserID, wire.RoleAdmin); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Change(ctx, bob, id, wire.ConversationChange{Name: &name}); err != nil {
			t.Error(err)
		}
		if _, err := s.Change(ctx, bob, id, wire.ConversationChange{Name: &name}); err != nil { // the same again is no event
			t.Error(err)
		}
		wantCode(t, s.SetRole(ctx, bob, id, dan.UserID, wire.RoleAdmin), "not_allowed")
		wantCode(t, s.Remove(ctx, bob, id, ada.UserID), "not_allowed")
		wantCode(t, s.Remove(ctx, bob, id, cem.UserID), "not_allowed")
		if err := s.Remove(ctx, bob, id, dan.UserID); err != nil {
			t.Error(err)
		}
		wantCode(t, s.Remove(ctx, bob, id, dan.UserID), "no_such_member")
		w.wantEvents(s, ada, id, "created", "role", "role", "renamed", "removed")
	})
	t.Run("last_owner_leaves_to_the_longest_standing_admin", func(t *testing.T) {
		id := w.group(s, ada, bob)
		for _, who := range []wire.Session{cem, dan} {
			if _, err := s.Add(ctx, ada, id, []wire.UserID{who.UserID}); err != nil {
				t.Fatal(err)
			}
			if err := s.SetRole(ctx, ada, id, who.UserID, wire.RoleAdmin); err != nil {
				t.Fatal(err)
			}
		}
		for _, leave := range []struct{ who, successor wire.Session }{{ada, cem}, {cem, dan}, {dan, bob}} {
			if err := s.Remove(ctx, leave.who, id, leave.who.UserID); err != nil {
				t.Fatal(err)
			}
			if got := role(t, s, leave.successor, id); got != wire.RoleOwner {
				t.Errorf("the successor is %s", got)
			}
		}
		if err := s.Remove(ctx, bob, id, bob.UserID); err != nil {
			t.Error(err)
		}
		_, err := s.Conversation(ctx, bob, id)
		wantCode(t, err, "no_such_conversation")
		items := w.readAll(s, bob, id)
		if last := items[len(items)-1]; last.Event == nil || last.Event.Type != wire.EventLeft || last.Event.Successor != "" {
			t.Errorf("the last one sees %+v", last)
		}
	})
	t.Run("has_a_bound", func(t *testing.T) {
		id := w.group(s, ada)
		w.exec(`INSERT INTO conversation_members (conversation_id, user_id, joined_seq, role)
			SELECT $1, gen_random_uuid(), 1, 'member' FROM generate_series(1, $2)`, id, maxMembers-2)
		if _, err := s.Add(ctx, ada, id, []wire.UserID{bob.UserID}); err != nil {
			t.Error(err)
		}
		_, err := s.Add(ctx, ada, id, []wire.UserID{cem.UserID})
		wantCode(t, err, "too_many_members")
	})
	t.Run("adds_contacts_once", func(t *testing.T) {
		id := w.group(s, ada, bob)
		if members, err := s.Add(ctx, ada, id, []wire.UserID{bob.UserID}); err != nil || len(members.Members) != 2 {
			t.Errorf("got %+v, %v", members, err)
		}
		stranger := newUser()
		w.friends.set(ada.UserID, stranger.UserID, wire.Relations{Active: true})
		_, err := s.Add(ctx, ada, id, []wire.UserID{stranger.UserID})
		wantCode(t, err, "not_a_contact")
		many := make([]wire.UserID, addAtOnce+1)
		for i := range many {
			many[i] = wire.UserID(uuid.NewString())
		}
		_, err = s.Add(ctx, ada, id, many)
		wantCode(t, err, "too_many_at_once")
		w.wantEvents(s, ada, id, "created")
	})
	t.Run("removal_against_sends_ends_them_at_its_number", func(t *testing.T) {
		id := w.group(s, ada, bob)
		hosts := []*Service{s, w.host()}
		group, ctx := errgroup.WithContext(ctx)
		for i := range 8 {
			group.Go(func() error {
				for range 10 {
					_, _ = hosts[i%2].Send(ctx, bob, id, text("while I may"))
				}
				return nil
			})
		}
		group.Go(func() error { return hosts[1].Remove(ctx, ada, id, bob.UserID) })
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		removed := int64(0)
		for _, item := range w.readAll(s, ada, id) {
			if item.Event != nil && item.Event.Type == wire.EventRemoved {
				removed = item.Seq
			}
			if removed > 0 && item.Sender == bob.UserID {
				t.Errorf("bob wrote %d after being removed at %d", item.Seq, removed)
			}
		}
		if removed == 0 {
			t.Error("bob was not removed")
		}
	})
}

func TestListIsPaged(t *testing.T) {
	w := newWorld(t)
	s := w.host()
	ada, bob := newUser(), newUser()
	for range 5 {
		w.group(s, ada)
	}
	left := w.group(s, bob, ada)
	if err := s.Remove(t.Context(), ada, left, ada.UserID); err != nil {
		t.Fatal(err)
	}
	var seen []wire.ConversationID
	for from := wire.ConversationID(""); ; {
		page, err := s.Conversations(t.Context(), ada, from, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range page.Conversations {
			seen = append(seen, c.ID)
		}
		if from = page.Next; from == "" {
			break
		}
	}
	if len(seen) != 5 || slices.Contains(seen, left) || !slices.IsSorted(seen) {
		t.Errorf("listed %v", seen)
	}
	_, err := s.Conversations(t.Context(), ada, "x", 2)
	wantCode(t, err, "invalid_range")
}

func TestCursors(t *testing.T) {
	w := newWorld(t)
	s := w.host()
	ada, bob := newUser(), newUser()
	id := w.group(s, ada, bob)
	for range 4 {
		w.send(s, ada, id, "x")
	}
	tablet := bob
	tablet.DeviceID = "tablet"
	move := func(who wire.Session, delivered, read int64) wire.Cursors {
		t.Helper()
		moved, err := s.MoveCursor(t.Context(), who, id, wire.CursorChange{Delivered: &delivered, Read: &read})
		if err != nil {
			t.Fatal(err)
		}
		return moved
	}
	if got := move(bob, 5, 3); got != (wire.Cursors{Delivered: 5, Read: 3}) {
		t.Errorf("got %+v", got)
	}
	if got := move(bob, 2, 1); got != (wire.Cursors{Delivered: 5, Read: 3}) {
		t.Errorf("it went back to %+v", got)
	}
	if got := move(tablet, 1, 4); got != (wire.Cursors{Delivered: 1, Read: 4}) {
		t.Errorf("the other device has %+v", got)
	}
	ahead := int64(6)
	_, err := s.MoveCursor(t.Context(), bob, id, wire.CursorChange{Read: &ahead})
	wantCode(t, err, "invalid_cursor")
	_, err = s.MoveCursor(t.Context(), newUser(), id, wire.CursorChange{})
	wantCode(t, err, "no_such_conversation")
	members, err := s.Members(t.Context(), ada, id)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range members.Members {
		if m.UserID == bob.UserID && (m.Delivered != 5 || m.Read != 4) {
			t.Errorf("others see %+v", m)
		}
	}
	if err := s.Remove(t.Context(), bob, id, bob.UserID); err != nil {
		t.Fatal(err)
	}
	_, err = s.MoveCursor(t.Context(), bob, id, wire.CursorChange{Read: &ahead})
	wantCode(t, err, "no_such_conversation")
}
