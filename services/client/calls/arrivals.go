package calls

// arrivals counts the packets of one stream by their sequence numbers (RFC 3550 §5.1), and knows those that came twice.
type arrivals struct {
	begun    bool
	first    int64
	newest   int64
	received int64
	seen     [arrivalsKept / 64]uint64
}

// arrivalsKept is how far behind the newest a packet is still told from one that came before.
const arrivalsKept = 1024

// firstRound keeps places positive, whatever comes before the first.
const firstRound = 1 << 32

// take gives a packet's place in the stream, and reports whether it is new.
func (a *arrivals) take(sequence uint16) (place int64, fresh bool) {
	if !a.begun {
		a.begun = true
		a.first = firstRound + int64(sequence)
		a.newest = a.first - 1
	}
	place = a.newest + int64(int16(sequence-uint16(a.newest))) // #nosec G115 -- numbers wrap
	switch {
	case place > a.newest:
		for passed := max(a.newest+1, place-arrivalsKept+1); passed <= place; passed++ {
			a.set(passed, false)
		}
		a.newest = place
	case place <= a.newest-arrivalsKept || a.has(place):
		return place, false
	}
	a.first = min(a.first, place)
	a.set(place, true)
	a.received++
	return place, true
}

// lost is how many have not come so far.
func (a *arrivals) lost() int64 {
	if !a.begun {
		return 0
	}
	return a.newest - a.first + 1 - a.received
}

func (a *arrivals) bit(place int64) (word *uint64, mask uint64) {
	at := uint64(place) % arrivalsKept // #nosec G115 -- places are positive
	return &a.seen[at/64], 1 << (at % 64)
}

func (a *arrivals) has(place int64) bool {
	word, mask := a.bit(place)
	return *word&mask != 0
}

func (a *arrivals) set(place int64, on bool) {
	word, mask := a.bit(place)
	*word &^= mask
	if on {
		*word |= mask
	}
}
