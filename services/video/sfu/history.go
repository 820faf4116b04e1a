package sfu

import "time"

const (
	leastHistory = 64
	mostHistory  = 1024
)

// sent says how to make a packet anew, byte for byte: SRTP must never see one number with two contents (RFC 3711 §3.3.1).
type sent struct {
	layer     *layer
	index     uint64
	timestamp uint32
	sequence  uint16
	picture   uint16
	tl0       uint8
	again     time.Time
}

// history is what a slot of video has sent within keepFor, for as long as the payloads are kept as well, by sequence numbers: a packet has its
// place by its number, in a power of two of places.
type history []sent

// at is the place of a number. Whose packet is there, is for the caller to see.
func (h history) at(sequence uint16) *sent { return &h[int(sequence)%len(h)] }

// with remembers a packet, in more places where that would overwrite one that can be asked for still.
func (h history) with(packet sent) history {
	if h == nil {
		h = make(history, leastHistory)
	}
	for len(h) < mostHistory && h.at(packet.sequence).isBeside(packet) {
		larger := make(history, 2*len(h))
		for _, each := range h {
			if each.layer != nil {
				*larger.at(each.sequence) = each
			}
		}
		h = larger
	}
	if at := h.at(packet.sequence); !at.isBeside(packet) || int16(packet.sequence-at.sequence) > 0 { //nolint:gosec // wraps as it should
		*at = packet
	}
	return h
}

// isBeside says whether it is another packet of about the same time.
func (s *sent) isBeside(other sent) bool {
	const most = int32(keepFor / time.Second * videoClock)
	distance := int32(other.timestamp - s.timestamp) //nolint:gosec // as above
	return s.layer != nil && s.sequence != other.sequence && distance < most && distance > -most
}
