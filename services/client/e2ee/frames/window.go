package frames

// behind is how far a counter may lie behind the newest.
const behind = 4096

// windowWords hold more bits than behind, as they are cleared word by word (RFC 6479).
const windowWords = 128

// window knows which counters were seen lately.
type window struct {
	newest uint64
	seen   [windowWords]uint64
}

// fresh reports whether a counter was not seen, and is not too old to know.
func (w *window) fresh(counter uint64) bool {
	return counter > w.newest || counter+behind >= w.newest && w.seen[counter/64%windowWords]&(1<<(counter%64)) == 0
}

// mark notes a fresh counter as seen.
func (w *window) mark(counter uint64) {
	if counter > w.newest {
		w.clear(w.newest/64, counter/64)
		w.newest = counter
	}
	w.seen[counter/64%windowWords] |= 1 << (counter % 64)
}

// clear forgets the words behind from, up to to.
func (w *window) clear(from, to uint64) {
	for word := max(from, to-min(to, windowWords)) + 1; word <= to; word++ {
		w.seen[word%windowWords] = 0
	}
}
