package wire

import (
	"time"

	"github.com/google/uuid"
)

// CallProtocol is the subprotocol of /v1/calls/{id}/ws (RFC 6455 §1.9). A client that names none is served all the same.
const CallProtocol = "secureconnect.call.v1"

// CallsChannel carries the ids of users, with blanks between them, for whom something is new in GET /v1/calls, as a hint; SQL is the truth.
const CallsChannel = "calls-changed"

// PathCallers, a conversation's id, a slash and a user's id are chat's own, for services only, like PathSession: who may be in a call there,
// if that user may begin one.
const PathCallers = "/internal/callers/"

// Callers answers GET /internal/callers/{conversation}/{user}.
type Callers struct {
	Kind    string   `json:"kind"`    // of the conversation
	Members []UserID `json:"members"` // who are in it now, the asking user among them
}

// CallID names a call. It never changes and is never given again.
type CallID string

// ParseCallID refuses what cannot be a call's name.
func ParseCallID(text string) (CallID, error) {
	id, err := uuid.Parse(text)
	if err != nil || id.String() != text {
		return "", errID
	}
	return CallID(text), nil
}

// ParticipantID names one joining of one device: who joins anew has another one.
type ParticipantID string

// TrackID names what one participant sends from one source.
type TrackID string

// What a caller means to send.
const (
	MediaAudio = "audio"
	MediaVideo = "video"
)

// States of a call.
const (
	CallRinging = "ringing" // nobody but who began it is there
	CallLive    = "live"
	CallEnded   = "ended"
)

// States of a member in a call.
const (
	MemberIdle     = "idle" // it does not ring for them
	MemberRinging  = "ringing"
	MemberJoined   = "joined"
	MemberLeft     = "left"
	MemberDeclined = "declined"
	MemberMissed   = "missed"
	MemberBusy     = "busy"
)

// Reasons why a call ended.
const (
	EndedLeft      = "left" // as calls end
	EndedCancelled = "cancelled"
	EndedDeclined  = "declined"
	EndedMissed    = "missed"
	EndedBusy      = "busy"
	EndedLost      = "lost" // nobody was connected to it any more
)

// CallRequest is the body of POST /v1/calls. The same request has the same answer.
type CallRequest struct {
	ConversationID ConversationID `json:"conversation_id"`
	ClientID       ClientID       `json:"client_id"`
	Media          string         `json:"media"`
}

// Call is one as a member of its conversation sees it. A test call has no conversation.
type Call struct {
	ID             CallID         `json:"id"`
	ConversationID ConversationID `json:"conversation_id,omitempty"`
	Test           bool           `json:"test,omitempty"`
	Media          string         `json:"media"`
	StartedBy      UserID         `json:"started_by"`
	StartedAt      time.Time      `json:"started_at"`
	AnsweredAt     *time.Time     `json:"answered_at,omitempty"`
	EndedAt        *time.Time     `json:"ended_at,omitempty"`
	State          string         `json:"state"`
	Reason         string         `json:"reason,omitempty"` // why it ended
	Members        []CallMember   `json:"members"`
}

// CallMember is how a call stands with one member of the conversation. DeviceID is where they joined.
type CallMember struct {
	UserID   UserID   `json:"user_id"`
	State    string   `json:"state"`
	DeviceID DeviceID `json:"device_id,omitempty"`
}

// CallList answers GET /v1/calls.
type CallList struct {
	Calls []Call `json:"calls"`
}

// What became of a call, for one member of it.
const (
	OutcomeAnswered   = "answered"
	OutcomeUnanswered = "unanswered" // of who began it: Reason says why
	OutcomeMissed     = "missed"     // also while the member was in another call
	OutcomeDeclined   = "declined"
)

// CallRecord is an entry of a user's call log.
type CallRecord struct {
	CallID         CallID         `json:"call_id"`
	ConversationID ConversationID `json:"conversation_id"`
	Media          string         `json:"media"`
	StartedBy      UserID         `json:"started_by"`
	StartedAt      time.Time      `json:"started_at"`
	EndedAt        time.Time      `json:"ended_at"`
	Seconds        int            `json:"seconds"` // from the answer to the end; 0 where nobody answered
	Outcome        string         `json:"outcome"`
	Reason         string         `json:"reason"`
}

// CallHistory answers GET /v1/calls/history. Next, where there is more, is the before= of the next page. Missed counts calls missed since SeenAt.
type CallHistory struct {
	Calls  []CallRecord `json:"calls"`
	Next   string       `json:"next,omitempty"`
	Missed int          `json:"missed"`
	SeenAt *time.Time   `json:"seen_at,omitempty"`
}

// CallsSeen is the body of PUT /v1/calls/history/seen.
type CallsSeen struct {
	At time.Time `json:"at"`
}

// FrameCalls is a frame of /v1/ws: GET /v1/calls has something new.
const FrameCalls = "calls"

// The frames of /v1/calls/{id}/ws, described in services/video/PROTOCOL.md; auth, ready, ping, pong and error are as on /v1/ws.
const (
	FrameJoin    = "join"
	FrameOffer   = "offer"  // also the server's
	FrameAnswer  = "answer" // also the server's
	FrameRestart = "restart"
	FrameMute    = "mute"
	FrameWant    = "want"
	FrameLeave   = "leave"

	FrameJoined      = "joined"
	FrameParticipant = "participant"
	FrameGone        = "gone"
	FrameSlots       = "slots"
	FrameSpeakers    = "speakers"
	FrameQuality     = "quality"
	FrameLayers      = "layers"
	FrameICE         = "ice"
	FrameMoved       = "moved"
	FrameEnded       = "ended"
)

// Sources of tracks. A participant has each at most once.
const (
	SourceMicrophone  = "microphone"
	SourceCamera      = "camera"
	SourceScreen      = "screen"
	SourceScreenAudio = "screen_audio"
)

// Qualities of video that a client may want.
const (
	WantOff    = "off"
	WantLow    = "low"
	WantMedium = "medium"
	WantHigh   = "high"
)

// Qualities of a connection.
const (
	QualityGood = "good"
	QualityFair = "fair"
	QualityPoor = "poor"
	QualityLost = "lost"
)

// CallFrame is what a client may send on a call's socket; its Type says which fields count.
type CallFrame struct {
	Type       string             `json:"type"`
	ID         string             `json:"id,omitempty"`
	Token      string             `json:"token,omitempty"`
	Resume     *Resume            `json:"resume,omitempty"`
	VideoSlots int                `json:"video_slots,omitempty"`
	SDP        string             `json:"sdp,omitempty"`
	Tracks     []OfferedTrack     `json:"tracks,omitempty"` // of an offer
	Version    int                `json:"version,omitempty"`
	MID        string             `json:"mid,omitempty"`
	On         bool               `json:"on,omitempty"`
	Want       map[TrackID]string `json:"want,omitempty"`
	Faults     []string           `json:"faults,omitempty"` // for tests, where the service allows them
}

// Resume shows that a socket goes on where another one ended.
type Resume struct {
	ParticipantID ParticipantID `json:"participant_id"`
	Secret        string        `json:"secret"`
}

// OfferedTrack says what a media section of an offer is.
type OfferedTrack struct {
	MID    string `json:"mid"`
	Source string `json:"source"`
	Muted  bool   `json:"muted,omitempty"`
}

// ICE is how to reach the TURN server, until ExpiresAt.
type ICE struct {
	Servers   []ICEServer `json:"servers"`
	ExpiresAt time.Time   `json:"expires_at"`
}

// ICEServer is one RTCIceServer (WebRTC 1.0 §4.2.4).
type ICEServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username"`
	Credential string   `json:"credential"`
}

// Participant is one who is in the call. Here is false while their socket is away.
type Participant struct {
	ID       ParticipantID `json:"id"`
	UserID   UserID        `json:"user_id"`
	DeviceID DeviceID      `json:"device_id"`
	JoinedAt time.Time     `json:"joined_at"`
	Here     bool          `json:"here"`
	Tracks   []Track       `json:"tracks"`
}

// Track is what a participant sends from one source. MID is its media section in the sender's connection.
type Track struct {
	ID     TrackID `json:"id"`
	MID    string  `json:"mid"`
	Source string  `json:"source"`
	Muted  bool    `json:"muted"`
}

// JoinedFrame answers join.
type JoinedFrame struct {
	Type          string        `json:"type"`
	ID            string        `json:"id,omitempty"`
	Call          Call          `json:"call"`
	ParticipantID ParticipantID `json:"participant_id"`
	Secret        string        `json:"secret"`
	Resumed       bool          `json:"resumed"`
	Participants  []Participant `json:"participants"` // the joining one among them
	ICE           ICE           `json:"ice"`
	Host          string        `json:"host"`
	Fence         int64         `json:"fence"`
}

// DescriptionFrame is an offer or an answer of the server's.
type DescriptionFrame struct {
	Type    string `json:"type"`
	ID      string `json:"id,omitempty"`      // of an answer
	Version int    `json:"version,omitempty"` // of an offer
	SDP     string `json:"sdp"`
}

// ParticipantFrame tells that somebody came or changed.
type ParticipantFrame struct {
	Type        string      `json:"type"`
	Participant Participant `json:"participant"`
}

// GoneFrame tells that somebody left.
type GoneFrame struct {
	Type          string        `json:"type"`
	ParticipantID ParticipantID `json:"participant_id"`
}

// SlotsFrame says what the named slots carry from now on.
type SlotsFrame struct {
	Type  string `json:"type"`
	Slots []Slot `json:"slots"`
}

// Slot is a media section of the connection down. Without a track it carries nothing.
type Slot struct {
	MID     string  `json:"mid"`
	TrackID TrackID `json:"track_id,omitempty"`
}

// SpeakersFrame says who speaks, the loudest first.
type SpeakersFrame struct {
	Type     string    `json:"type"`
	Speakers []Speaker `json:"speakers"`
}

// Speaker has a level of 0 (loudest) to 127, in −dBov (RFC 6464 §3).
type Speaker struct {
	ParticipantID ParticipantID `json:"participant_id"`
	Level         int           `json:"level"`
}

// QualityFrame says how well the client's own connections and the others' work.
type QualityFrame struct {
	Type         string                   `json:"type"`
	Up           string                   `json:"up"`
	Down         string                   `json:"down"`
	Participants map[ParticipantID]string `json:"participants,omitempty"`
}

// LayersFrame says which simulcast layers of a track of the client's anybody wants.
type LayersFrame struct {
	Type   string   `json:"type"`
	MID    string   `json:"mid"`
	Active []string `json:"active"`
}

// ICEFrame brings fresh credentials.
type ICEFrame struct {
	Type string `json:"type"`
	ICE  ICE    `json:"ice"`
}

// EndedFrame says that the call is over.
type EndedFrame struct {
	Type   string `json:"type"`
	Reason string `json:"reason"`
}

// CallKeyEvent is the type of the to-device event, inside Olm, that carries a CallKey.
const CallKeyEvent = "secureconnect.call.key"

// CallKey is the content of a CallKeyEvent. Key is 32 bytes in unpadded base64.
type CallKey struct {
	CallID        CallID        `json:"call_id"`
	ParticipantID ParticipantID `json:"participant_id"`
	Chain         uint32        `json:"chain"`
	Step          uint8         `json:"step"`
	Key           string        `json:"key"`
}
