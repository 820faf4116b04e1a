package calls

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"secureconnect/services/client/e2ee"
	"secureconnect/services/client/e2ee/frames"
	"secureconnect/services/internal/wire"
)

// ErrNotMember is why a device in the call is given no key: its user is not in the conversation.
var ErrNotMember = errors.New("not a member of the conversation")

// Times of keys.
const (
	newChainAfter  = 500 * time.Millisecond // for its key to arrive
	newChainWithin = 2 * time.Second        // who has left reads that long at most
	firstRetry     = 500 * time.Millisecond
	lastRetry      = 30 * time.Second
)

// ring is the keys of one seat, and who has them. It is the loop's.
type ring struct {
	sender  *frames.Sender
	changed func(frames.Key) // hears of every key that is used

	present map[e2ee.Peer]bool
	owed    map[e2ee.Peer]bool // who are to be sent what is used, and what is to be
	refused map[e2ee.Peer]error

	next   *frames.Key        // the chain that is to be used
	lacks  map[e2ee.Peer]bool // who have not been sent it
	since  time.Time          // when it was drawn
	latest time.Time          // when it is used whoever lacks it
	spent  bool               // somebody has come who may not read the last step: it was used before

	sending bool
	retry   time.Time
	pause   time.Duration
}

func newRing(changed func(frames.Key)) *ring {
	key := frames.NewKey()
	r := &ring{
		sender: frames.NewSender(key), changed: changed, present: map[e2ee.Peer]bool{}, owed: map[e2ee.Peer]bool{},
		refused: map[e2ee.Peer]error{}, lacks: map[e2ee.Peer]bool{}, pause: firstRetry,
	}
	changed(key)
	return r
}

// begin owes everybody who is there the first key.
func (r *ring) begin(peers []e2ee.Peer) {
	for _, peer := range peers {
		r.present[peer], r.owed[peer] = true, true
	}
}

// everybodyEvery is how many steps apart all are sent the key, and not only who comes: receivers make 16 steps by themselves, and a sender
// who is silent for long must not get further ahead of them.
const everybodyEvery = 16

// came goes a step further, so that peer reads nothing of before.
func (r *ring) came(now time.Time, peer e2ee.Peer) {
	r.present[peer], r.owed[peer] = true, true
	r.hurry()
	key, err := r.sender.Step()
	if err != nil {
		r.spent = true
		r.rotate(now)
		return
	}
	r.changed(key)
	if key.Step%everybodyEvery == 0 {
		maps.Copy(r.owed, r.present)
	}
	if r.next != nil {
		r.lacks[peer] = true
	}
	if key.Step == frames.LastStep {
		r.rotate(now)
	}
}

// hurry sends what is owed at once, whoever was refused something before.
func (r *ring) hurry() { r.retry, r.pause = time.Time{}, firstRetry }

// left draws a new chain, so that peer reads nothing of after.
func (r *ring) left(now time.Time, peer e2ee.Peer) {
	delete(r.present, peer)
	delete(r.owed, peer)
	delete(r.lacks, peer)
	delete(r.refused, peer)
	r.rotate(now)
}

func (r *ring) rotate(now time.Time) {
	r.hurry()
	key := frames.NewKey()
	r.next, r.since, r.lacks = &key, now, maps.Clone(r.present)
	if r.latest.IsZero() {
		r.latest = now.Add(newChainWithin)
	}
	maps.Copy(r.owed, r.present)
}

// tick goes over to the new chain once all have its key and had time to take it, or when it is time.
func (r *ring) tick(now time.Time) {
	if r.next == nil || (len(r.lacks) > 0 || now.Before(r.since.Add(newChainAfter))) && now.Before(r.latest) {
		return
	}
	r.sender.Use(*r.next)
	r.changed(*r.next)
	r.next, r.latest, r.lacks, r.spent = nil, time.Time{}, map[e2ee.Peer]bool{}, false
}

// job is keys on their way to peers.
type job struct {
	keys  []frames.Key
	peers map[e2ee.Peer]bool
}

func (j job) has(chain uint32) bool {
	return slices.ContainsFunc(j.keys, func(key frames.Key) bool { return key.Chain == chain })
}

// due gives what is to be sent now to those that are judged. One job is under way at a time: receivers count on the order of chains.
func (r *ring) due(now time.Time, judged func(wire.UserID) bool) (job, bool) {
	if r.sending || now.Before(r.retry) {
		return job{}, false
	}
	j := job{peers: map[e2ee.Peer]bool{}}
	for peer := range r.owed {
		if judged(peer.User) {
			j.peers[peer] = true
			delete(r.owed, peer)
		}
	}
	if len(j.peers) == 0 {
		return job{}, false
	}
	if !r.spent {
		j.keys = append(j.keys, r.sender.Key())
	}
	if r.next != nil {
		j.keys = append(j.keys, *r.next)
	}
	r.sending = true
	return j, true
}

// done takes what became of a job. What did not succeed is tried again, later each time, as long as its peer is there.
func (r *ring) done(now time.Time, j job, refused map[e2ee.Peer]error, err error) {
	r.sending = false
	failed := false
	for peer := range j.peers {
		if !r.present[peer] {
			continue
		}
		reason := refused[peer]
		if reason != nil {
			r.refused[peer] = reason
			delete(r.lacks, peer) // it is not to have it
		}
		if reason != nil || err != nil {
			r.owed[peer], failed = true, true
			continue
		}
		delete(r.refused, peer)
		if r.next != nil && j.has(r.next.Chain) {
			delete(r.lacks, peer)
		}
	}
	if !failed {
		r.pause = firstRetry
		return
	}
	r.retry = now.Add(r.pause)
	r.pause = min(2*r.pause, lastRetry)
}

// deliver sends the keys of a job.
func (c *Call) deliver(ctx context.Context, participant wire.ParticipantID, members map[wire.UserID]bool, j job) (map[e2ee.Peer]error, error) {
	refused := map[e2ee.Peer]error{}
	var peers []e2ee.Peer
	for peer := range j.peers {
		if members[peer.User] {
			peers = append(peers, peer)
		} else {
			refused[peer] = ErrNotMember
		}
	}
	if len(peers) == 0 {
		return refused, nil
	}
	for _, key := range j.keys {
		not, err := c.options.Keys.SendCallKey(ctx, wire.CallKey{
			CallID: c.id, ParticipantID: participant, Chain: key.Chain, Step: key.Step, Key: key.Secret.Reveal(),
		}, peers)
		maps.Copy(refused, not)
		if err != nil {
			return refused, err
		}
	}
	return refused, nil
}
