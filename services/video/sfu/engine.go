package sfu

import (
	"fmt"

	"github.com/pion/webrtc/v4"
)

// Payload types, the same in both directions, so that packets pass as they are.
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
	fmtpOpus            = "minptime=10;useinbandfec=1;usedtx=1"                                       // RFC 7587 §6.1
)

// mediaEngine knows Opus and VP8, and which header extensions a connection in that direction has.
func mediaEngine(up bool) (*webrtc.MediaEngine, error) {
	m := &webrtc.MediaEngine{}
	video := []webrtc.RTCPFeedback{{Type: "ccm", Parameter: "fir"}, {Type: "nack"}, {Type: "nack", Parameter: "pli"}, {Type: "transport-cc"}}
	for _, codec := range []struct {
		kind webrtc.RTPCodecType
		webrtc.RTPCodecParameters
	}{
		{webrtc.RTPCodecTypeAudio, webrtc.RTPCodecParameters{
			RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: fmtpOpus},
			PayloadType:        payloadOpus,
		}},
		{webrtc.RTPCodecTypeVideo, webrtc.RTPCodecParameters{
			RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000, RTCPFeedback: video},
			PayloadType:        payloadVP8,
		}},
		{webrtc.RTPCodecTypeVideo, webrtc.RTPCodecParameters{
			RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeRTX, ClockRate: 90000, SDPFmtpLine: fmt.Sprintf("apt=%d", payloadVP8)},
			PayloadType:        payloadRTX,
		}},
	} {
		if err := m.RegisterCodec(codec.RTPCodecParameters, codec.kind); err != nil {
			return nil, fmt.Errorf("register %s: %w", codec.MimeType, err)
		}
	}
	audio, pictures := []string{extensionMID}, []string{extensionMID, extensionTWCC}
	if up {
		audio, pictures = append(audio, extensionAudioLevel), append(pictures, extensionRID, extensionRepairRID)
	}
	for kind, extensions := range map[webrtc.RTPCodecType][]string{webrtc.RTPCodecTypeAudio: audio, webrtc.RTPCodecTypeVideo: pictures} {
		for _, uri := range extensions {
			if err := m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: uri}, kind); err != nil {
				return nil, fmt.Errorf("register %s: %w", uri, err)
			}
		}
	}
	return m, nil
}
