package calls

import (
	"fmt"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/nack"
	"github.com/pion/interceptor/pkg/report"
	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/logging"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"
)

// Payload types, as services/video/PROTOCOL.md fixes them.
const (
	payloadOpus = 111
	payloadVP8  = 96
	payloadRTX  = 97

	clockOpus = 48000
	clockVP8  = 90000
)

var (
	codecOpus = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: clockOpus, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1;usedtx=1"}
	codecVP8  = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: clockVP8, RTCPFeedback: []webrtc.RTCPFeedback{
		{Type: "ccm", Parameter: "fir"}, {Type: "nack"}, {Type: "nack", Parameter: "pli"}, {Type: "transport-cc"},
	}}
	codecRTX = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeRTX, ClockRate: clockVP8, SDPFmtpLine: fmt.Sprintf("apt=%d", payloadVP8)}
)

// Header extensions of packets.
const (
	extensionMID        = sdp.SDESMidURI
	extensionRID        = sdp.SDESRTPStreamIDURI
	extensionRepairRID  = sdp.SDESRepairRTPStreamIDURI
	extensionAudioLevel = sdp.AudioLevelURI // RFC 6464
	extensionTWCC       = sdp.TransportCCURI
)

// quiet keeps the library from writing to the program's output; what goes wrong shows in a call's State.
var quiet = &logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled}

func mediaEngine(up bool) (*webrtc.MediaEngine, error) {
	m := &webrtc.MediaEngine{}
	for _, codec := range []struct {
		kind    webrtc.RTPCodecType
		payload webrtc.PayloadType
		webrtc.RTPCodecCapability
	}{
		{webrtc.RTPCodecTypeAudio, payloadOpus, codecOpus}, {webrtc.RTPCodecTypeVideo, payloadVP8, codecVP8}, {webrtc.RTPCodecTypeVideo, payloadRTX, codecRTX},
	} {
		parameters := webrtc.RTPCodecParameters{RTPCodecCapability: codec.RTPCodecCapability, PayloadType: codec.payload}
		if err := m.RegisterCodec(parameters, codec.kind); err != nil {
			return nil, fmt.Errorf("register %s: %w", codec.MimeType, err)
		}
	}
	audio, video := []string{extensionMID}, []string{extensionMID, extensionTWCC}
	if up {
		audio, video = append(audio, extensionAudioLevel), append(video, extensionRID, extensionRepairRID)
	}
	for kind, extensions := range map[webrtc.RTPCodecType][]string{webrtc.RTPCodecTypeAudio: audio, webrtc.RTPCodecTypeVideo: video} {
		for _, uri := range extensions {
			if err := m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: uri}, kind); err != nil {
				return nil, fmt.Errorf("register %s: %w", uri, err)
			}
		}
	}
	return m, nil
}

// interceptors are what is done to packets on their way: what was lost is sent again, and both sides tell how they are doing.
func interceptors(up bool) (*interceptor.Registry, error) {
	registry := &interceptor.Registry{}
	receiver, err := report.NewReceiverInterceptor(report.WithReceiverLoggerFactory(quiet))
	if err != nil {
		return nil, fmt.Errorf("prepare receiver reports: %w", err)
	}
	sender, err := report.NewSenderInterceptor(report.WithSenderLoggerFactory(quiet))
	if err != nil {
		return nil, fmt.Errorf("prepare sender reports: %w", err)
	}
	registry.Add(receiver)
	registry.Add(sender)
	if up {
		responder, err := nack.NewResponderInterceptor(nack.WithResponderLoggerFactory(quiet))
		if err != nil {
			return nil, fmt.Errorf("prepare retransmission: %w", err)
		}
		numbers, err := twcc.NewHeaderExtensionInterceptor()
		if err != nil {
			return nil, fmt.Errorf("prepare transport-wide numbers: %w", err)
		}
		registry.Add(responder)
		registry.Add(numbers)
		return registry, nil
	}
	generator, err := nack.NewGeneratorInterceptor(nack.WithGeneratorLoggerFactory(quiet))
	if err != nil {
		return nil, fmt.Errorf("prepare loss reports: %w", err)
	}
	feedback, err := twcc.NewSenderInterceptor(twcc.WithLoggerFactory(quiet))
	if err != nil {
		return nil, fmt.Errorf("prepare transport-wide feedback: %w", err)
	}
	registry.Add(generator)
	registry.Add(feedback)
	return registry, nil
}

// How long a path may be silent, how often it is tried when it is, and how soon a lost packet of the DTLS handshake is sent again.
const (
	silence        = 1500 * time.Millisecond
	checkEvery     = 300 * time.Millisecond
	neverGiveUp    = time.Hour // the ladder does
	dtlsRetransmit = 200 * time.Millisecond
)

// newPeerConnection makes a connection up or down that is relayed by servers, or, where direct, need not be.
func newPeerConnection(up, direct bool, dialer dialer, servers []webrtc.ICEServer) (*webrtc.PeerConnection, error) {
	engine, err := mediaEngine(up)
	if err != nil {
		return nil, err
	}
	registry, err := interceptors(up)
	if err != nil {
		return nil, err
	}
	settings := webrtc.SettingEngine{LoggerFactory: quiet}
	settings.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	settings.SetRelayAcceptanceMinWait(0) // there is nothing better to wait for
	settings.SetSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM)
	settings.SetICETimeouts(silence, neverGiveUp, checkEvery)
	settings.SetDTLSRetransmissionInterval(dtlsRetransmit)
	settings.SetICEProxyDialer(dialer)
	settings.DisableActiveTCP(true)
	configuration := webrtc.Configuration{ICEServers: servers, ICETransportPolicy: webrtc.ICETransportPolicyRelay, BundlePolicy: webrtc.BundlePolicyMaxBundle}
	if direct {
		configuration.ICETransportPolicy = webrtc.ICETransportPolicyAll
		settings.SetIncludeLoopbackCandidate(true)
	}
	api := webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithInterceptorRegistry(registry), webrtc.WithSettingEngine(settings))
	pc, err := api.NewPeerConnection(configuration)
	if err != nil {
		return nil, fmt.Errorf("make connection: %w", err)
	}
	return pc, nil
}
