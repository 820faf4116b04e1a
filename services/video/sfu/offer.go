package sfu

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"

	"secureconnect/services/internal/wire"
)

const (
	mostSections = 32 // of an offer; those of ended tracks stay in it
	mostTracks   = 4  // a microphone, a camera, a screen and its sound
)

// ErrDescription is a description, or what was said of it, that a client should not have sent.
var ErrDescription = errors.New("not a description that the SFU takes")

func refuse(format string, arguments ...any) error {
	return fmt.Errorf("%w: %s", ErrDescription, fmt.Sprintf(format, arguments...))
}

// kind is audio or video.
type kind string

const (
	audio kind = "audio"
	video kind = "video"
)

func (k kind) codec() string {
	if k == audio {
		return "opus/48000/2"
	}
	return "vp8/90000"
}

func (k kind) clock() uint32 {
	if k == audio {
		return opusClock
	}
	return videoClock
}

// offer is what is read of a description of a connection up.
type offer struct {
	peerKey
	fragment string // of the client's ICE; another one is an ICE restart
	ids      extensions
	all      []*media
	sections []*media // those that send
}

// media is a media section.
type media struct {
	mid                  string
	kind                 kind
	protocol             string
	formats              []string
	refused, sends       bool
	payloadType, rtxType uint8
	rids                 []string // of simulcast, from small to large
	ssrcs                []uint32
	repairs              []uint32 // the SSRCs of retransmissions
}

// parseOffer reads what the SFU has to know, and refuses what it would not understand.
func parseOffer(text string) (*offer, error) {
	var d sdp.SessionDescription
	if err := d.UnmarshalString(text); err != nil {
		return nil, refuse("%v", err)
	}
	if len(d.MediaDescriptions) == 0 || len(d.MediaDescriptions) > mostSections {
		return nil, refuse("%d media sections", len(d.MediaDescriptions))
	}
	o := &offer{}
	for _, m := range d.MediaDescriptions {
		section, err := o.parseMedia(d.Attributes, m)
		if err != nil {
			return nil, err
		}
		o.all = append(o.all, section)
		if section.sends {
			o.sections = append(o.sections, section)
		}
	}
	if o.fingerprint == "" {
		return nil, refuse("all sections are refused")
	}
	if len(o.sections) > mostTracks {
		return nil, refuse("%d tracks", len(o.sections))
	}
	return o, nil
}

func attribute(attributes []sdp.Attribute, key string) string {
	for _, a := range attributes {
		if a.Key == key {
			return a.Value
		}
	}
	return ""
}

// direction is of a section, or of all (RFC 8866 §6.7).
func direction(session []sdp.Attribute, m *sdp.MediaDescription) string {
	for _, attributes := range [][]sdp.Attribute{m.Attributes, session} {
		for _, a := range attributes {
			switch a.Key {
			case "sendonly", "sendrecv", "recvonly", "inactive":
				return a.Key
			}
		}
	}
	return "sendrecv"
}

func receives(session []sdp.Attribute, m *sdp.MediaDescription) bool {
	d := direction(session, m)
	return d == "recvonly" || d == "sendrecv"
}

func (o *offer) parseMedia(session []sdp.Attribute, m *sdp.MediaDescription) (*media, error) {
	s := &media{
		mid: attribute(m.Attributes, "mid"), kind: kind(m.MediaName.Media), protocol: strings.Join(m.MediaName.Protos, "/"), formats: m.MediaName.Formats,
	}
	if s.kind != audio && s.kind != video || len(s.formats) == 0 {
		return nil, refuse("a section of %s", m.MediaName.Media)
	}
	if _, bundled := m.Attribute("bundle-only"); m.MediaName.Port.Value == 0 && !bundled {
		s.refused = true
		return s, nil
	}
	if s.mid == "" || len(s.mid) > 16 || strings.ContainsAny(s.mid, " \t") || slices.ContainsFunc(o.all, func(other *media) bool { return !other.refused && other.mid == s.mid }) {
		return nil, refuse("the mid %q", s.mid)
	}
	if s.payloadType = payloadTypeOf(m, s.kind.codec()); s.payloadType == 0 {
		return nil, refuse("section %s is without %s", s.mid, s.kind.codec())
	}
	if s.kind == video {
		s.rtxType = rtxTypeOf(m, s.payloadType)
	}
	if o.fingerprint == "" {
		if err := o.parse(session, m.Attributes); err != nil {
			return nil, err
		}
		if o.fragment = attribute(m.Attributes, "ice-ufrag"); o.fragment == "" {
			o.fragment = attribute(session, "ice-ufrag")
		}
	}
	if err := o.parseExtensions(m); err != nil {
		return nil, err
	}
	if d := direction(session, m); d != "sendonly" && d != "sendrecv" {
		return s, nil
	}
	s.sends = true
	if err := s.parseRIDs(m); err != nil {
		return nil, err
	}
	return s, s.parseSSRCs(m)
}

func payloadTypeOf(m *sdp.MediaDescription, codec string) uint8 {
	for _, a := range m.Attributes {
		number, name, is := strings.Cut(a.Value, " ")
		if a.Key == "rtpmap" && is && strings.EqualFold(strings.TrimSpace(name), codec) {
			if n, err := strconv.ParseUint(number, 10, 7); err == nil && slices.Contains(m.MediaName.Formats, number) {
				return uint8(n)
			}
		}
	}
	return 0
}

// rtxTypeOf finds the payload type of a codec's retransmissions (RFC 4588 §8.1).
func rtxTypeOf(m *sdp.MediaDescription, payloadType uint8) uint8 {
	for _, a := range m.Attributes {
		number, parameters, _ := strings.Cut(a.Value, " ")
		if a.Key != "fmtp" || strings.TrimSpace(parameters) != "apt="+strconv.Itoa(int(payloadType)) {
			continue
		}
		if n, err := strconv.ParseUint(number, 10, 7); err == nil {
			return uint8(n)
		}
	}
	return 0
}

// parseExtensions takes the numbers of header extensions, which are the same in all sections of a bundle (RFC 8843 §9.2.1).
func (o *offer) parseExtensions(m *sdp.MediaDescription) error {
	known := map[string]*uint8{
		extensionMID: &o.ids.mid, extensionRID: &o.ids.rid, extensionRepairRID: &o.ids.repaired,
		extensionAudioLevel: &o.ids.level, extensionTWCC: &o.ids.transport,
	}
	for _, a := range m.Attributes {
		if a.Key != "extmap" {
			continue
		}
		fields := strings.Fields(a.Value)
		if len(fields) < 2 || known[fields[1]] == nil {
			continue
		}
		number, _, _ := strings.Cut(fields[0], "/")
		n, err := strconv.ParseUint(number, 10, 8)
		if err != nil || n == 0 || *known[fields[1]] != 0 && uint64(*known[fields[1]]) != n {
			return refuse("the header extension %q", a.Value)
		}
		*known[fields[1]] = uint8(n)
	}
	return nil
}

// parseRIDs takes the layers of simulcast (RFC 8853). They have the SFU's names, which tell their order.
func (s *media) parseRIDs(m *sdp.MediaDescription) error {
	for _, a := range m.Attributes {
		if a.Key != "rid" {
			continue
		}
		fields := strings.Fields(a.Value)
		if len(fields) < 2 || fields[1] != "send" {
			continue
		}
		if s.kind != video || !slices.Contains(rids, fields[0]) || slices.Contains(s.rids, fields[0]) {
			return refuse("the layer %q", a.Value)
		}
		s.rids = append(s.rids, fields[0])
	}
	slices.SortFunc(s.rids, func(a, b string) int { return slices.Index(rids, a) - slices.Index(rids, b) })
	return nil
}

// parseSSRCs takes those that are declared; layers of simulcast are known by their rids.
func (s *media) parseSSRCs(m *sdp.MediaDescription) error {
	for _, a := range m.Attributes {
		fields := strings.Fields(a.Value)
		switch {
		case a.Key == "ssrc" && len(fields) > 0:
			n, err := strconv.ParseUint(fields[0], 10, 32)
			if err != nil {
				return refuse("the SSRC %q", a.Value)
			}
			if !slices.Contains(s.ssrcs, uint32(n)) {
				s.ssrcs = append(s.ssrcs, uint32(n))
			}
		case a.Key == "ssrc-group" && len(fields) == 3 && fields[0] == "FID":
			if n, err := strconv.ParseUint(fields[2], 10, 32); err == nil {
				s.repairs = append(s.repairs, uint32(n))
			}
		}
	}
	if len(s.ssrcs) > 2*len(rids) || len(s.repairs) > len(rids) {
		return refuse("%d SSRCs in section %s", len(s.ssrcs), s.mid)
	}
	s.ssrcs = slices.DeleteFunc(s.ssrcs, func(ssrc uint32) bool { return slices.Contains(s.repairs, ssrc) })
	return nil
}

// match gives each section its source: all that send have one, nobody sends from one twice.
func (o *offer) match(sources []Source) ([]Source, error) {
	if len(sources) != len(o.sections) {
		return nil, refuse("%d tracks said, %d offered", len(sources), len(o.sections))
	}
	matched := make([]Source, len(o.sections))
	for i, s := range o.sections {
		at := slices.IndexFunc(sources, func(source Source) bool { return source.MID == s.mid })
		if at < 0 {
			return nil, refuse("section %s has no source", s.mid)
		}
		matched[i] = sources[at]
		if kindOf(matched[i].Source) != s.kind {
			return nil, refuse("section %s is no %s", s.mid, matched[i].Source)
		}
		if slices.ContainsFunc(matched[:i], func(other Source) bool { return other.Source == matched[i].Source }) {
			return nil, refuse("two tracks of the %s", matched[i].Source)
		}
	}
	return matched, nil
}

func kindOf(source string) kind {
	switch source {
	case wire.SourceMicrophone, wire.SourceScreenAudio:
		return audio
	case wire.SourceCamera, wire.SourceScreen:
		return video
	}
	return ""
}
