package video

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"secureconnect/services/internal/wire"
)

var (
	ada = wire.Session{UserID: "0192f0c0-0000-7000-8000-00000000000a", SessionID: "0192f0c0-0000-7000-8000-0000000000aa", DeviceID: "phone"}
	bob = wire.Session{UserID: "0192f0c0-0000-7000-8000-00000000000b", SessionID: "0192f0c0-0000-7000-8000-0000000000bb", DeviceID: "tablet"}
	eve = wire.Session{UserID: "0192f0c0-0000-7000-8000-00000000000e", SessionID: "0192f0c0-0000-7000-8000-0000000000ee", DeviceID: "laptop"}

	noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
)

// begun is a call that ada has just begun with the others.
func begun(direct bool, busy []wire.UserID, others ...wire.Session) *stored {
	c := &stored{Call: wire.Call{ID: wire.CallID(uuid.NewString()), ConversationID: "x", StartedBy: ada.UserID, StartedAt: noon}, direct: direct, empty: &noon}
	members := []wire.UserID{ada.UserID}
	for _, other := range others {
		members = append(members, other.UserID)
	}
	c.ring(ada, members, busy, noon)
	return c
}

func (c *stored) after(minutes int) time.Time { return noon.Add(time.Duration(minutes) * time.Minute) }

func TestCallRules(t *testing.T) {
	type states map[wire.UserID]string
	const joined, left, ringing, missed, declined, busy = wire.MemberJoined, wire.MemberLeft, wire.MemberRinging, wire.MemberMissed, wire.MemberDeclined, wire.MemberBusy
	for name, c := range map[string]struct {
		call          *stored
		story         func(c *stored)
		state, reason string
		members       states
	}{
		"one_rings_for_the_other": {
			begun(true, nil, bob), func(*stored) {},
			wire.CallRinging, "", states{ada.UserID: joined, bob.UserID: ringing},
		},
		"answered_is_live": {
			begun(true, nil, bob), func(c *stored) { c.enter(ada, c.after(0)); c.enter(bob, c.after(1)) },
			wire.CallLive, "", states{ada.UserID: joined, bob.UserID: joined},
		},
		"declined": {
			begun(true, nil, bob), func(c *stored) { c.quit(bob.UserID, declined, "", c.after(1)) },
			wire.CallEnded, wire.EndedDeclined, states{ada.UserID: left, bob.UserID: declined},
		},
		"busy_is_over_at_once": {
			begun(true, []wire.UserID{bob.UserID}, bob), func(*stored) {},
			wire.CallEnded, wire.EndedBusy, states{ada.UserID: left, bob.UserID: busy},
		},
		"cancelled_is_missed": {
			begun(true, nil, bob), func(c *stored) { c.quit(ada.UserID, left, wire.EndedLeft, c.after(1)) },
			wire.CallEnded, wire.EndedCancelled, states{ada.UserID: left, bob.UserID: missed},
		},
		"nobody_answers": {
			begun(true, nil, bob), func(c *stored) { c.ceaseRinging(c.after(1)) },
			wire.CallEnded, wire.EndedMissed, states{ada.UserID: left, bob.UserID: missed},
		},
		"one_of_two_leaves": {
			begun(true, nil, bob), func(c *stored) { c.enter(bob, c.after(0)); c.quit(bob.UserID, left, wire.EndedLeft, c.after(1)) },
			wire.CallEnded, wire.EndedLeft, states{ada.UserID: left, bob.UserID: left},
		},
		"one_of_two_is_lost": {
			begun(true, nil, bob), func(c *stored) { c.enter(bob, c.after(0)); c.quit(ada.UserID, left, wire.EndedLost, c.after(1)) },
			wire.CallEnded, wire.EndedLost, states{ada.UserID: left, bob.UserID: left},
		},
		"who_declined_may_come_all_the_same_in_a_group": {
			begun(false, nil, bob, eve), func(c *stored) {
				c.quit(bob.UserID, declined, "", c.after(0))
				c.enter(bob, c.after(1))
			},
			wire.CallLive, "", states{ada.UserID: joined, bob.UserID: joined, eve.UserID: ringing},
		},
		"group_goes_on_when_one_leaves": {
			begun(false, nil, bob, eve), func(c *stored) {
				c.enter(bob, c.after(0))
				c.enter(eve, c.after(0))
				c.quit(ada.UserID, left, wire.EndedLeft, c.after(1))
			},
			wire.CallLive, "", states{ada.UserID: left, bob.UserID: joined, eve.UserID: joined},
		},
		"group_is_over_when_nobody_is_left": {
			begun(false, nil, bob, eve), func(c *stored) {
				c.enter(bob, c.after(0))
				c.quit(ada.UserID, left, wire.EndedLeft, c.after(1))
				c.quit(bob.UserID, left, wire.EndedLeft, c.after(2))
			},
			wire.CallEnded, wire.EndedLeft, states{ada.UserID: left, bob.UserID: left, eve.UserID: missed},
		},
		"group_waits_for_who_comes_late": {
			begun(false, []wire.UserID{eve.UserID}, bob, eve), func(c *stored) { c.ceaseRinging(c.after(1)) },
			wire.CallRinging, "", states{ada.UserID: joined, bob.UserID: missed, eve.UserID: busy},
		},
		"nobody_can_do_for_another_state_than_theirs": {
			begun(true, nil, bob), func(c *stored) {
				c.quit(ada.UserID, declined, "", c.after(1))         // who is there declines nothing
				c.quit(bob.UserID, left, wire.EndedLeft, c.after(1)) // who is not there leaves nothing
				c.quit(eve.UserID, left, wire.EndedLeft, c.after(1))
			},
			wire.CallRinging, "", states{ada.UserID: joined, bob.UserID: ringing},
		},
		"abandoned": {
			begun(false, nil, bob, eve), func(c *stored) { c.enter(bob, c.after(0)); c.abandon(c.after(2)) },
			wire.CallEnded, wire.EndedLost, states{ada.UserID: left, bob.UserID: left, eve.UserID: missed},
		},
		"what_is_over_stays_over": {
			begun(true, nil, bob), func(c *stored) {
				c.quit(bob.UserID, declined, "", c.after(1))
				c.abandon(c.after(2))
				c.ceaseRinging(c.after(2))
			},
			wire.CallEnded, wire.EndedDeclined, states{ada.UserID: left, bob.UserID: declined},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.story(c.call)
			if c.call.State != c.state || c.call.Reason != c.reason {
				t.Errorf("the call is %s (%s), want %s (%s)", c.call.State, c.call.Reason, c.state, c.reason)
			}
			for _, member := range c.call.Members {
				if want := c.members[member.UserID]; member.State != want {
					t.Errorf("%s is %s, want %s", member.UserID, member.State, want)
				}
				if (member.State == joined) != (member.DeviceID != "") {
					t.Errorf("%s is %s on device %q", member.UserID, member.State, member.DeviceID)
				}
			}
			if len(c.call.Members) != len(c.members) {
				t.Errorf("members are %+v", c.call.Members)
			}
		})
	}
}

func TestLargeConversationsDoNotRing(t *testing.T) {
	others := make([]wire.Session, maxParticipants)
	for i := range others {
		others[i] = wire.Session{UserID: wire.UserID(uuid.NewString())}
	}
	if c := begun(false, nil, others[1:]...); c.count(wire.MemberRinging) != maxParticipants-1 {
		t.Errorf("it rings for %d of %d", c.count(wire.MemberRinging), maxParticipants-1)
	}
	if c := begun(false, nil, others...); c.count(wire.MemberRinging) != 0 || c.count(wire.MemberIdle) != maxParticipants {
		t.Errorf("it rings for %d in a conversation of %d", c.count(wire.MemberRinging), maxParticipants+1)
	}
}

func TestRecordsOf(t *testing.T) {
	answered := begun(true, nil, bob)
	answered.enter(bob, answered.after(1))
	answered.quit(bob.UserID, wire.MemberLeft, wire.EndedLeft, answered.after(3))
	unanswered := begun(true, nil, bob)
	unanswered.ceaseRinging(unanswered.after(1))
	group := begun(false, []wire.UserID{eve.UserID}, bob, eve)
	group.quit(bob.UserID, wire.MemberDeclined, "", group.after(1))
	group.quit(ada.UserID, wire.MemberLeft, wire.EndedLeft, group.after(2))
	large := begun(false, nil, make([]wire.Session, maxParticipants)...)
	large.abandon(large.after(1))
	for name, c := range map[string]struct {
		call     *stored
		outcomes map[wire.UserID]string
		seconds  int
	}{
		"answered":   {answered, map[wire.UserID]string{ada.UserID: wire.OutcomeAnswered, bob.UserID: wire.OutcomeAnswered}, 120},
		"unanswered": {unanswered, map[wire.UserID]string{ada.UserID: wire.OutcomeUnanswered, bob.UserID: wire.OutcomeMissed}, 0},
		"group": {group, map[wire.UserID]string{
			ada.UserID: wire.OutcomeUnanswered, bob.UserID: wire.OutcomeDeclined, eve.UserID: wire.OutcomeMissed,
		}, 0},
		"not_rung_for": {large, map[wire.UserID]string{ada.UserID: wire.OutcomeUnanswered}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			records := recordsOf(*c.call)
			if len(records) != len(c.outcomes) {
				t.Errorf("records for %d, want %d", len(records), len(c.outcomes))
			}
			for user, want := range c.outcomes {
				if got := records[user]; got.Outcome != want || got.Seconds != c.seconds || got.CallID != c.call.ID || got.Reason != c.call.Reason {
					t.Errorf("%s has %+v, want %s", user, got, want)
				}
			}
		})
	}
}

func TestMarks(t *testing.T) {
	record := wire.CallRecord{StartedAt: noon.Add(123 * time.Millisecond), CallID: wire.CallID(uuid.NewString())}
	at, call, err := readMark(markOf(record), noon.Add(time.Hour))
	if err != nil || !at.Equal(record.StartedAt) || call != record.CallID {
		t.Errorf("got %s %s, %v", at, call, err)
	}
	for _, odd := range []string{"x", "!!", "MTIz", "LTEgMDE5MmYwYzAtMDAwMC03MDAwLTgwMDAtMDAwMDAwMDAwMDAw", markOf(wire.CallRecord{StartedAt: noon.AddDate(1, 0, 0), CallID: record.CallID}), markOf(wire.CallRecord{StartedAt: noon, CallID: "x"})} {
		if _, _, err := readMark(odd, noon); err == nil {
			t.Errorf("%q is a mark", odd)
		}
	}
}

// Whatever a client says is a frame whose fields are within their bounds, or none.
func FuzzParseFrame(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `null`, `[]`, `{"type":"auth","token":"x"}`, `{"type":"join","id":"1","resume":{"participant_id":"p","secret":"s"},"video_slots":25}`,
		`{"type":"offer","sdp":"v=0","tracks":[{"mid":"0","source":"camera"}]}`, `{"type":"want","want":{"t":"huge"}}`, `{"type":"want","want":null}`,
		`{"type":"answer","version":-1,"sdp":"x"}`, `{"type":"mute","mid":""}`, `{"type":"leave"}`, "{\"type\":\"ping\",\"id\":\"\xff\"}",
	} {
		f.Add([]byte(seed))
	}
	kinds := []string{wire.FrameAuth, wire.FrameJoin, wire.FrameOffer, wire.FrameAnswer, wire.FrameRestart, wire.FrameMute, wire.FrameWant, wire.FrameLeave, wire.FramePing}
	f.Fuzz(func(t *testing.T, content []byte) {
		frame, err := parseFrame(content)
		if err != nil {
			return
		}
		if !slices.Contains(kinds, frame.Type) || len(frame.ID) > maxRequestID || frame.VideoSlots < 0 || frame.VideoSlots > maxSlots || len(frame.Want) > maxWanted {
			t.Errorf("%q is taken as %+v", content, frame)
		}
		for _, quality := range frame.Want {
			if !slices.Contains([]string{wire.WantOff, wire.WantLow, wire.WantMedium, wire.WantHigh}, quality) {
				t.Errorf("%q wants %q", content, quality)
			}
		}
	})
}
