package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"secureconnect/services/client"
	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/wire"
)

// account is a person of a crowd: two devices, each with its own way to the platform.
type account struct {
	name, password string
	ways           [2]*client.Client
}

// crowd is people who write and read while the platform is harmed, and write all of it down.
type crowd struct {
	t        *testing.T
	record   *recorder
	handsets []*handset
	rooms    []*room
	lives    time.Duration // a device dies after one to three of these
	quiet    chan struct{} // closed when nobody writes or dies any more

	sending sync.WaitGroup
	living  sync.WaitGroup

	mu  sync.Mutex
	odd map[string]int // refusals that are no fault by themselves, and how often they came
}

// room is a conversation and the people in it, by their place in the crowd. The last of a shifting one comes and goes.
type room struct {
	id       wire.ConversationID
	people   []int
	shifting bool
}

// handset is one device of a person. Now and then it dies, and goes on from its cursors with what was not acknowledged.
type handset struct {
	crowd  *crowd
	name   string
	person int
	user   wire.UserID
	api    *client.Client
	login  client.Credentials
	rooms  []*room

	session sync.Mutex
	tokens  client.Tokens
	renewAt time.Time

	mu      sync.Mutex
	cursors map[wire.ConversationID]int64
	life    *life         // nil while it is dead
	born    chan struct{} // closed at the next life
}

// life is a device until it dies.
type life struct {
	*client.Device
	atDeath func(do func()) (stop func() bool)
}

const (
	inFlight   = 30  // messages of one device that wait for their answer; while there are more, it writes none
	browsed    = 100 // numbers, and what has come meanwhile
	tokenFresh = 45 * time.Second
)

// newCrowd signs six accounts in, makes contacts of them and conversations for them.
func newCrowd(t *testing.T, record *recorder, accounts []account) *crowd {
	t.Helper()
	c := &crowd{t: t, record: record, lives: 20 * time.Second, quiet: make(chan struct{}), odd: map[string]int{}}
	for i, a := range accounts {
		for j, way := range a.ways {
			h := &handset{
				crowd: c, name: fmt.Sprintf("%c%d", 'a'+i, j+1), person: i, api: way,
				login:   client.Credentials{Username: a.name, Password: a.password},
				cursors: map[wire.ConversationID]int64{}, born: make(chan struct{}),
			}
			var err error
			if h.tokens, _, err = way.Login(t.Context(), h.login); err != nil {
				t.Fatal(err)
			}
			h.user, h.login.DeviceID, h.renewAt = h.tokens.User.ID, string(h.tokens.DeviceID), time.Now().Add(tokenFresh)
			c.handsets = append(c.handsets, h)
		}
	}
	for i := range accounts {
		for j := range i {
			makeFriends(t, accounts[0].ways[0], c.handsets[2*i].tokens, c.handsets[2*j].tokens)
		}
	}
	c.meet(&room{people: []int{0, 1}})
	c.meet(&room{people: []int{0, 1, 2, 3, 4, 5}})
	c.meet(&room{people: []int{2, 3, 4, 5}})
	c.meet(&room{people: []int{1, 3, 5, 0}, shifting: true})
	return c
}

// meet makes a conversation, whose readers begin before its first number.
func (c *crowd) meet(r *room) {
	c.t.Helper()
	owner := c.handsets[2*r.people[0]]
	request := client.ConversationRequest{Kind: wire.KindGroup, Name: "A room", ClientID: newName(c.t)}
	for _, i := range r.people[1:] {
		request.Members = append(request.Members, c.handsets[2*i].user)
	}
	if len(r.people) == 2 {
		request = client.ConversationRequest{Kind: wire.KindDirect, UserID: request.Members[0]}
	}
	made, _, err := owner.api.CreateConversation(c.t.Context(), owner.tokens.AccessToken, request)
	if err != nil {
		c.t.Fatal(err)
	}
	r.id = made.ID
	c.rooms = append(c.rooms, r)
	for _, h := range c.handsets {
		if slices.Contains(r.people, h.person) {
			h.rooms = append(h.rooms, r)
			h.cursors[r.id] = 0
			c.record.add(event{Client: h.name, User: h.user, What: through, Conversation: r.id})
		}
	}
}

func newName(t *testing.T) wire.ClientID {
	t.Helper()
	name, err := uuid.NewV7()
	if err != nil {
		t.Fatal(err)
	}
	return wire.ClientID(name.String())
}

// start lets everybody live, and write so many messages a second in all until hush.
func (c *crowd) start(ctx context.Context, rate float64) {
	c.record.begin()
	each := time.Duration(float64(len(c.handsets)) / rate * float64(time.Second))
	for _, h := range c.handsets {
		c.living.Go(func() { h.live(ctx) })
		c.sending.Go(func() { h.write(ctx, each) })
		c.sending.Go(func() { h.wander(ctx) })
	}
	for _, r := range c.rooms {
		if r.shifting {
			c.sending.Go(func() { c.shift(ctx, r) })
		}
	}
}

// hush ends the writing, and waits until all that was written has had its answer.
func (c *crowd) hush(within time.Duration) {
	c.t.Helper()
	close(c.quiet)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.sending.Wait()
	}()
	select {
	case <-done:
	case <-time.After(within):
		c.t.Errorf("messages still have no answer after %s", within)
	}
}

func (c *crowd) hushed() bool {
	select {
	case <-c.quiet:
		return true
	default:
		return false
	}
}

// pause waits, and tells whether there is something to do after it.
func (c *crowd) pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return !c.hushed()
	case <-c.quiet:
	case <-ctx.Done():
	}
	return false
}

// token gives a token of the handset's session, often a fresh one.
func (h *handset) token(ctx context.Context) (string, error) {
	h.session.Lock()
	defer h.session.Unlock()
	if time.Now().Before(h.renewAt) {
		return h.tokens.AccessToken, nil
	}
	tokens, _, err := h.api.Refresh(ctx, h.tokens.RefreshToken)
	if problem := new(client.Problem); errors.As(err, &problem) && problem.Status == http.StatusUnauthorized {
		h.crowd.count("refresh: " + problem.Code)
		tokens, _, err = h.api.Login(ctx, h.login)
	}
	if err != nil {
		return "", err
	}
	h.tokens, h.renewAt = tokens, time.Now().Add(tokenFresh)
	return tokens.AccessToken, nil
}

func (c *crowd) count(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.odd[what]++
}

func (c *crowd) oddities() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.odd)
}

// live runs one device after the other until ctx ends; when it is quiet, the last one stays.
func (h *handset) live(ctx context.Context) {
	for rest(ctx, rand.N(h.crowd.lives/10)) {
		living, end := context.WithCancel(ctx)
		device := h.api.Device(client.DeviceOptions{Token: h.token, Cursors: h.stand(), Deliver: h.deliver})
		h.enter(&life{device, func(do func()) func() bool { return context.AfterFunc(living, do) }})
		var watching sync.WaitGroup
		watching.Go(func() {
			if h.crowd.pause(living, h.crowd.lives+rand.N(2*h.crowd.lives)) {
				end()
			}
		})
		if err := device.Run(living); err != nil {
			h.crowd.count("turned away: " + err.Error())
		}
		h.enter(nil)
		end()
		watching.Wait()
	}
}

// rest waits, and tells whether ctx still goes on.
func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (h *handset) stand() map[wire.ConversationID]int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.cursors)
}

func (h *handset) enter(l *life) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.life = l
	if l != nil {
		close(h.born)
		h.born = make(chan struct{})
	}
}

// current is the life there is, or the next one.
func (h *handset) current(ctx context.Context) (*life, error) {
	for {
		h.mu.Lock()
		current, born := h.life, h.born
		h.mu.Unlock()
		if current != nil {
			return current, nil
		}
		select {
		case <-born:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (h *handset) deliver(id wire.ConversationID, items []wire.Item, to int64) {
	h.crowd.record.add(h.reading(h.name, id, items, to)...)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cursors[id] = to
}

// reading is what a reader was given, and its cursor then.
func (h *handset) reading(as string, id wire.ConversationID, items []wire.Item, to int64) []event {
	var events []event
	for _, item := range items {
		e := event{Client: as, User: h.user, What: given, Conversation: id, ID: item.ClientID, Seq: item.Seq}
		if item.Event != nil {
			switch item.Event.Type {
			case wire.EventCreated, wire.EventAdded:
				e.Joins = item.Event.Users
			case wire.EventRemoved, wire.EventLeft:
				e.Leaves = item.Event.Users
			}
		}
		events = append(events, e)
	}
	return append(events, event{Client: as, User: h.user, What: through, Conversation: id, Seq: to})
}

// write sends a message about every so often, each on its own: many wait for their answers at once.
func (h *handset) write(ctx context.Context, every time.Duration) {
	var waiting sync.WaitGroup
	defer waiting.Wait()
	places := make(chan struct{}, inFlight)
	for n := 0; h.crowd.pause(ctx, every/2+rand.N(every)); n++ {
		r, luck := h.rooms[rand.IntN(len(h.rooms))], rand.IntN(100)
		select {
		case places <- struct{}{}:
		default:
			continue // it has said enough that nobody answered
		}
		waiting.Go(func() {
			h.say(ctx, r, fmt.Sprintf("%s says %d", h.name, n), luck)
			<-places
		})
	}
}

// say sends one message until it has an answer. A few are sent over HTTP first, and a few not waited for.
func (h *handset) say(ctx context.Context, r *room, body string, luck int) {
	name, err := uuid.NewV7()
	if err != nil {
		h.crowd.count(err.Error())
		return
	}
	id := wire.ClientID(name.String())
	e := event{Client: h.name, User: h.user, What: asked, Conversation: r.id, ID: id}
	h.crowd.record.add(e)
	if luck < 10 {
		h.post(ctx, r, client.Message{ClientID: id, Body: body})
	}
	if luck >= 97 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Second)
		defer cancel()
	}
	for ctx.Err() == nil {
		sent, err := h.sendOnce(ctx, r, id, body)
		problem := new(client.Problem)
		if errors.As(err, &problem) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			h.refusedTo(e, r, problem)
			return
		}
		if err == nil {
			e.What, e.Seq = acked, sent.Seq
			h.crowd.record.add(e)
			return
		}
	}
}

// sendOnce sends by the current device, until it dies.
func (h *handset) sendOnce(ctx context.Context, r *room, id wire.ClientID, body string) (wire.Sent, error) {
	current, err := h.current(ctx)
	if err != nil {
		return wire.Sent{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer current.atDeath(cancel)()
	return current.SendAs(ctx, r.id, id, body)
}

// refusedTo notes a refusal. Who was removed is refused also a repeat of what was stored before.
func (h *handset) refusedTo(e event, r *room, problem *client.Problem) {
	h.crowd.count("send: " + problem.Code)
	if r.shifting && problem.Code == "no_such_conversation" {
		return
	}
	e.What = refused
	h.crowd.record.add(e)
}

// post sends a message over HTTP once; the device sends it again under the same name, and is to get the same answer.
func (h *handset) post(ctx context.Context, r *room, m client.Message) {
	token, err := h.token(ctx)
	if err != nil {
		return
	}
	sent, _, err := h.api.Send(ctx, token, r.id, m)
	if err == nil {
		h.crowd.record.add(event{Client: h.name, User: h.user, What: acked, Conversation: r.id, ID: m.ClientID, Seq: sent.Seq})
	}
}

// wander moves the person's cursors and reads a conversation from its beginning, now and then.
func (h *handset) wander(ctx context.Context) {
	for n := 0; h.crowd.pause(ctx, 8*time.Second+rand.N(8*time.Second)); n++ {
		r := h.rooms[n%len(h.rooms)]
		if r.shifting && h.person == r.people[len(r.people)-1] {
			continue // it may be outside just now
		}
		h.moveTo(ctx, r, h.stand()[r.id])
		if n%2 == h.person%2 {
			h.browse(ctx, r, fmt.Sprintf("%s reads %d", h.name, n))
		}
	}
}

func (h *handset) moveTo(ctx context.Context, r *room, seq int64) {
	token, err := h.token(ctx)
	if err != nil || seq == 0 {
		return
	}
	e := event{Client: h.name, User: h.user, What: moving, Conversation: r.id}
	h.crowd.record.add(e)
	if cursors, _, err := h.api.MoveCursor(ctx, token, r.id, client.CursorChange{Delivered: &seq, Read: &seq}); err == nil {
		e.What, e.Seq = moved, cursors.Read
		h.crowd.record.add(e)
	}
}

// browse reads the end of a conversation as somebody who then goes away.
func (h *handset) browse(ctx context.Context, r *room, as string) {
	if err := h.readOn(ctx, r, as, max(0, h.stand()[r.id]-browsed)); err != nil {
		h.crowd.count("reading given up")
	}
	h.crowd.record.add(event{Client: as, User: h.user, What: left, Conversation: r.id})
}

// readOn reads over HTTP, as a reader of its own, up to what was the head at the first page. It bears failures until it is quiet.
func (h *handset) readOn(ctx context.Context, r *room, as string, after int64) error {
	h.crowd.record.add(event{Client: as, User: h.user, What: through, Conversation: r.id, Seq: after})
	for head := int64(-1); head < 0 || after < head; {
		page, err := h.page(ctx, r, after, max(head, 0))
		if err != nil {
			if h.crowd.pause(ctx, time.Second) {
				continue
			}
			return err
		}
		h.crowd.record.add(h.reading(as, r.id, page.Items, page.Through)...)
		if after = page.Through; head < 0 {
			head = page.Head
		}
	}
	return nil
}

func (h *handset) page(ctx context.Context, r *room, after, upTo int64) (client.Page, error) {
	token, err := h.token(ctx)
	if err != nil {
		return client.Page{}, err
	}
	page, _, err := h.api.Messages(ctx, token, r.id, after, upTo, 500)
	if err == nil && page.Through == after && after < page.Head {
		err = fmt.Errorf("%s: what is above %d is still being stored", r.id, after)
	}
	return page, err
}

// shift takes the last of a room out and in again, by the hand of its owner.
func (c *crowd) shift(ctx context.Context, r *room) {
	owner, guest := c.handsets[2*r.people[0]], c.handsets[2*r.people[len(r.people)-1]]
	for inside := true; c.pause(ctx, 5*time.Second+rand.N(5*time.Second)); {
		token, err := owner.token(ctx)
		if err != nil {
			continue
		}
		if inside {
			_, err = owner.api.RemoveMember(ctx, token, r.id, guest.user)
		} else {
			_, _, err = owner.api.AddMembers(ctx, token, r.id, guest.user)
		}
		if err == nil || client.CodeOf(err) == "no_such_member" {
			inside = !inside
		}
	}
}

// behind tells which handset lacks what its person may see.
func (c *crowd) behind(ctx context.Context) error {
	for _, h := range c.handsets {
		token, err := h.token(ctx)
		if err != nil {
			return err
		}
		stand := h.stand()
		for _, r := range h.rooms {
			page, _, err := h.api.Messages(ctx, token, r.id, stand[r.id], 0, 1)
			if err != nil {
				return fmt.Errorf("%s reads %s: %w", h.name, r.id, err)
			}
			if stand[r.id] < page.Head {
				return fmt.Errorf("%s has %s up to %d of %d", h.name, r.id, stand[r.id], page.Head)
			}
		}
	}
	return nil
}

// settle waits until every handset has everything, and reads it all once more over HTTP, each on its own way.
func (c *crowd) settle(ctx context.Context, within time.Duration) {
	c.t.Helper()
	deadline := time.Now().Add(within)
	var err error
	for err = c.behind(ctx); err != nil && time.Now().Before(deadline); err = c.behind(ctx) {
		rest(ctx, time.Second)
	}
	if err != nil {
		c.t.Errorf("not settled within %s: %v", within, err)
	}
	for _, h := range c.handsets {
		for _, r := range h.rooms {
			if err := h.readOn(ctx, r, h.name+" reads at last", 0); err != nil {
				c.t.Errorf("%s reads %s at last: %v", h.name, r.id, err)
			}
		}
	}
}

// A small crowd on one host, whose line to the platform is cut again and again: its history keeps the promises.
func TestCrowdKeepsItsHistory(t *testing.T) {
	p := newPlatform(t)
	line := testkit.NewLine(t, strings.TrimPrefix(p.url, "http://"))
	var accounts []account
	for i := range 6 {
		a := account{name: fmt.Sprintf("person%d", i), password: "a long password"}
		for j, url := range []string{p.url, "http://" + line.Address()} {
			way, err := client.New(client.Options{BaseURL: url})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(way.Close)
			a.ways[j] = way
		}
		if _, _, err := a.ways[0].Register(t.Context(), client.Registration{Username: a.name, Password: a.password, DisplayName: "Somebody"}); err != nil {
			t.Fatal(err)
		}
		accounts = append(accounts, a)
	}
	record := newRecorder(io.Discard)
	c := newCrowd(t, record, accounts)
	c.lives = time.Second
	ctx, cancel := context.WithCancel(t.Context())
	c.start(ctx, 100)
	for range 4 {
		rest(ctx, 700*time.Millisecond)
		line.Cut()
		rest(ctx, 300*time.Millisecond)
		line.Mend()
	}
	c.hush(time.Minute)
	c.settle(ctx, time.Minute)
	cancel()
	c.living.Wait()
	history, err := record.close()
	if err != nil {
		t.Fatal(err)
	}
	v := judge(history)
	v.report(t)
	t.Log(v, c.oddities())
	if v.acknowledged < 100 {
		t.Errorf("only %d messages were acknowledged", v.acknowledged)
	}
}
