package sfu

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"
)

// Payload types of the connection down. Up, the client chooses.
const (
	payloadOpus = 111
	payloadVP8  = 96
	payloadRTX  = 97
)

const (
	extensionMID        = "urn:ietf:params:rtp-hdrext:sdes:mid"
	extensionRID        = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
	extensionRepairRID  = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
	extensionAudioLevel = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"                               // RFC 6464
	extensionTWCC       = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01" // transport-wide sequence numbers

	downTransport = 1 // the number of the extension on the connection down
)

// description writes SDP (RFC 8866) line by line.
type description struct{ strings.Builder }

func (d *description) line(format string, values ...any) {
	_, _ = fmt.Fprintf(d, format+"\r\n", values...) // into memory
}

// begin writes what stands above the media sections, which share one transport (RFC 8843).
func (d *description) begin(session, version uint64, mids []string) {
	d.line("v=0")
	d.line("o=- %d %d IN IP4 0.0.0.0", session, version)
	d.line("s=-")
	d.line("t=0 0")
	d.line("a=group:BUNDLE %s", strings.Join(mids, " "))
	d.line("a=ice-lite")
	d.line("a=msid-semantic: WMS *")
}

// side is what a description says of our end of a transport.
type side struct {
	credentials
	fingerprint string
	setup       string // RFC 8842 §5
	candidate   string
}

func (t *transport) side(setup string) (side, error) {
	print, err := t.fingerprint()
	if err != nil {
		return side{}, err
	}
	port := t.sfu.port
	return side{
		credentials: t.credentials(), fingerprint: print, setup: setup,
		candidate: fmt.Sprintf("1 1 udp 2130706431 %s %d typ host", t.sfu.o.Address, port),
	}, nil
}

// transport writes how to reach us, in a media section.
func (d *description) transport(s side) {
	d.line("c=IN IP4 0.0.0.0")
	d.line("a=ice-ufrag:%s", s.fragment)
	d.line("a=ice-pwd:%s", s.password)
	d.line("a=fingerprint:%s", s.fingerprint)
	d.line("a=setup:%s", s.setup)
	d.line("a=candidate:%s", s.candidate)
	d.line("a=end-of-candidates")
	d.line("a=rtcp-mux")
	d.line("a=rtcp-rsize")
}

func (d *description) opus(payloadType uint8) {
	d.line("a=rtpmap:%d opus/48000/2", payloadType)
	d.line("a=fmtp:%d minptime=10;useinbandfec=1;usedtx=1", payloadType) // RFC 7587 §6.1
}

func (d *description) vp8(payloadType, rtx uint8) {
	d.line("a=rtpmap:%d VP8/90000", payloadType)
	for _, feedback := range []string{"transport-cc", "ccm fir", "nack", "nack pli"} {
		d.line("a=rtcp-fb:%d %s", payloadType, feedback)
	}
	if rtx != 0 {
		d.line("a=rtpmap:%d rtx/90000", rtx)
		d.line("a=fmtp:%d apt=%d", rtx, payloadType)
	}
}

// answerTo answers an offer of a connection up: its sections in their order, those that send received, the others left inactive.
func (o *offer) answerTo(our side, session, version uint64) string {
	var d description
	var mids []string
	for _, m := range o.all {
		if !m.refused {
			mids = append(mids, m.mid)
		}
	}
	d.begin(session, version, mids)
	for _, m := range o.all {
		m.answer(&d, our, o.ids)
	}
	return d.String()
}

func (m *media) answer(d *description, our side, ids extensions) {
	if m.refused {
		d.line("m=%s 0 %s %s", m.kind, m.protocol, strings.Join(m.formats, " "))
		d.line("c=IN IP4 0.0.0.0")
		d.line("a=inactive")
		return
	}
	formats := strconv.Itoa(int(m.payloadType))
	if m.rtxType != 0 {
		formats += " " + strconv.Itoa(int(m.rtxType))
	}
	d.line("m=%s 9 %s %s", m.kind, m.protocol, formats)
	d.transport(our)
	d.line("a=mid:%s", m.mid)
	d.extension(ids.mid, extensionMID)
	if m.kind == audio {
		d.extension(ids.level, extensionAudioLevel)
		d.opus(m.payloadType)
	} else {
		d.extension(ids.rid, extensionRID)
		d.extension(ids.repaired, extensionRepairRID)
		d.extension(ids.transport, extensionTWCC)
		d.vp8(m.payloadType, m.rtxType)
	}
	if !m.sends {
		d.line("a=inactive")
		return
	}
	d.line("a=recvonly")
	for _, rid := range m.rids {
		d.line("a=rid:%s recv", rid)
	}
	if len(m.rids) > 0 {
		d.line("a=simulcast:recv %s", strings.Join(m.rids, ";"))
	}
}

func (d *description) extension(number uint8, uri string) {
	if number != 0 {
		d.line("a=extmap:%d %s", number, uri)
	}
}

// offerOf offers a connection down with these slots.
func offerOf(slots []*slot, our side, session, version uint64) string {
	var d description
	mids := make([]string, len(slots))
	for i, s := range slots {
		mids[i] = s.mid
	}
	d.begin(session, version, mids)
	for _, s := range slots {
		s.describe(&d, our)
	}
	return d.String()
}

func (s *slot) describe(d *description, our side) {
	if s.kind == audio {
		d.line("m=audio 9 UDP/TLS/RTP/SAVPF %d", payloadOpus)
	} else {
		d.line("m=video 9 UDP/TLS/RTP/SAVPF %d %d", payloadVP8, payloadRTX)
	}
	d.transport(our)
	d.line("a=mid:%s", s.mid)
	if s.kind == audio {
		d.opus(payloadOpus)
	} else {
		d.extension(downTransport, extensionTWCC)
		d.vp8(payloadVP8, payloadRTX)
	}
	d.line("a=sendonly")
	d.line("a=msid:slot-%s slot-%s", s.mid, s.mid)
	if s.kind == audio {
		d.line("a=ssrc:%d cname:sfu", s.ssrc)
		return
	}
	d.line("a=ssrc-group:FID %d %d", s.ssrc, s.repair)
	d.line("a=ssrc:%d cname:sfu", s.ssrc) // first: some take the first one for the media's
	d.line("a=ssrc:%d cname:sfu", s.repair)
}

// answer is what is read of a description that answers the offer of a connection down.
type answer struct {
	peerKey
	accepted []bool // of the slots
}

// parseAnswer refuses what cannot be an answer to an offer of these slots.
func parseAnswer(text string, slots []*slot) (*answer, error) {
	var d sdp.SessionDescription
	if err := d.UnmarshalString(text); err != nil {
		return nil, refuse("%v", err)
	}
	if len(d.MediaDescriptions) != len(slots) {
		return nil, refuse("%d media sections for %d slots", len(d.MediaDescriptions), len(slots))
	}
	a := &answer{accepted: make([]bool, len(slots))}
	for i, m := range d.MediaDescriptions {
		if m.MediaName.Port.Value == 0 {
			continue
		}
		if attribute(m.Attributes, "mid") != slots[i].mid || m.MediaName.Media != string(slots[i].kind) {
			return nil, refuse("section %d is not the slot %s", i, slots[i].mid)
		}
		a.accepted[i] = receives(d.Attributes, m) && payloadTypeOf(m, slots[i].kind.codec()) == slots[i].payloadType()
		if a.fingerprint == "" {
			if err := a.parse(d.Attributes, m.Attributes); err != nil {
				return nil, err
			}
		}
	}
	if a.fingerprint == "" {
		return nil, refuse("no slot is accepted")
	}
	return a, nil
}

// parse reads the key and role of a client's side of DTLS; a section's words go before the session's.
func (k *peerKey) parse(session, section []sdp.Attribute) error {
	print := attribute(section, "fingerprint")
	if print == "" {
		print = attribute(session, "fingerprint")
	}
	var ok bool
	if k.algorithm, k.fingerprint, ok = strings.Cut(print, " "); !ok {
		return refuse("no fingerprint")
	}
	setup := attribute(section, "setup")
	if setup == "" {
		setup = attribute(session, "setup")
	}
	k.client = setup != "passive"
	return nil
}
