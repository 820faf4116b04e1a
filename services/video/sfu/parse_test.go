package sfu

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/stun/v4"
)

var allExtensions = extensions{mid: 1, rid: 2, repaired: 3, level: 4, transport: 5}

// A packet is read as pion reads it.
func TestPacketParse(t *testing.T) {
	t.Parallel()
	for _, profile := range []uint16{oneByteProfile, twoByteProfile} {
		p := rtp.Packet{
			Header: rtp.Header{
				Version: 2, Marker: true, PayloadType: 96, SequenceNumber: 7, Timestamp: 8, SSRC: 9, CSRC: []uint32{1, 2},
				Extension: true, ExtensionProfile: profile,
			},
			Payload: []byte("payload"), PaddingSize: 3,
		}
		p.Padding = true
		for id, value := range map[uint8]string{1: "mid", 2: "q", 3: "h", 4: "\x85", 5: "\x01\x02", 9: "other"} {
			fail(t, p.SetExtension(id, []byte(value)))
		}
		b, err := p.Marshal()
		fail(t, err)
		var got packet
		fail(t, got.parse(b, &allExtensions))
		if !got.marker || got.payloadType != 96 || got.sequence != 7 || got.timestamp != 8 || got.ssrc != 9 || string(got.payload) != "payload" ||
			string(got.mid) != "mid" || string(got.rid) != "q" || string(got.repaired) != "h" || got.level != 5 || !got.hasTransport || got.transport != 0x102 {
			t.Errorf("profile %x: read %+v", profile, got)
		}
		for n := range len(b) {
			_ = got.parse(b[:n], &allExtensions) // whatever it says, it does not fall
		}
	}
}

// A retransmission is the packet that it repeats.
func TestUnwrapRTX(t *testing.T) {
	t.Parallel()
	p := packet{sequence: 1, ssrc: 2, payloadType: payloadRTX, payload: []byte{0x12, 0x34, 'x'}}
	if !p.unwrapRTX(9, payloadVP8) || p.sequence != 0x1234 || p.ssrc != 9 || p.payloadType != payloadVP8 || string(p.payload) != "x" {
		t.Errorf("unwrapped %+v", p)
	}
	if p = (packet{payload: []byte{1}}); p.unwrapRTX(9, payloadVP8) {
		t.Error("nothing was unwrapped")
	}
}

// The descriptors of RFC 7741, and what is written into them.
func TestVP8(t *testing.T) {
	t.Parallel()
	for _, d := range []struct {
		name    string
		payload []byte
		want    vp8
		patched []byte
	}{
		{"nothing", nil, vp8{}, nil},
		{"one byte, a key frame", []byte{0x10, 0x10}, vp8{begins: true, key: true}, []byte{0x10, 0x10}},
		{"another frame", []byte{0x10, 0x11}, vp8{begins: true}, []byte{0x10, 0x11}},
		{"the middle of one", []byte{0x00, 0x10}, vp8{}, []byte{0x00, 0x10}},
		{"another partition", []byte{0x11, 0x10}, vp8{}, []byte{0x11, 0x10}},
		{"a short picture ID", []byte{0x90, 0x80, 0x05, 0x00}, vp8{begins: true, key: true, at: 2, picture: 5}, []byte{0x90, 0x80, 0x11, 0x00}},
		{"a long one", []byte{0x90, 0x80, 0x81, 0x02, 0x01}, vp8{begins: true, at: 2, wide: true, picture: 0x102}, []byte{0x90, 0x80, 0xab, 0x91, 0x01}},
		{
			"everything", []byte{0x90, 0xf0, 0x81, 0x02, 0x07, 0x20, 0x00},
			vp8{begins: true, key: true, at: 2, wide: true, picture: 0x102, tl0: 7, tl0At: 4}, []byte{0x90, 0xf0, 0xab, 0x91, 0x63, 0x20, 0x00},
		},
		{"cut off", []byte{0x90, 0xf0, 0x81}, vp8{}, nil},
		{"cut off before anything", []byte{0x90}, vp8{}, nil},
	} {
		var got vp8
		got.parse(d.payload)
		if d.patched == nil {
			if got != d.want {
				t.Errorf("%s: read %+v", d.name, got)
			}
			continue
		}
		if got != d.want {
			t.Errorf("%s: read %+v", d.name, got)
		}
		b := bytes.Clone(d.payload)
		if got.patch(b, 0x2b91, 0x63); !bytes.Equal(b, d.patched) {
			t.Errorf("%s: patched to %x", d.name, b)
		}
	}
}

// heardControls writes down what RTCP said.
type heardControls struct {
	nacks     []uint16
	keys      []uint32
	reports   []uint32
	blocks    map[uint32]reception
	feedbacks [][]byte
}

func (h *heardControls) senderReport(ssrc uint32, _ uint64, stamp uint32) {
	h.reports = append(h.reports, ssrc, stamp)
}
func (h *heardControls) reception(ssrc uint32, r reception) { h.blocks[ssrc] = r }
func (h *heardControls) nack(_ uint32, sequence uint16)     { h.nacks = append(h.nacks, sequence) }
func (h *heardControls) keyFrameWanted(ssrc uint32)         { h.keys = append(h.keys, ssrc) }
func (h *heardControls) feedback(b []byte)                  { h.feedbacks = append(h.feedbacks, b) }

// A compound of everything is read as pion wrote it.
func TestControls(t *testing.T) {
	t.Parallel()
	block := rtcp.ReceptionReport{SSRC: 5, FractionLost: 64, Jitter: 7, LastSenderReport: 8, Delay: 1 << 16}
	feedback := &rtcp.TransportLayerCC{
		Header: rtcp.Header{Count: rtcp.FormatTCC, Type: rtcp.TypeTransportSpecificFeedback, Length: 6}, MediaSSRC: 5, BaseSequenceNumber: 10, PacketStatusCount: 3,
		ReferenceTime: 2, PacketChunks: []rtcp.PacketStatusChunk{&rtcp.RunLengthChunk{PacketStatusSymbol: rtcp.TypeTCCPacketReceivedSmallDelta, RunLength: 3}},
		RecvDeltas: []*rtcp.RecvDelta{{Type: rtcp.TypeTCCPacketReceivedSmallDelta, Delta: 250}, {Type: rtcp.TypeTCCPacketReceivedSmallDelta, Delta: 500}, {Type: rtcp.TypeTCCPacketReceivedSmallDelta, Delta: 0}},
	}
	b, err := rtcp.Marshal([]rtcp.Packet{
		&rtcp.SenderReport{SSRC: 3, NTPTime: 1 << 32, RTPTime: 4, Reports: []rtcp.ReceptionReport{block}},
		&rtcp.ReceiverReport{SSRC: 3, Reports: []rtcp.ReceptionReport{{SSRC: 6}}},
		&rtcp.SourceDescription{Chunks: []rtcp.SourceDescriptionChunk{{Source: 3, Items: []rtcp.SourceDescriptionItem{{Type: rtcp.SDESCNAME, Text: "x"}}}}},
		&rtcp.TransportLayerNack{MediaSSRC: 5, Nacks: rtcp.NackPairsFromSequenceNumbers([]uint16{1, 3, 17, 40})},
		&rtcp.PictureLossIndication{MediaSSRC: 5},
		&rtcp.FullIntraRequest{MediaSSRC: 5, FIR: []rtcp.FIREntry{{SSRC: 6}, {SSRC: 7}}},
		feedback,
	})
	fail(t, err)
	h := &heardControls{blocks: map[uint32]reception{}}
	parseControls(b, h)
	if !slices.Equal(h.reports, []uint32{3, 4}) || h.blocks[5] != (reception{lost: 0.25, jitter: 7, lastReport: 8, delay: time.Second}) || len(h.blocks) != 2 {
		t.Errorf("reports: %+v", h)
	}
	if !slices.Equal(h.nacks, []uint16{1, 3, 17, 40}) || !slices.Equal(h.keys, []uint32{5, 6, 7}) || len(h.feedbacks) != 1 {
		t.Errorf("wishes: %+v", h)
	}
	var got []time.Duration
	if !parseTransport(h.feedbacks[0], func(sequence uint16, arrived bool, at time.Duration) {
		if sequence != uint16(10+len(got)) || !arrived {
			t.Errorf("packet %d arrived: %v", sequence, arrived)
		}
		got = append(got, at)
	}) {
		t.Error("the feedback could not be read")
	}
	at := 128 * time.Millisecond
	if !slices.Equal(got, []time.Duration{at + 250*time.Microsecond, at + 750*time.Microsecond, at + 750*time.Microsecond}) {
		t.Errorf("the packets arrived at %v", got)
	}
}

// All ways to write feedback are read.
func TestTransportFeedback(t *testing.T) {
	t.Parallel()
	for _, f := range []struct {
		name string
		b    []byte
		want []bool
	}{
		{"a run of lost ones", []byte{0, 1, 0, 3, 0, 0, 1, 0, 0x00, 0x03}, []bool{false, false, false}},
		{"one bit", []byte{0, 1, 0, 3, 0, 0, 1, 0, 0xa8, 0x00, 4, 4}, []bool{true, false, true}},
		{"two bits", []byte{0, 1, 0, 3, 0, 0, 1, 0, 0xd8, 0x00, 4, 0xff, 0xfc}, []bool{true, true, false}[:3]},
		{"less than it says", []byte{0, 1, 0, 3, 0, 0, 1, 0, 0xa8, 0x00, 4}, nil},
		{"an empty run", []byte{0, 1, 0, 3, 0, 0, 1, 0, 0x00, 0x00}, nil},
		{"no chunk", []byte{0, 1, 0, 3, 0, 0, 1, 0}, nil},
		{"nothing", nil, nil},
	} {
		var got []bool
		ok := parseTransport(f.b, func(_ uint16, arrived bool, _ time.Duration) { got = append(got, arrived) })
		if ok != (f.want != nil) || ok && !slices.Equal(got, f.want) {
			t.Errorf("%s: %v, %v", f.name, got, ok)
		}
	}
}

func FuzzPacket(f *testing.F) {
	p := rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: payloadVP8}, Payload: []byte{0x90, 0xf0, 0x81, 0x02, 0x07, 0x20, 0x00}}
	for id, value := range map[uint8]string{1: "0", 2: "q", 4: "\x85", 5: "\x01\x02"} {
		_ = p.SetExtension(id, []byte(value))
	}
	b, err := p.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{0xb0, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0x10, 0, 0, 1, 1, 2, 'a', 'b', 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var got packet
		if got.parse(b, &allExtensions) != nil {
			return
		}
		var theirs rtp.Packet
		if theirs.Unmarshal(b) == nil && (theirs.SSRC != got.ssrc || theirs.SequenceNumber != got.sequence || theirs.Marker != got.marker) {
			t.Errorf("read %+v of %x", got, b)
		}
		got.vp8.parse(got.payload)
		size := len(got.payload)
		got.vp8.patch(got.payload, 0x7fff, 0xff)
		var again vp8
		again.parse(got.payload)
		if again.begins != got.vp8.begins || again.key != got.vp8.key || len(got.payload) != size {
			t.Errorf("patching changed %+v to %+v", got.vp8, again)
		}
		_ = got.unwrapRTX(1, payloadVP8)
	})
}

func FuzzControls(f *testing.F) {
	b, err := rtcp.Marshal([]rtcp.Packet{
		&rtcp.SenderReport{Reports: []rtcp.ReceptionReport{{SSRC: 1}}}, &rtcp.TransportLayerNack{MediaSSRC: 1, Nacks: []rtcp.NackPair{{PacketID: 1, LostPackets: 3}}},
		&rtcp.PictureLossIndication{MediaSSRC: 1}, &rtcp.FullIntraRequest{FIR: []rtcp.FIREntry{{SSRC: 1}}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(append([]byte{0x8f, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 1}, 0, 1, 0, 3, 0, 0, 1, 0, 0xd8, 0x00, 4, 0xff))
	f.Fuzz(func(t *testing.T, b []byte) {
		h := &heardControls{blocks: map[uint32]reception{}}
		parseControls(b, h)
		if len(h.nacks) > 17*len(b)/4 {
			t.Errorf("%d NACKs of %d bytes", len(h.nacks), len(b))
		}
		bandwidth := newBand(time.Unix(1e9, 0))
		for i := range 20 {
			bandwidth.sent(1000, false, time.Unix(1e9, 0).Add(time.Duration(i)*time.Millisecond))
		}
		for _, feedback := range h.feedbacks {
			reported := 0
			parseTransport(feedback, func(uint16, bool, time.Duration) { reported++ })
			if len(feedback) >= 4 && reported > int(binary.BigEndian.Uint16(feedback[2:])) {
				t.Errorf("%d packets reported", reported)
			}
			bandwidth.heard(feedback, time.Unix(1e9, 1e9))
		}
		if rate := bandwidth.believed(time.Unix(1e9, 2e9)); rate < leastRate || rate > mostRate {
			t.Errorf("%f are believed", rate)
		}
	})
}

func FuzzOffer(f *testing.F) {
	f.Add("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 00\r\na=ice-ufrag:them\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=rtpmap:111 opus/48000/2\r\na=sendonly\r\na=extmap:1 " + extensionMID + "\r\n" +
		"m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:1\r\na=rtpmap:96 VP8/90000\r\na=fmtp:97 apt=96\r\na=rid:q send\r\na=simulcast:send q\r\na=ssrc:1 cname:x\r\na=ssrc-group:FID 1 2\r\nm=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:2\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		o, err := parseOffer(text)
		if err != nil {
			return
		}
		answer := o.answerTo(side{credentials: newCredentials(), fingerprint: "sha-256 00", setup: "passive", candidate: "1"}, 1, 1)
		again, err := parseOffer(answer)
		if err != nil && len(o.sections) > 0 {
			t.Errorf("the answer to %q cannot be read: %v\n%s", text, err, answer)
		}
		if err == nil && len(again.all) != len(o.all) {
			t.Errorf("%d sections answer %d", len(again.all), len(o.all))
		}
	})
}

func FuzzAnswer(f *testing.F) {
	slots := []*slot{newSlot(nil, audio, "0"), newSlot(nil, video, "1")}
	f.Add("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 00\r\na=setup:active\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=rtpmap:111 opus/48000/2\r\na=recvonly\r\nm=video 0 UDP/TLS/RTP/SAVPF 96\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		if a, err := parseAnswer(text, slots); err == nil && (len(a.accepted) != len(slots) || a.fingerprint == "") {
			t.Errorf("%q was read as %+v", text, a)
		}
	})
}

func FuzzBinding(f *testing.F) {
	w, key := newWays(), stun.NewShortTermIntegrity("password")
	t := &transport{sfu: &SFU{ways: w, now: time.Now}}
	t.pipe = newPipe(t)
	t.ctx = f.Context()
	w.open(t, credentials{"fragment", "password"}, 0)
	from := netip.MustParseAddrPort("127.0.0.1:9")
	for _, setters := range [][]stun.Setter{
		{stun.TransactionID, stun.BindingRequest, stun.NewUsername("fragment:x"), stun.RawAttribute{Type: stun.AttrUseCandidate}, key, stun.Fingerprint},
		{stun.TransactionID, stun.BindingRequest, stun.NewUsername("fragment:x")},
	} {
		m, err := stun.Build(setters...)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m.Raw)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		answer, ok := w.bind(bytes.Clone(b), from)
		if !ok {
			return
		}
		m := &stun.Message{Raw: b}
		if err := m.Decode(); err != nil || key.Check(m) != nil {
			t.Errorf("%x was answered by %x", b, answer)
		}
	})
}
