package calls

import (
	"time"

	"github.com/pion/rtp/codecs"
)

// assembler puts frames of VP8 together (RFC 7741), in their order. A frame whose packets do not all come is given up once later ones have
// waited for patience.
type assembler struct {
	parts [assemblerParts]part
	begun bool
	next  int64 // where the next frame begins, once begun
	last  int64 // the newest packet
}

// assemblerParts bounds the packets that wait: more than a large key frame has. When they do not suffice, what is oldest is lost.
const assemblerParts = 1024

// patience is how long a packet that was lost may take to be sent again.
const patience = 250 * time.Millisecond

type part struct {
	place   int64
	there   bool
	starts  bool
	ends    bool
	came    time.Time
	payload []byte
}

// take adds a packet, and gives the frames that are whole now and how many were given up.
func (a *assembler) take(now time.Time, place int64, ends bool, payload []byte) (whole [][]byte, lost int) {
	one := part{place: place, there: true, ends: ends, came: now}
	if len(payload) > 0 { // else it is padding
		var described codecs.VP8Packet
		content, err := described.Unmarshal(payload)
		if err != nil {
			return nil, 0
		}
		one.starts, one.payload = described.S == 1 && described.PID == 0, content
	}
	if !a.begun && one.starts {
		a.begun, a.next, a.last = true, place, place
	}
	if !a.begun || place < a.next {
		return nil, 0
	}
	a.last = max(a.last, place)
	*a.at(place) = one
	if place-a.next >= assemblerParts {
		lost += a.skip(place - assemblerParts + 1)
	}
	for {
		frame, more := a.frame()
		switch {
		case frame != nil:
			whole = append(whole, frame)
		case more:
		case a.has(a.next) && !a.at(a.next).starts, a.stuck(now):
			lost += a.skip(a.next + 1)
		default:
			return whole, lost
		}
	}
}

func (a *assembler) at(place int64) *part { return &a.parts[place%assemblerParts] }

func (a *assembler) has(place int64) bool {
	one := a.at(place)
	return one.there && one.place == place
}

// frame takes the next frame away, if it is whole; more says that padding before it was.
func (a *assembler) frame() (frame []byte, more bool) {
	if a.has(a.next) && a.at(a.next).payload == nil {
		a.next++
		return nil, true
	}
	var size int
	for place := a.next; a.has(place); place++ {
		one := a.at(place)
		size += len(one.payload)
		if !one.ends {
			continue
		}
		frame = make([]byte, 0, size)
		for ; a.next <= place; a.next++ {
			frame = append(frame, a.at(a.next).payload...)
			a.at(a.next).payload = nil
		}
		return frame, true
	}
	return nil, false
}

// stuck reports whether something behind a hole has waited for too long.
func (a *assembler) stuck(now time.Time) bool {
	hole := false
	for place := a.next; place <= a.last; place++ {
		if !a.has(place) {
			hole = true
		} else if hole && now.Sub(a.at(place).came) > patience {
			return true
		}
	}
	return false
}

// skip goes on to where a frame begins, at from or later.
func (a *assembler) skip(from int64) (lost int) {
	for a.next = from; a.next <= a.last; a.next++ {
		if a.has(a.next) && a.at(a.next).starts {
			return 1
		}
	}
	return 1
}
