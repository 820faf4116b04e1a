package frames

import "encoding/binary"

// Kind is what a frame is of. It is authenticated with it: none can be taken for one of the other kind.
type Kind byte

const (
	Audio Kind = 0 // Opus
	Video Kind = 1 // VP8
)

// A frame is its clear bytes, ciphertext and tag, and a trailer: counter, chain and step.
const (
	tagSize     = 16
	counterSize = 6
	trailerSize = counterSize + 4 + 1

	// Overhead is by how much encryption makes a frame longer.
	Overhead = tagSize + trailerSize

	maxCounter = 1<<(8*counterSize) - 1
	nonceSize  = 12
)

// Of a key frame of VP8, the tag, start code and size of the picture stay clear, of another its first byte (RFC 6386 §9.1).
const (
	clearKeyFrame = 10
	clearFrame    = 1
	interFrame    = 1 // the bit of the first byte that a key frame has not
)

// KeyFrame reports whether a frame of VP8, encrypted or not, needs none before it.
func KeyFrame(frame []byte) bool { return len(frame) > 0 && frame[0]&interFrame == 0 }

// clearBytes is how many bytes of a frame stay clear. It reads the first of them, which is one.
func (k Kind) clearBytes(frame []byte) int {
	switch {
	case k == Audio:
		return 0
	case KeyFrame(frame):
		return clearKeyFrame
	default:
		return clearFrame
	}
}

// trailer says which key opens a frame.
type trailer struct {
	counter uint64
	chain   uint32
	step    uint8
}

func (t trailer) append(to []byte) []byte {
	to = binary.BigEndian.AppendUint16(to, uint16(t.counter>>32)) // #nosec G115 -- it has six bytes
	to = binary.BigEndian.AppendUint32(to, uint32(t.counter))     // #nosec G115 -- as above
	to = binary.BigEndian.AppendUint32(to, t.chain)
	return append(to, t.step)
}

// readTrailer reads the last bytes of a frame that has as many.
func readTrailer(frame []byte) trailer {
	end := frame[len(frame)-trailerSize:]
	return trailer{
		counter: uint64(end[0])<<40 | uint64(end[1])<<32 | uint64(binary.BigEndian.Uint32(end[2:])),
		chain:   binary.BigEndian.Uint32(end[6:]),
		step:    end[10],
	}
}

// scratch is what encrypting one frame needs beside its output. It is kept, as what is handed to a cipher.AEAD escapes to the heap.
type scratch struct {
	nonce [nonceSize]byte
	extra [1 + clearKeyFrame]byte
}

// iv is six zero bytes and the counter.
func (s *scratch) iv(counter uint64) []byte {
	binary.BigEndian.PutUint64(s.nonce[nonceSize-8:], counter)
	return s.nonce[:]
}

// additional is the kind of the frame and what stays clear of it.
func (s *scratch) additional(kind Kind, clear []byte) []byte {
	s.extra[0] = byte(kind)
	return s.extra[:1+copy(s.extra[1:], clear)]
}
