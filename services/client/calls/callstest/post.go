package callstest

import (
	"context"
	"crypto/hmac"
	"crypto/sha1" // #nosec G505 -- what TURN's REST credentials are defined with
	"encoding/base64"
	"slices"
	"sync"

	"secureconnect/services/client/e2ee"
	"secureconnect/services/internal/wire"
)

// Post carries keys between devices at once, all of them honest. How they travel inside Olm is tried in services/auth/keys.
type Post struct {
	mu      sync.Mutex
	boxes   []*Box
	refuses map[e2ee.Peer]error
	fails   error
	sent    []Delivery
}

// Delivery is one key that was carried.
type Delivery struct {
	From, To e2ee.Peer
	Key      wire.CallKey
}

// Box is one device's; it is what package calls calls Keys.
type Box struct {
	post *Post
	peer e2ee.Peer
	call wire.CallID
	take func(e2ee.Peer, wire.CallKey)
}

// Box gives a device one.
func (p *Post) Box(peer e2ee.Peer) *Box { return &Box{post: p, peer: peer} }

// Fail has all sending fail, until err is nil.
func (p *Post) Fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fails = err
}

// Refuse has a device be given no key, until err is nil.
func (p *Post) Refuse(peer e2ee.Peer, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuses = map[e2ee.Peer]error{peer: err}
}

// Sent are the keys carried so far, in their order.
func (p *Post) Sent() []Delivery {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.sent)
}

// CallKeys hands over keys until stop.
func (b *Box) CallKeys(call wire.CallID, take func(e2ee.Peer, wire.CallKey)) (stop func()) {
	b.post.mu.Lock()
	defer b.post.mu.Unlock()
	b.call, b.take = call, take
	b.post.boxes = append(b.post.boxes, b)
	return func() {
		b.post.mu.Lock()
		defer b.post.mu.Unlock()
		b.post.boxes = slices.DeleteFunc(b.post.boxes, func(one *Box) bool { return one == b })
	}
}

// SendCallKey carries a key to all who are there.
func (b *Box) SendCallKey(_ context.Context, key wire.CallKey, to []e2ee.Peer) (map[e2ee.Peer]error, error) {
	p := b.post
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fails != nil {
		return nil, p.fails
	}
	refused := map[e2ee.Peer]error{}
	for _, peer := range to {
		if err := p.refuses[peer]; err != nil {
			refused[peer] = err
			continue
		}
		p.sent = append(p.sent, Delivery{b.peer, peer, key})
		for _, other := range p.boxes {
			if other.peer == peer && other.call == key.CallID {
				other.take(b.peer, key)
			}
		}
	}
	return refused, nil
}

// Password is what goes with a user name of the TURN server, for who has its secret.
func Password(secret, username string) string {
	mac := hmac.New(sha1.New, []byte(secret))
	_, _ = mac.Write([]byte(username)) // a hash never errs
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
