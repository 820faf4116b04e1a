package video

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"secureconnect/services/client"
	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/wire"
	"secureconnect/services/internal/wsconn"
)

// refusedUpgrade is the problem a socket was refused with.
func (h *host) refusedUpgrade(call wire.CallID) string {
	h.world.t.Helper()
	_, err := h.client().DialSocket(within(h.world.t), client.CallSocket(call), nil)
	return client.CodeOf(err)
}

func TestSocketLife(t *testing.T) {
	w := newWorld(t)
	h := w.host("app-01")
	ada, bob, eve := newUser(), newUser(), newUser()
	call := w.begin(h.Service, ada, w.conversation(ada, bob, eve))

	t.Run("joins_and_sees_who_is_there", func(t *testing.T) {
		first := h.join(ada, call.ID)
		if j := first.joined; j.ID != "j" || j.ParticipantID == "" || len(j.Secret) < 20 || j.Resumed || len(j.Participants) != 1 || j.Host != "app-01" || j.Fence != 1 || j.Call.ID != call.ID {
			t.Errorf("joined %+v", j)
		}
		if ice := first.joined.ICE; len(ice.Servers) != 1 || len(ice.Servers[0].URLs) != 3 || !strings.HasSuffix(ice.Servers[0].Username, ":"+turnName(call.ID, ada.SessionID)) || time.Until(ice.ExpiresAt) > 10*time.Minute {
			t.Errorf("credentials %+v", ice)
		}
		second := h.join(bob, call.ID)
		if len(second.joined.Participants) != 2 || second.joined.Participants[0].UserID != ada.UserID || second.joined.Call.State != wire.CallLive {
			t.Errorf("joined %+v", second.joined)
		}
		var seen wire.ParticipantFrame
		first.next(wire.FrameParticipant, &seen)
		if seen.Participant.UserID != bob.UserID || seen.Participant.DeviceID != bob.DeviceID || !seen.Participant.Here {
			t.Errorf("saw %+v", seen)
		}
		release := w.hold(call.ID)
		second.say(wire.CallFrame{Type: wire.FrameLeave})
		var gone wire.GoneFrame
		if first.next(wire.FrameGone, &gone); gone.ParticipantID != second.joined.ParticipantID {
			t.Errorf("gone is %+v", gone)
		}
		early, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if err := second.Wait(early); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("told %v before SQL is, so that who calls again at once would be in the call that they left", err)
		}
		release()
		second.ended(wsconn.Over)
		if state := w.state(call.ID, bob.UserID); state != wire.MemberLeft {
			t.Errorf("told that it left while it is %s for SQL", state)
		}
	})
	t.Run("answers_pings", func(t *testing.T) {
		w := h.signIn(eve, call.ID)
		w.say(wire.CallFrame{Type: wire.FramePing, ID: "p"})
		var pong wire.PongFrame
		if w.next(wire.FramePong, &pong); pong.ID != "p" {
			t.Errorf("got %+v", pong)
		}
	})
	t.Run("says_when_its_token_is_due", func(t *testing.T) {
		socket := h.dial(call.ID)
		if _, err := socket.Authenticate(within(t), w.token(eve, time.Now().Add(-10*time.Minute+300*time.Millisecond))); err != nil {
			t.Fatal(err)
		}
		wantClosed(t, socket, wsconn.TokenExpired)
	})
}

func TestSocketAttacks(t *testing.T) {
	w := newWorld(t)
	h := w.host("app-01", func(p *LiveParts) { p.Limits.AuthenticateWithin = 300 * time.Millisecond })
	ada, bob, outsider := newUser(), newUser(), newUser()
	call := w.begin(h.Service, ada, w.conversation(ada, bob))

	t.Run("silence", func(t *testing.T) { wantClosed(t, h.dial(call.ID), wsconn.Unauthenticated) })
	for name, c := range map[string]struct {
		frame any
		code  wsconn.Code
	}{
		"no_token":     {wire.CallFrame{Type: wire.FrameAuth}, wsconn.BadFrame},
		"bad_token":    {wire.CallFrame{Type: wire.FrameAuth, Token: "x"}, wsconn.Unauthenticated},
		"join_first":   {wire.CallFrame{Type: wire.FrameJoin}, wsconn.BadFrame},
		"not_a_frame":  {"x", wsconn.BadFrame},
		"unknown_type": {wire.CallFrame{Type: "hijack"}, wsconn.BadFrame},
	} {
		t.Run(name, func(t *testing.T) {
			socket := h.dial(call.ID)
			if err := socket.Send(within(t), c.frame); err != nil {
				t.Fatal(err)
			}
			wantClosed(t, socket, c.code)
		})
	}
	for name, frame := range map[string]wire.CallFrame{
		"media_before_joining": {Type: wire.FrameOffer, SDP: "v=0"},
		"mute_before_joining":  {Type: wire.FrameMute, MID: "0"},
		"leave_before_joining": {Type: wire.FrameLeave},
		"too_many_slots":       {Type: wire.FrameJoin, VideoSlots: maxSlots + 1},
		"odd_wish":             {Type: wire.FrameWant, Want: map[wire.TrackID]string{"x": "all"}},
	} {
		t.Run(name, func(t *testing.T) {
			socket := h.signIn(ada, call.ID)
			socket.say(frame)
			socket.ended(wsconn.BadFrame)
		})
	}
	t.Run("another_s_session", func(t *testing.T) {
		socket := h.signIn(ada, call.ID)
		socket.say(wire.AuthFrame{Type: wire.FrameAuth, Token: w.token(bob, time.Now())})
		socket.ended(wsconn.Unauthenticated)
	})
	t.Run("an_outsider_joins_nothing", func(t *testing.T) {
		before := h.live.countRooms()
		for _, id := range []wire.CallID{call.ID, "0192f0c0-0000-7000-8000-000000000000"} {
			socket := h.signIn(outsider, id)
			socket.say(wire.CallFrame{Type: wire.FrameJoin})
			socket.refused("no_such_call")
		}
		if h.live.countRooms() != before {
			t.Error("an outsider made a room")
		}
		if code := h.refusedUpgrade("x"); code != "no_such_call" {
			t.Errorf("an odd name: %s", code)
		}
	})
	t.Run("one_s_secret_resumes_nobody_else", func(t *testing.T) {
		mine := h.join(ada, call.ID)
		theirs := h.join(bob, call.ID, resuming(mine))
		if theirs.joined.Resumed || theirs.joined.ParticipantID == mine.joined.ParticipantID {
			t.Errorf("bob goes on as ada: %+v", theirs.joined)
		}
		again := h.join(ada, call.ID, resuming(mine), func(f *wire.CallFrame) { f.Resume.Secret = theirs.joined.Secret })
		if again.joined.Resumed {
			t.Error("a wrong secret resumes")
		}
		mine.ended(wsconn.Replaced)
	})
	t.Run("descriptions_that_are_none_are_refused", func(t *testing.T) {
		socket := h.join(ada, call.ID)
		socket.say(wire.CallFrame{Type: wire.FrameOffer, ID: "o", SDP: "v=0 nonsense"})
		socket.refused("invalid_description")
		socket.say(wire.CallFrame{Type: wire.FrameMute, ID: "m", MID: "7", On: true})
		socket.refused("no_such_track")
	})
	t.Run("a_flood_is_closed", func(t *testing.T) {
		socket := h.join(bob, call.ID)
		for range frameLimits.Burst + 50 {
			if socket.Send(within(t), wire.CallFrame{Type: wire.FramePing}) != nil {
				break
			}
		}
		socket.ended(wsconn.TooMany)
	})
	t.Run("strangers_are_bounded", func(t *testing.T) {
		for range h.live.limits.UnauthenticatedSockets {
			h.dial(call.ID)
		}
		if code := h.refusedUpgrade(call.ID); code != "too_many_requests" {
			t.Errorf("one more: %q", code)
		}
	})
	t.Run("what_has_ended_lets_nobody_in_and_says_why", func(t *testing.T) {
		testkit.Eventually(t, patience, "the strangers gone", func() bool { return h.refusedUpgrade(call.ID) == "" })
		carol := newUser()
		declined := w.begin(h.Service, ada, w.conversation(ada, carol))
		if err := h.Decline(t.Context(), carol, declined.ID); err != nil {
			t.Fatal(err)
		}
		socket := h.signIn(ada, declined.ID)
		socket.say(wire.CallFrame{Type: wire.FrameJoin})
		var ended wire.EndedFrame
		if socket.next(wire.FrameEnded, &ended); ended.Reason != wire.EndedDeclined {
			t.Errorf("ended with %+v", ended)
		}
		socket.ended(wsconn.Over)
	})
}

func TestResume(t *testing.T) {
	w := newWorld(t)
	h := w.host("app-01", func(p *LiveParts) { p.Limits.KeepAway = 700 * time.Millisecond })
	ada, bob := newUser(), newUser()
	call := w.begin(h.Service, ada, w.conversation(ada, bob))
	first, other := h.join(ada, call.ID), h.join(bob, call.ID)

	_ = first.Close()
	var seen wire.ParticipantFrame
	for other.next(wire.FrameParticipant, &seen); seen.Participant.Here; other.next(wire.FrameParticipant, &seen) {
	}
	again := h.join(ada, call.ID, resuming(first))
	if !again.joined.Resumed || again.joined.ParticipantID != first.joined.ParticipantID || len(again.joined.Participants) != 2 {
		t.Errorf("resumed: %+v", again.joined)
	}
	if other.next(wire.FrameParticipant, &seen); !seen.Participant.Here {
		t.Errorf("still away: %+v", seen)
	}
	t.Run("a_second_socket_takes_the_first_one_s_place", func(t *testing.T) {
		third := h.join(ada, call.ID, resuming(first))
		again.ended(wsconn.Replaced)
		if !third.joined.Resumed {
			t.Error("not resumed")
		}
		again = third
	})
	t.Run("who_stays_away_is_lost", func(t *testing.T) {
		_ = again.Close()
		var ended wire.EndedFrame
		if other.next(wire.FrameEnded, &ended); ended.Reason != wire.EndedLost {
			t.Errorf("ended with %+v", ended)
		}
		other.ended(wsconn.Over)
		if found, err := w.store.call(t.Context(), call.ID); err != nil || found.Reason != wire.EndedLost {
			t.Errorf("in SQL: %+v, %v", found, err)
		}
		testkit.Eventually(t, patience, "no room", func() bool { return h.live.countRooms() == 0 })
	})
}

func TestOneUserManyDevices(t *testing.T) {
	w := newWorld(t)
	h, other := w.host("app-01"), w.host("app-02")
	ada, bob := newUser(), newUser()
	call := w.begin(h.Service, ada, w.conversation(ada, bob))
	peer, first := h.join(ada, call.ID), h.join(bob, call.ID)
	second := other.join(on("laptop", bob), call.ID) // through another host
	first.ended(wsconn.Replaced)
	if second.joined.Host != "app-01" || len(second.joined.Participants) != 2 {
		t.Errorf("joined %+v", second.joined)
	}
	var gone wire.GoneFrame
	if peer.next(wire.FrameGone, &gone); gone.ParticipantID != first.joined.ParticipantID {
		t.Errorf("gone is %+v", gone)
	}
	back := h.signIn(bob, call.ID) // the first device's socket comes back, and takes nothing back
	frame := wire.CallFrame{Type: wire.FrameJoin}
	resuming(first)(&frame)
	back.say(frame)
	back.ended(wsconn.Replaced)
	if call, err := h.Call(t.Context(), bob, call.ID); err != nil || call.State != wire.CallLive {
		t.Errorf("handing over ended the call: %+v, %v", call, err)
	}
	elsewhere := w.begin(h.Service, bob, w.conversation(bob, newUser(), newUser()))
	h.join(on("laptop", bob), elsewhere.ID)
	second.ended(wsconn.Over) // a user is in one call
	peer.ended(wsconn.Over)
}

func TestLeavingOverHTTP(t *testing.T) {
	w := newWorld(t)
	h, other := w.host("app-01"), w.service()
	ada, bob, eve := newUser(), newUser(), newUser()
	call := w.begin(h.Service, ada, w.conversation(ada, bob, eve))
	first, second := h.join(ada, call.ID), h.join(bob, call.ID)
	if err := other.Leave(t.Context(), bob, call.ID); err != nil {
		t.Fatal(err)
	}
	second.ended(wsconn.Over)
	first.next(wire.FrameGone, &wire.GoneFrame{})
	direct := w.begin(h.Service, eve, w.conversation(eve, bob))
	caller := h.join(eve, direct.ID)
	if err := other.Decline(t.Context(), bob, direct.ID); err != nil {
		t.Fatal(err)
	}
	var ended wire.EndedFrame
	if caller.next(wire.FrameEnded, &ended); ended.Reason != wire.EndedDeclined {
		t.Errorf("ended with %+v", ended)
	}
}

func TestWhoMayStay(t *testing.T) {
	w := newWorld(t)
	h := w.host("app-01")
	ada, bob, eve := newUser(), newUser(), newUser()
	conversation := w.conversation(ada, bob, eve)
	call := w.begin(h.Service, ada, conversation)
	first, second, third := h.join(ada, call.ID), h.join(bob, call.ID), h.join(eve, call.ID)
	t.Run("not_who_was_removed", func(t *testing.T) {
		w.say(func(w *world) {
			w.rooms[conversation] = wire.Callers{Kind: wire.KindGroup, Members: []wire.UserID{ada.UserID, eve.UserID}}
		})
		second.ended(wsconn.Removed)
		var gone wire.GoneFrame
		if first.next(wire.FrameGone, &gone); gone.ParticipantID != second.joined.ParticipantID {
			t.Errorf("gone is %+v", gone)
		}
	})
	t.Run("who_has_become_a_member_is_shown_the_call", func(t *testing.T) {
		late, rung := newUser(), newUser()
		w.say(func(w *world) {
			w.rooms[conversation] = wire.Callers{Kind: wire.KindGroup, Members: []wire.UserID{ada.UserID, eve.UserID, late.UserID, rung.UserID}}
		})
		testkit.Eventually(t, patience, "the call shown", func() bool { return w.state(call.ID, late.UserID) == wire.MemberIdle })
		w.exec(`UPDATE call_members SET state = 'ringing' WHERE call_id = $1 AND user_id = $2`, call.ID, rung.UserID)
		w.say(func(w *world) {
			w.rooms[conversation] = wire.Callers{Kind: wire.KindGroup, Members: []wire.UserID{ada.UserID, eve.UserID, late.UserID}}
		})
		testkit.Eventually(t, patience, "who is a member no more not rung", func() bool { return w.state(call.ID, rung.UserID) == "" })
		if found, err := h.Calls(t.Context(), late); err != nil || len(found.Calls) != 1 {
			t.Errorf("late sees %+v, %v", found, err)
		}
	})
	t.Run("everybody_while_nobody_can_say", func(t *testing.T) {
		w.say(func(w *world) { w.away = true })
		asked := time.Now()
		testkit.Eventually(t, patience, "several checks", func() bool { return time.Since(asked) > 5*h.live.limits.RecheckEvery })
		first.say(wire.CallFrame{Type: wire.FramePing, ID: "still"})
		first.next(wire.FramePong, &wire.PongFrame{})
		w.say(func(w *world) { w.away = false })
	})
	t.Run("not_whose_session_was_ended", func(t *testing.T) {
		w.say(func(w *world) { w.ended[eve.SessionID] = true })
		third.ended(wsconn.Revoked)
	})
}

func TestFreshCredentials(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.host("app-01", func(p *LiveParts) { p.TURN.Life = 3 * time.Second })
	ada := newUser()
	call := w.begin(h.Service, ada, w.conversation(ada, newUser()))
	socket := h.join(ada, call.ID)
	var fresh wire.ICEFrame
	if socket.next(wire.FrameICE, &fresh); !fresh.ICE.ExpiresAt.After(socket.joined.ICE.ExpiresAt) || fresh.ICE.Servers[0].Credential == socket.joined.ICE.Servers[0].Credential {
		t.Errorf("got %+v after %+v", fresh.ICE, socket.joined.ICE)
	}
}

func TestTestCall(t *testing.T) {
	w := newWorld(t)
	h := w.host("app-01")
	ada := newUser()
	call, err := h.Test(t.Context(), ada)
	if err != nil {
		t.Fatal(err)
	}
	socket := h.join(ada, call.ID)
	if !socket.joined.Call.Test {
		t.Errorf("joined %+v", socket.joined.Call)
	}
	w.exec(`UPDATE calls SET started_at = now() - INTERVAL '61 seconds' WHERE id = $1`, call.ID)
	if err := h.sweepAbandoned(t.Context()); err != nil {
		t.Fatal(err)
	}
	socket.ended(wsconn.Over)
	if page, err := h.History(t.Context(), ada, "", 0); err != nil || len(page.Calls) != 0 {
		t.Errorf("it is in the log: %+v, %v", page, err)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.host("app-01")
	ada := newUser()
	call := w.begin(h.Service, ada, w.conversation(ada, newUser(), newUser()))
	dropped := func(socket *wired) {
		t.Helper()
		var closed *client.CloseError
		if err := socket.Wait(within(t)); err == nil || errors.As(err, &closed) && closed.Code >= 4000 {
			t.Errorf("ended with %v, want no word", err)
		}
	}
	first := h.join(ada, call.ID, asking("drop_after_join"))
	dropped(first)
	second := h.join(ada, call.ID, resuming(first), asking("forget"))
	if second.joined.Resumed {
		t.Error("it resumed")
	}
	third := h.join(ada, call.ID, asking("no_pong", "drop_after_offer"))
	third.say(wire.CallFrame{Type: wire.FramePing, ID: "p"})
	third.say(wire.CallFrame{Type: wire.FrameMute, ID: "m", MID: "7"})
	if passed, err := third.await(wire.FrameError, &wire.ErrorFrame{}); err != nil || slices.Contains(passed, wire.FramePong) {
		t.Errorf("heard %v, %v", passed, err)
	}
	third.say(wire.CallFrame{Type: wire.FrameOffer, SDP: "x"})
	dropped(third)
	fourth := h.join(ada, call.ID, asking("moved"))
	fourth.next(wire.FrameMoved, &wire.HintFrame{})

	t.Run("not_where_they_are_off", func(t *testing.T) {
		h := w.host("app-02", func(p *LiveParts) { p.Faults = false })
		bob := newUser()
		socket := h.join(bob, w.begin(h.Service, bob, w.conversation(bob, newUser(), newUser())).ID, asking("drop_after_join"))
		socket.say(wire.CallFrame{Type: wire.FramePing, ID: "p"})
		socket.next(wire.FramePong, &wire.PongFrame{})
	})
}

func TestTwoHosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.host("app-01"), w.host("app-02")
	ada, bob, eve := newUser(), newUser(), newUser()
	call := w.begin(one.Service, ada, w.conversation(ada, bob, eve))
	first := one.join(ada, call.ID)
	relayed := two.join(bob, call.ID)
	if relayed.joined.Host != "app-01" || relayed.joined.Fence != first.joined.Fence || one.live.countRooms() != 1 || two.live.countRooms() != 0 {
		t.Fatalf("the call lives on %d and %d hosts: %+v", one.live.countRooms(), two.live.countRooms(), relayed.joined)
	}
	first.next(wire.FrameParticipant, &wire.ParticipantFrame{})

	t.Run("a_host_that_stops_hands_over", func(t *testing.T) {
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			one.stop()
		}()
		for _, socket := range []*wired{first, relayed} {
			socket.next(wire.FrameMoved, &wire.HintFrame{})
		}
		again := two.join(ada, call.ID, resuming(first))
		if again.joined.Resumed || again.joined.Host != "app-02" || again.joined.Fence != first.joined.Fence+1 {
			t.Errorf("joined %+v", again.joined)
		}
		_ = first.Close()
		_ = relayed.Close()
		<-stopped
		second := two.join(bob, call.ID)
		if len(second.joined.Participants) != 2 {
			t.Errorf("there are %+v", second.joined.Participants)
		}
		if found, err := w.store.call(t.Context(), call.ID); err != nil || found.State != wire.CallLive {
			t.Errorf("in SQL: %+v, %v", found, err)
		}
	})
	t.Run("one_that_dies_is_followed_when_its_lease_is_over", func(t *testing.T) {
		three := w.host("app-03")
		through := three.join(eve, call.ID)
		if through.joined.Host != "app-02" {
			t.Fatalf("joined %+v", through.joined)
		}
		died := time.Now()
		two.kill()
		var joined wire.JoinedFrame
		testkit.Eventually(t, patience, "the call on another host", func() bool {
			socket, err := three.client().DialSocket(within(t), client.CallSocket(call.ID), nil)
			if err != nil {
				return false // while the lease lasts, nobody takes it
			}
			again := &wired{Socket: socket, t: t, who: eve}
			defer func() { _ = socket.Close() }()
			if _, err := socket.Authenticate(within(t), w.token(eve, time.Now())); err != nil {
				return false
			}
			again.say(wire.CallFrame{Type: wire.FrameJoin})
			_, err = again.await(wire.FrameJoined, &joined)
			return err == nil
		})
		if took := time.Since(died); joined.Host != "app-03" || joined.Fence != through.joined.Fence+1 || took > leaseTime+2*time.Second {
			t.Errorf("after %s joined %+v", took, joined)
		}
	})
}

func TestPassedOwnerLetsGo(t *testing.T) {
	w := newWorld(t)
	h := w.host("app-01")
	ada := newUser()
	call := w.begin(h.Service, ada, w.conversation(ada, newUser(), newUser()))
	socket := h.join(ada, call.ID)
	other, err := w.store.register(t.Context(), "app-02", "127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	w.exec(`UPDATE calls SET owner_host = $2, owner_epoch = $3, fence = fence + 1 WHERE id = $1`, call.ID, other.host, other.epoch)
	socket.next(wire.FrameMoved, &wire.HintFrame{})
	_ = socket.Close()
	testkit.Eventually(t, patience, "no room", func() bool { return h.live.countRooms() == 0 })

	t.Run("and_so_does_one_whose_name_another_took", func(t *testing.T) {
		mine := w.begin(h.Service, ada, w.conversation(ada, newUser(), newUser()))
		socket := h.join(ada, mine.ID)
		if _, err := w.store.register(t.Context(), "app-01", "127.0.0.1:1"); err != nil {
			t.Fatal(err)
		}
		socket.next(wire.FrameMoved, &wire.HintFrame{})
	})
}
