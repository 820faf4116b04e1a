package sfu

import "time"

const (
	leastRing = 32 << 10
	mostRing  = 1 << 20
	ringIndex = 1024 // packets
	keepFor   = time.Second
)

// ring keeps the last packets of a layer for who did not get them: a second of it, in as many bytes as that takes, up to mostRing.
type ring struct {
	bytes []byte
	end   uint64 // bytes that were ever written, those left out at the end of a turn among them
	turn  time.Time
	index [ringIndex]kept
}

// kept is where a packet is, and what of its header is needed to send it again.
type kept struct {
	index  uint64
	at     uint64
	n      int
	vp8    vp8
	marker bool
}

// put copies a packet. What it overwrites is gone.
func (r *ring) put(p *packet, now time.Time) {
	n := len(p.payload)
	if r.bytes == nil {
		r.bytes, r.turn = make([]byte, leastRing), now
	}
	if size := len(r.bytes); int(r.end%uint64(size))+n > size { //nolint:gosec // sizes of memory
		r.begin(p.index, now)
	}
	r.write(kept{index: p.index, n: n, vp8: p.vp8, marker: p.marker}, p.payload)
}

func (r *ring) write(k kept, payload []byte) {
	size := uint64(len(r.bytes))
	k.at = r.end
	copy(r.bytes[r.end%size:], payload)
	r.end += uint64(k.n) //nolint:gosec // the size of a packet
	r.index[k.index%ringIndex] = k
}

// begin starts the next turn; a larger one if the last was too short.
func (r *ring) begin(newest uint64, now time.Time) {
	size := uint64(len(r.bytes))
	if now.Sub(r.turn) < keepFor && size < mostRing {
		r.grow(newest)
	} else {
		r.end += size - r.end%size
	}
	r.turn = now
}

func (r *ring) grow(newest uint64) {
	old := *r
	r.bytes, r.end, r.index = make([]byte, 2*len(old.bytes)), 0, [ringIndex]kept{}
	for index := newest - min(newest, ringIndex-1); index < newest; index++ {
		if k, payload := old.get(index); payload != nil {
			r.write(k, payload)
		}
	}
}

// get gives a packet that is still there. The payload is the ring's: to be copied before the next put.
func (r *ring) get(index uint64) (kept, []byte) {
	k, size := r.index[index%ringIndex], uint64(len(r.bytes))
	if k.index != index || k.n == 0 || r.end-k.at > size {
		return kept{}, nil
	}
	at := k.at % size
	return k, r.bytes[at : at+uint64(k.n)] //nolint:gosec // the size of a packet
}
