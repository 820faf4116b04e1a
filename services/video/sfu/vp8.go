package sfu

import "encoding/binary"

// vp8 is what the payload descriptor says, which is in clear (RFC 7741 §4.2), and the first bit of a frame, which stays so too.
type vp8 struct {
	begins  bool // a frame
	key     bool // a key frame, of a packet that begins one
	picture uint16
	at      uint8 // where the picture ID is; 0 where there is none
	wide    bool  // it has 15 bits, not 7
	tl0     uint8
	tl0At   uint8 // 0 where there is none
}

// parse reads a descriptor; one that it cannot read is passed on as it is.
func (v *vp8) parse(b []byte) {
	*v = vp8{}
	if len(b) < 1 {
		return
	}
	at := 1
	if b[0]&0x80 != 0 {
		if at = v.parseExtension(b); at == 0 {
			*v = vp8{}
			return
		}
	}
	v.begins = b[0]&0x10 != 0 && b[0]&0x07 == 0
	v.key = v.begins && len(b) > at && b[at]&1 == 0 // RFC 6386 §9.1
}

// parseExtension gives the size of the descriptor, 0 where it is cut off.
func (v *vp8) parseExtension(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	has, at := b[1], 2
	if has&0x80 != 0 {
		if len(b) < at+1 {
			return 0
		}
		v.at, v.picture = uint8(at), uint16(b[at])
		if at++; v.picture&0x80 != 0 {
			if len(b) < at+1 {
				return 0
			}
			v.wide, v.picture = true, binary.BigEndian.Uint16(b[at-1:])&0x7fff
			at++
		}
	}
	if has&0x40 != 0 {
		if len(b) < at+1 {
			return 0
		}
		v.tl0At, v.tl0 = uint8(at), b[at]
		at++
	}
	if has&0x30 != 0 {
		at++
	}
	if len(b) < at {
		return 0
	}
	return at
}

// patch writes other numbers of the same size into the descriptor.
func (v *vp8) patch(b []byte, picture uint16, tl0 uint8) {
	if v.at != 0 {
		if v.wide {
			binary.BigEndian.PutUint16(b[v.at:], picture|0x8000)
		} else {
			b[v.at] = byte(picture & 0x7f)
		}
	}
	if v.tl0At != 0 {
		b[v.tl0At] = tl0
	}
}
