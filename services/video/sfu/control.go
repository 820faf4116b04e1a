package sfu

import (
	"encoding/binary"
	"time"
)

// Packet types and formats of RTCP (RFC 3550 §12.1, RFC 4585 §6, RFC 5104 §4, draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).
const (
	typeSenderReport   = 200
	typeReceiverReport = 201
	typeTransport      = 205
	typePayload        = 206
	formatNACK         = 1
	formatTransportCC  = 15
	formatPLI          = 1
	formatFIR          = 4
)

// controlHandler takes what RTCP says, of which streams.
type controlHandler interface {
	senderReport(ssrc uint32, ntp uint64, stamp uint32)
	reception(ssrc uint32, r reception)
	nack(ssrc uint32, sequence uint16)
	keyFrameWanted(ssrc uint32)
	feedback(b []byte)
}

// reception is a report block (RFC 3550 §6.4.1).
type reception struct {
	lost       float64 // the share since the last report
	jitter     uint32
	lastReport uint32
	delay      time.Duration
}

// parseControls reads a compound of RTCP. What it does not know it leaves out, and where something is cut off it stops.
func parseControls(b []byte, h controlHandler) {
	for len(b) >= 4 && b[0]>>6 == 2 {
		size := 4 * (1 + int(binary.BigEndian.Uint16(b[2:])))
		if len(b) < size {
			return
		}
		parseControl(b[1], b[0]&0x1f, b[4:size], h)
		b = b[size:]
	}
}

func parseControl(kind, format uint8, body []byte, h controlHandler) {
	if len(body) < 4 {
		return
	}
	switch kind {
	case typeSenderReport:
		if len(body) < 24 {
			return
		}
		h.senderReport(binary.BigEndian.Uint32(body), binary.BigEndian.Uint64(body[4:]), binary.BigEndian.Uint32(body[12:]))
		parseReceptions(body[24:], int(format), h)
	case typeReceiverReport:
		parseReceptions(body[4:], int(format), h)
	case typeTransport, typePayload:
		if len(body) >= 8 {
			parseFeedback(kind, format, binary.BigEndian.Uint32(body[4:]), body[8:], h)
		}
	}
}

func parseReceptions(b []byte, count int, h controlHandler) {
	for ; count > 0 && len(b) >= 24; count, b = count-1, b[24:] {
		h.reception(binary.BigEndian.Uint32(b), reception{
			lost: float64(b[4]) / 256, jitter: binary.BigEndian.Uint32(b[12:]), lastReport: binary.BigEndian.Uint32(b[16:]),
			delay: time.Duration(binary.BigEndian.Uint32(b[20:])) * time.Second >> 16,
		})
	}
}

func parseFeedback(kind, format uint8, ssrc uint32, rest []byte, h controlHandler) {
	switch {
	case kind == typeTransport && format == formatTransportCC:
		h.feedback(rest)
	case kind == typePayload && format == formatFIR: // its streams stand in its entries (RFC 5104 §4.3.1.1)
		for ; len(rest) >= 8; rest = rest[8:] {
			h.keyFrameWanted(binary.BigEndian.Uint32(rest))
		}
	case kind == typePayload && format == formatPLI:
		h.keyFrameWanted(ssrc)
	case kind == typeTransport && format == formatNACK:
		for ; len(rest) >= 4; rest = rest[4:] {
			first, others := binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
			h.nack(ssrc, first)
			for i := range uint16(16) {
				if others>>i&1 == 1 {
					h.nack(ssrc, first+i+1)
				}
			}
		}
	}
}

// parseTransport reads transport-wide feedback: of every packet from a number on, whether it arrived and when, on the receiver's clock.
func parseTransport(b []byte, each func(sequence uint16, arrived bool, at time.Duration)) bool {
	if len(b) < 8 {
		return false
	}
	sequence, count := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
	at := time.Duration(uint32(b[4])<<16|uint32(b[5])<<8|uint32(b[6])) * 64 * time.Millisecond
	deltas, ok := skipChunks(b[8:], count)
	if !ok {
		return false
	}
	for chunks := b[8:]; count > 0; chunks = chunks[2:] {
		chunk := binary.BigEndian.Uint16(chunks)
		for i := range min(count, statuses(chunk)) {
			size := deltaSize(statusOf(chunk, i))
			if len(deltas) < size {
				return false
			}
			if size > 0 {
				at += delta(deltas[:size])
			}
			deltas = deltas[size:]
			each(sequence, size > 0, at)
			sequence++
		}
		count -= min(count, statuses(chunk))
	}
	return true
}

// skipChunks gives what follows the chunks that tell of so many packets.
func skipChunks(b []byte, count int) ([]byte, bool) {
	for count > 0 {
		if len(b) < 2 {
			return nil, false
		}
		n := statuses(binary.BigEndian.Uint16(b))
		if n == 0 {
			return nil, false
		}
		count, b = count-n, b[2:]
	}
	return b, true
}

// statuses is of how many packets a chunk tells: a run, 14 of one bit or 7 of two.
func statuses(chunk uint16) int {
	switch {
	case chunk&0x8000 == 0:
		return int(chunk & 0x1fff)
	case chunk&0x4000 == 0:
		return 14
	}
	return 7
}

func statusOf(chunk uint16, i int) uint16 {
	switch {
	case chunk&0x8000 == 0:
		return chunk >> 13 & 3
	case chunk&0x4000 == 0:
		return chunk >> (13 - i) & 1
	}
	return chunk >> (12 - 2*i) & 3
}

// deltaSize is in bytes; of a packet that did not arrive there is none.
func deltaSize(status uint16) int {
	switch status {
	case 1:
		return 1
	case 2:
		return 2
	}
	return 0
}

func delta(b []byte) time.Duration {
	if len(b) == 1 {
		return time.Duration(b[0]) * 250 * time.Microsecond
	}
	return time.Duration(int16(binary.BigEndian.Uint16(b))) * 250 * time.Microsecond //nolint:gosec // signed in the draft
}
