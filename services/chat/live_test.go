package chat

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/wire"
)

func TestMessageCrossesHosts(t *testing.T) {
	n := newNetwork(t)
	a, b := n.node(), n.node()
	ada, bob := newUser(), newUser()
	id := n.group(a.Service, ada, bob)
	ears, mouth := b.follow(bob, map[wire.ConversationID]int64{id: 1}), a.follow(ada, map[wire.ConversationID]int64{id: 1})

	request := wire.ClientFrame{Type: wire.FrameSend, ID: "m1", ConversationID: id, ClientID: newClientID(), Body: "hello <b>"}
	began := time.Now()
	mouth.say(request)
	var sent wire.SentFrame
	mouth.next(wire.FrameSent, &sent)
	got := ears.wantItem("hello <b>")
	t.Logf("from host to host in %s", time.Since(began).Round(time.Millisecond))
	if sent.ID != "m1" || sent.Seq != got.Seq || got.Sender != ada.UserID || got.ClientID != request.ClientID || got.Seq != 2 {
		t.Errorf("sent %+v, got %+v", sent, got)
	}
	ears.say(wire.ClientFrame{Type: wire.FrameSend, ID: "again", ConversationID: id, ClientID: newClientID(), Body: "back"})
	mouth.wantItem("back")
	ears.wantItem("back") // one's other devices want it too, and order is order

	mouth.say(request) // the same bytes
	var again wire.SentFrame
	mouth.next(wire.FrameSent, &again)
	if again.Seq != sent.Seq || !again.At.Equal(sent.At) {
		t.Errorf("sent again: %+v, first %+v", again, sent)
	}
	ears.wantNothing(wire.FrameItems)
}

func TestSync(t *testing.T) {
	n := newNetwork(t)
	h := n.node()
	ada, bob := newUser(), newUser()
	id, other := n.group(h.Service, ada, bob), n.group(h.Service, ada, bob)
	for i := range 200 {
		n.send(h.Service, ada, id, fmt.Sprint(i))
	}
	t.Run("from an older cursor", func(t *testing.T) {
		w := h.signIn(bob)
		w.say(wire.ClientFrame{Type: wire.FrameSync, ID: "s1", Cursors: map[wire.ConversationID]int64{id: 51}})
		var synced wire.SyncedFrame
		w.next(wire.FrameSynced, &synced)
		heads := map[wire.ConversationID]int64{}
		for _, c := range synced.Conversations {
			heads[c.ID] = c.Head
		}
		if synced.ID != "s1" || len(heads) != 2 || heads[id] != 201 || heads[other] != 1 {
			t.Errorf("synced %+v", synced)
		}
		through := int64(51)
		var got []string
		for through < 201 {
			var frame wire.ItemsFrame
			w.next(wire.FrameItems, &frame)
			if frame.ConversationID != id || frame.After != through {
				t.Fatalf("items of %s begin above %d, want %d", frame.ConversationID, frame.After, through)
			}
			through, got = frame.Through, append(got, bodies(frame.Items)...)
		}
		if len(got) != 150 || got[0] != "50" || got[149] != "199" {
			t.Errorf("%d items: %q", len(got), got)
		}
		n.send(h.Service, ada, id, "live")
		w.wantItem("live")
		n.send(h.Service, ada, other, "live there")
		w.wantItem("live there")
	})
	t.Run("with a cursor from the future", func(t *testing.T) {
		w := h.follow(bob, map[wire.ConversationID]int64{id: 1 << 60, other: -5})
		n.send(h.Service, ada, id, "not skipped")
		w.wantItem("not skipped")
	})
	t.Run("and range", func(t *testing.T) {
		w := h.follow(bob, nil)
		w.say(wire.ClientFrame{Type: wire.FrameRange, ID: "r", ConversationID: id, After: 10, UpTo: 15})
		var page wire.PageFrame
		w.next(wire.FramePage, &page)
		if page.ID != "r" || page.Through != 15 || !slices.Equal(bodies(page.Items), []string{"9", "10", "11", "12", "13"}) {
			t.Errorf("got %+v", page)
		}
	})
	testkit.Eventually(t, patience, "idle feeds gone", func() bool {
		for _, k := range h.live.sockets.all() {
			k.close(4001)
		}
		h.live.hub.mu.RLock()
		defer h.live.hub.mu.RUnlock()
		return len(h.live.hub.feeds) == 0
	})
}

// Many write on two hosts while readers come and go: everybody ends with the same order.
func TestOrderUnderLoad(t *testing.T) {
	n := newNetwork(t)
	hosts := []*node{n.node(), n.node()}
	people := []wire.Session{newUser(), newUser(), newUser(), newUser(), newUser(), newUser()}
	id := n.group(hosts[0].Service, people[0], people[1:]...)
	var readers []*reader
	for i, session := range people {
		readers = append(readers, n.device(hosts[i%2].url, session, map[wire.ConversationID]int64{id: 0}))
	}
	const each = 30
	var writers errgroup.Group
	for i, r := range readers {
		for range 2 {
			writers.Go(func() error {
				for j := range each / 2 {
					if _, err := r.Send(within(t), id, fmt.Sprintf("%d %d", i, j)); err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
	late := newUser()
	late.UserID = people[1].UserID
	latecomer := n.device(hosts[0].url, late, map[wire.ConversationID]int64{id: 0})
	if err := writers.Wait(); err != nil {
		t.Fatal(err)
	}
	want := bodies(n.readAll(hosts[0].Service, people[0], id))
	if len(want) != each*len(people) {
		t.Fatalf("%d of %d are stored", len(want), each*len(people))
	}
	for i, r := range append(readers, latecomer) {
		testkit.Eventually(t, patience, fmt.Sprintf("reader %d has %d of %d", i, len(r.bodies()), len(want)), func() bool { return len(r.bodies()) >= len(want) })
		if got := r.bodies(); !slices.Equal(got, want) {
			t.Errorf("reader %d has another order", i)
		}
		if odd := r.oddities(); len(odd) > 0 {
			t.Errorf("reader %d: %q", i, odd)
		}
		if !r.hasHeard(wire.FrameInbox) {
			t.Errorf("reader %d was not told to look for what waits", i)
		}
	}
}

// A number is given and not settled: nobody is given what is above it, until it is void.
func TestFeedWaitsForPendingNumbers(t *testing.T) {
	n := newNetwork(t)
	h := n.node()
	ada, bob := newUser(), newUser()
	id := n.group(h.Service, ada, bob)
	w := h.follow(bob, map[wire.ConversationID]int64{id: 1})
	n.exec(`UPDATE conversations SET head = head + 1 WHERE id = $1`, id)
	n.exec(`INSERT INTO message_numbers (conversation_id, seq, state, sender_user, sender_device, life_seconds, created_at) VALUES ($1, 2, 'pending', $2, '', 0, now())`, id, ada.UserID)
	n.send(h.Service, ada, id, "above")
	w.wantNothing(wire.FrameItems)
	late := h.follow(ada, map[wire.ConversationID]int64{id: 1})
	late.wantNothing(wire.FrameItems)
	n.age()
	for _, each := range []*wired{w, late} {
		var frame wire.ItemsFrame
		each.next(wire.FrameItems, &frame)
		if frame.After != 1 || frame.Through != 3 || !slices.Equal(bodies(frame.Items), []string{"above"}) {
			t.Errorf("got %+v", frame)
		}
	}
}

func TestMembershipOnSockets(t *testing.T) {
	n := newNetwork(t)
	a, b := n.node(), n.node()
	ada, bob, eve := newUser(), newUser(), newUser()
	first, second := b.follow(bob, nil), a.follow(bob, nil)
	id := n.group(a.Service, ada, bob)
	for _, w := range []*wired{first, second} {
		var told wire.ConversationFrame
		w.next(wire.FrameConversation, &told)
		if told.Conversation.ID != id || told.Conversation.JoinedSeq != 1 || told.Conversation.Role != wire.RoleMember {
			t.Errorf("told of %+v", told)
		}
		var frame wire.ItemsFrame
		w.next(wire.FrameItems, &frame)
		if frame.After != 0 || len(frame.Items) != 1 || frame.Items[0].Event.Type != wire.EventCreated {
			t.Errorf("got %+v", frame)
		}
	}
	outsider := b.follow(eve, map[wire.ConversationID]int64{id: 0})
	n.send(a.Service, ada, id, "one")
	first.wantItem("one")
	second.wantItem("one")

	if err := a.Remove(t.Context(), ada, id, bob.UserID); err != nil {
		t.Fatal(err)
	}
	for _, w := range []*wired{first, second} {
		var frame wire.ItemsFrame
		w.next(wire.FrameItems, &frame)
		if last := frame.Items[len(frame.Items)-1]; last.Event == nil || last.Event.Type != wire.EventRemoved || frame.Head != frame.Through {
			t.Errorf("got %+v", frame)
		}
	}
	n.send(a.Service, ada, id, "secret")
	back := b.follow(bob, map[wire.ConversationID]int64{id: 1}) // with a cursor below the end
	var frame wire.ItemsFrame
	back.next(wire.FrameItems, &frame)
	if frame.Through != 3 || len(frame.Items) != 2 || frame.Head != 3 {
		t.Errorf("after the removal bob was given %+v", frame)
	}
	for _, w := range []*wired{first, second, back, outsider} {
		w.wantNothing(wire.FrameItems)
	}

	if _, err := a.Add(t.Context(), ada, id, []wire.UserID{bob.UserID}); err != nil {
		t.Fatal(err)
	}
	for _, w := range []*wired{first, second, back} {
		var again wire.ItemsFrame
		w.next(wire.FrameItems, &again)
		// After 3 where the socket was still reading up to the removal: the frame covers the time between, and holds nothing of it.
		if again.After < 3 || again.After > 4 || len(again.Items) != 1 || again.Items[0].Seq != 5 || again.Items[0].Event.Type != wire.EventAdded {
			t.Errorf("after the return bob was given %+v", again)
		}
	}
	n.send(a.Service, ada, id, "welcome")
	for _, w := range []*wired{first, second, back} {
		w.wantItem("welcome")
	}
	outsider.wantNothing(wire.FrameItems)
}

func TestTypingAndCursors(t *testing.T) {
	n := newNetwork(t)
	a, b := n.node(), n.node()
	ada, bob := newUser(), newUser()
	made, _, err := a.Create(t.Context(), ada, wire.ConversationRequest{Kind: wire.KindDirect, UserID: bob.UserID})
	if err != nil {
		t.Fatal(err)
	}
	id := made.ID
	mouth, ears := a.follow(ada, map[wire.ConversationID]int64{id: 1}), b.follow(bob, map[wire.ConversationID]int64{id: 1})
	n.send(a.Service, ada, id, "hello")
	ears.wantItem("hello")
	mouth.wantItem("hello")

	mouth.say(wire.ClientFrame{Type: wire.FrameTyping, ConversationID: id, On: true})
	var typing wire.TypingFrame
	ears.next(wire.FrameTyping, &typing)
	if typing.ConversationID != id || typing.UserID != ada.UserID || !typing.On {
		t.Errorf("got %+v", typing)
	}
	mouth.wantNothing(wire.FrameTyping)

	read := int64(2)
	ears.say(wire.ClientFrame{Type: wire.FrameCursor, ConversationID: id, Delivered: &read})
	ears.say(wire.ClientFrame{Type: wire.FrameCursor, ConversationID: id, Read: &read})
	var cursors wire.CursorsFrame
	mouth.next(wire.FrameCursors, &cursors)
	if want := (wire.MemberCursors{UserID: bob.UserID, Delivered: 2, Read: 2}); len(cursors.Cursors) != 1 || cursors.Cursors[0] != want {
		t.Errorf("got %+v", cursors)
	}
	if found, err := a.Conversation(t.Context(), bob, id); err != nil || found.Read != 2 || found.Delivered != 2 {
		t.Errorf("stored %+v, %v", found, err)
	}
	t.Run("a flood is not heard", func(t *testing.T) {
		for range 60 {
			mouth.say(wire.ClientFrame{Type: wire.FrameTyping, ConversationID: id, On: true})
		}
		mouth.wantNothing(wire.FrameTyping) // and the socket lives
		heard := 0
		n.send(a.Service, ada, id, "end")
		for {
			var content json.RawMessage
			if err := ears.Receive(within(t), &content); err != nil {
				t.Fatal(err)
			}
			var head struct {
				Type  string      `json:"type"`
				Items []wire.Item `json:"items"`
			}
			_ = json.Unmarshal(content, &head)
			if head.Type == wire.FrameTyping {
				heard++
			}
			if len(head.Items) > 0 && head.Items[0].Body == "end" {
				break
			}
		}
		if heard > 6 {
			t.Errorf("%d of 60 were heard", heard)
		}
	})
	t.Run("nothing from who is blocked", func(t *testing.T) {
		n.friends.set(bob.UserID, ada.UserID, wire.Relations{Contact: true, Active: true, Blocking: true})
		for range 5 {
			ears.say(wire.ClientFrame{Type: wire.FrameTyping, ConversationID: id, On: true})
		}
		ears.wantNothing(wire.FrameTyping)
		mouth.wantNothing(wire.FrameTyping)
	})
}

func TestPresence(t *testing.T) {
	n := newNetwork(t)
	a, b := n.node(), n.node()
	ada, bob, eve := newUser(), newUser(), newUser()
	n.friends.set(eve.UserID, bob.UserID, wire.Relations{Active: true, Blocked: true})
	watcher, stranger := a.signIn(ada), a.signIn(eve)
	for _, w := range []*wired{watcher, stranger} {
		w.say(wire.ClientFrame{Type: wire.FrameWatch, ID: "w", Users: []wire.UserID{bob.UserID}})
		var now wire.PresenceFrame
		w.next(wire.FramePresence, &now)
		if len(now.Users) != 1 || now.Users[0].Online {
			t.Errorf("at first %+v", now)
		}
	}
	phone, laptop := b.signIn(bob), a.signIn(bob)
	wantPresence := func(online bool) wire.Presence {
		t.Helper()
		var now wire.PresenceFrame
		watcher.next(wire.FramePresence, &now)
		if len(now.Users) != 1 || now.Users[0].UserID != bob.UserID || now.Users[0].Online != online {
			t.Errorf("got %+v, want online %v", now, online)
		}
		return now.Users[0]
	}
	wantPresence(true)
	testkit.Eventually(t, patience, "both hosts speak for bob", func() bool {
		return n.direct.ZCard(t.Context(), presencePrefix+string(bob.UserID)).Val() == 2
	})
	_ = phone.Close()
	testkit.Eventually(t, patience, "one host speaks for bob", func() bool {
		return n.direct.ZCard(t.Context(), presencePrefix+string(bob.UserID)).Val() == 1
	})
	watcher.wantNothing(wire.FramePresence) // one of two went
	_ = laptop.Close()
	if gone := wantPresence(false); gone.SeenAt == nil {
		t.Error("nobody knows when bob was here")
	}
	stranger.wantNothing(wire.FramePresence)
	t.Run("without Redis nobody is there and nothing fails", func(t *testing.T) {
		a.line.Cut()
		testkit.Eventually(t, patience, "hints are away", func() bool { return !a.live.channel.healthy() })
		b.signIn(bob)
		watcher.say(wire.ClientFrame{Type: wire.FrameWatch, ID: "w", Users: []wire.UserID{bob.UserID}})
		wantPresence(false)
	})
}

// Who is blocked sees somebody leave where somebody was, and else nothing at all.
func TestBlockHidesPresence(t *testing.T) {
	n := newNetwork(t)
	a, b := n.node(), n.node()
	ada, bob, eve := newUser(), newUser(), newUser()
	blocked, blocking := a.signIn(ada), b.signIn(bob)
	testkit.Eventually(t, patience, "both are there", func() bool {
		return n.direct.Exists(t.Context(), presencePrefix+string(ada.UserID), presencePrefix+string(bob.UserID)).Val() == 2
	})
	wantPresence := func(w *wired, want ...wire.Presence) {
		t.Helper()
		var now wire.PresenceFrame
		if w.next(wire.FramePresence, &now); !slices.Equal(now.Users, want) {
			t.Errorf("got %+v, want %+v", now.Users, want)
		}
	}
	blocking.say(wire.ClientFrame{Type: wire.FrameWatch, Users: []wire.UserID{ada.UserID}})
	wantPresence(blocking, wire.Presence{UserID: ada.UserID, Online: true})
	blocked.say(wire.ClientFrame{Type: wire.FrameWatch, Users: []wire.UserID{bob.UserID, eve.UserID}})
	wantPresence(blocked, wire.Presence{UserID: bob.UserID, Online: true}, wire.Presence{UserID: eve.UserID})

	block := func(who wire.Session, blocking bool) {
		n.friends.set(who.UserID, ada.UserID, wire.Relations{Contact: true, Active: true, Blocking: blocking})
		n.friends.set(ada.UserID, who.UserID, wire.Relations{Contact: true, Active: true, Blocked: blocking})
		n.direct.Publish(t.Context(), wire.RelationChannel, wire.RelationHint{User: who.UserID, Other: ada.UserID}.String())
	}
	block(bob, true)
	wantPresence(blocking, wire.Presence{UserID: ada.UserID})
	wantPresence(blocked, wire.Presence{UserID: bob.UserID})
	block(bob, true) // something else of theirs has changed
	wantPresence(blocking, wire.Presence{UserID: ada.UserID})
	block(eve, true) // who is not there
	blocked.wantNothing(wire.FramePresence)
	block(bob, false)
	wantPresence(blocking, wire.Presence{UserID: ada.UserID, Online: true})
	wantPresence(blocked, wire.Presence{UserID: bob.UserID, Online: true})
	blocked.wantNothing(wire.FrameContacts)
}

func TestHintsOfAuth(t *testing.T) {
	n := newNetwork(t)
	h := n.node()
	ada, bob := newUser(), newUser()
	w, other := h.signIn(ada), h.signIn(bob)
	n.direct.Publish(t.Context(), wire.KeysChannel, string(ada.UserID))
	w.next(wire.FrameInbox, &wire.HintFrame{})
	n.direct.Publish(t.Context(), wire.RelationChannel, "nonsense")
	n.direct.Publish(t.Context(), wire.RelationChannel, wire.RelationHint{User: ada.UserID, Other: bob.UserID}.String())
	w.next(wire.FrameContacts, &wire.HintFrame{})
	other.wantNothing(wire.FrameContacts) // it may be a secret
}

func TestHintsOfCalls(t *testing.T) {
	n := newNetwork(t)
	h := n.node(func(p *LiveParts) { p.Limits.RecheckAlone = 50 * time.Millisecond })
	ada, bob, eve := newUser(), newUser(), newUser()
	rung, too, other := h.signIn(ada), h.signIn(bob), h.signIn(eve)
	n.direct.Publish(t.Context(), wire.CallsChannel, string(ada.UserID)+" "+string(bob.UserID)+"  nonsense")
	rung.next(wire.FrameCalls, &wire.HintFrame{})
	too.next(wire.FrameCalls, &wire.HintFrame{})
	other.wantNothing(wire.FrameCalls)

	h.line.Cut() // a call that rings now is found all the same
	other.next(wire.FrameCalls, &wire.HintFrame{})
}
