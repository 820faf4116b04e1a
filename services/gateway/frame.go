package gateway

import (
	"encoding/json"
	"errors"
	"unicode/utf8"

	"secureconnect/services/internal/wire"
)

var errFrame = errors.New("not a frame of this protocol")

// parseFrame reads an auth frame, the only one a client may send so far.
func parseFrame(content []byte) (wire.AuthFrame, error) {
	var frame wire.AuthFrame
	// A text frame is UTF-8 (RFC 6455 §5.6); encoding/json would repair it silently.
	if !utf8.Valid(content) || json.Unmarshal(content, &frame) != nil {
		return wire.AuthFrame{}, errFrame
	}
	if frame.Type != wire.FrameAuth || frame.Token == "" {
		return wire.AuthFrame{}, errFrame
	}
	return frame, nil
}
