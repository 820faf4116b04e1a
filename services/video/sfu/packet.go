package sfu

import (
	"encoding/binary"
	"errors"
)

// Sizes of RTP (RFC 3550 §5.1, RFC 8285 §4).
const (
	rtpHeader      = 12
	oneByteProfile = 0xbede
	twoByteProfile = 0x1000 // and 16 values from it on
)

var errPacket = errors.New("not an RTP packet")

// extensions are the numbers that a connection has given to the header extensions that are read; 0 is none of it.
type extensions struct{ mid, rid, repaired, level, transport uint8 }

// packet is an RTP packet as it came. What it points to is the reader's, and good as long as it is being forwarded.
type packet struct {
	marker      bool
	payloadType uint8
	sequence    uint16
	timestamp   uint32
	ssrc        uint32
	payload     []byte // without padding

	mid, rid, repaired []byte
	level              uint8 // RFC 6464: 0 is loudest; 127 where nothing was said of it
	transport          uint16
	hasTransport       bool

	index  uint64 // the sequence number without wraps
	stream int    // of the layer's streams, which
	vp8    vp8    // of video
}

// parse reads a packet and those of its header extensions whose numbers are known. It makes no copies and trusts no length.
func (p *packet) parse(b []byte, ids *extensions) error {
	if len(b) < rtpHeader || b[0]>>6 != 2 {
		return errPacket
	}
	*p = packet{
		marker: b[1]&0x80 != 0, payloadType: b[1] & 0x7f, sequence: binary.BigEndian.Uint16(b[2:]),
		timestamp: binary.BigEndian.Uint32(b[4:]), ssrc: binary.BigEndian.Uint32(b[8:]), level: silence,
	}
	rest := b[rtpHeader:]
	if b[0]&0x20 != 0 {
		padding := int(b[len(b)-1])
		if padding == 0 || padding > len(rest) {
			return errPacket
		}
		rest = rest[:len(rest)-padding]
	}
	sources := 4 * int(b[0]&0xf)
	if len(rest) < sources {
		return errPacket
	}
	rest = rest[sources:]
	if b[0]&0x10 != 0 {
		if len(rest) < 4 {
			return errPacket
		}
		profile, size := binary.BigEndian.Uint16(rest), 4*int(binary.BigEndian.Uint16(rest[2:]))
		if len(rest) < 4+size {
			return errPacket
		}
		p.parseExtensions(profile, rest[4:4+size], ids)
		rest = rest[4+size:]
	}
	p.payload = rest
	return nil
}

// parseExtensions stops at what it cannot read: extensions are hints, the packet is good without.
func (p *packet) parseExtensions(profile uint16, b []byte, ids *extensions) {
	twoBytes := profile&0xfff0 == twoByteProfile
	if !twoBytes && profile != oneByteProfile {
		return
	}
	for len(b) > 0 {
		var id uint8
		var size, header int
		switch {
		case b[0] == 0: // padding
			b = b[1:]
			continue
		case !twoBytes:
			id, size, header = b[0]>>4, int(b[0]&0xf)+1, 1
			if id == 15 {
				return
			}
		case len(b) < 2:
			return
		default:
			id, size, header = b[0], int(b[1]), 2
		}
		if len(b) < header+size {
			return
		}
		p.takeExtension(id, b[header:header+size], ids)
		b = b[header+size:]
	}
}

func (p *packet) takeExtension(id uint8, value []byte, ids *extensions) {
	switch {
	case id == ids.mid:
		p.mid = value
	case id == ids.rid:
		p.rid = value
	case id == ids.repaired:
		p.repaired = value
	case id == ids.level && len(value) > 0:
		p.level = value[0] & 0x7f
	case id == ids.transport && len(value) >= 2:
		p.transport, p.hasTransport = binary.BigEndian.Uint16(value), true
	}
}

// unwrapRTX turns a retransmission into the packet that it repeats (RFC 4588 §4). One without content is only there to probe the way.
func (p *packet) unwrapRTX(ssrc uint32, payloadType uint8) bool {
	if len(p.payload) < 2 {
		return false
	}
	p.sequence, p.ssrc, p.payloadType = binary.BigEndian.Uint16(p.payload), ssrc, payloadType
	p.payload = p.payload[2:]
	return true
}
