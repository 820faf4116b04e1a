package video

import (
	"encoding/json"
	"errors"
	"unicode/utf8"

	"secureconnect/services/internal/wire"
)

const (
	// frameLimit is for the description of a connection with two dozen media sections.
	frameLimit = 64 << 10

	maxRequestID = 64
	maxWanted    = 400
	maxSlots     = 24
	usualSlots   = 8
)

var errFrame = errors.New("not a frame of this protocol")

// parseFrame reads what a client said. Unknown fields are for later versions; an unknown type is nobody's.
func parseFrame(content []byte) (wire.CallFrame, error) {
	var frame wire.CallFrame
	// A text frame is UTF-8 (RFC 6455 §5.6); encoding/json would repair it silently.
	if !utf8.Valid(content) || json.Unmarshal(content, &frame) != nil || !wellFormed(frame) {
		return wire.CallFrame{}, errFrame
	}
	return frame, nil
}

func wellFormed(f wire.CallFrame) bool {
	if len(f.ID) > maxRequestID {
		return false
	}
	switch f.Type {
	case wire.FrameAuth:
		return f.Token != ""
	case wire.FrameJoin:
		return f.VideoSlots >= 0 && f.VideoSlots <= maxSlots
	case wire.FrameOffer, wire.FrameAnswer:
		return f.SDP != ""
	case wire.FrameMute:
		return f.MID != ""
	case wire.FrameWant:
		return len(f.Want) <= maxWanted && wantsWell(f.Want)
	case wire.FrameRestart, wire.FrameLeave, wire.FramePing:
		return true
	default:
		return false
	}
}

func wantsWell(want map[wire.TrackID]string) bool {
	for _, quality := range want {
		switch quality {
		case wire.WantOff, wire.WantLow, wire.WantMedium, wire.WantHigh:
		default:
			return false
		}
	}
	return true
}

// frameOf encodes what is made of our own types only, which does not fail.
func frameOf(frame any) []byte {
	encoded, err := json.Marshal(frame)
	if err != nil {
		panic(err)
	}
	return encoded
}
