package sfu

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/gorilla/websocket"
	"github.com/pion/webrtc/v4"
)

const (
	livekitKey    = "key"
	livekitSecret = "a secret of more than thirty-two characters"
)

// livekitCaller speaks LiveKit's signalling, in JSON: docs.livekit.io/reference/internals/client-protocol.
type livekitCaller struct {
	*calls
	conn    *websocket.Conn
	failed  func(error)
	writing sync.Mutex

	published, offered chan struct{}
	waiting            map[*webrtc.PeerConnection][]webrtc.ICECandidateInit // until there is a description they belong to
}

type livekitDescription struct {
	Type string `json:"type"`
	SDP  string `json:"sdp"`
	ID   uint32 `json:"id,omitempty"`
}

type livekitTrickle struct {
	CandidateInit string `json:"candidateInit"`
	Target        string `json:"target,omitempty"`
}

type livekitResponse struct {
	Answer         *livekitDescription `json:"answer"`
	Offer          *livekitDescription `json:"offer"`
	Trickle        *livekitTrickle     `json:"trickle"`
	TrackPublished json.RawMessage     `json:"trackPublished"`
}

const livekitSubscriber = "SUBSCRIBER"

func joinLivekit(g *generator, address, room, name string, failed func(error)) (signalling, error) {
	claims := jwt.MapClaims{
		"iss": livekitKey, "sub": name, "nbf": time.Now().Add(-time.Minute).Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		"video": map[string]any{"roomJoin": true, "room": room, "canPublish": true, "canSubscribe": true},
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(livekitSecret))
	if err != nil {
		return nil, err
	}
	query := url.Values{"access_token": {token}, "auto_subscribe": {"1"}, "protocol": {"15"}}
	conn, _, err := websocket.DefaultDialer.Dial("ws://"+address+"/rtc?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	both, err := g.calls()
	if err != nil {
		return nil, err
	}
	c := &livekitCaller{
		calls: both, conn: conn, failed: failed, published: make(chan struct{}, 1), offered: make(chan struct{}, 1),
		waiting: map[*webrtc.PeerConnection][]webrtc.ICECandidateInit{},
	}
	for target, pc := range map[string]*webrtc.PeerConnection{"PUBLISHER": c.up, livekitSubscriber: c.down} {
		pc.OnICECandidate(func(candidate *webrtc.ICECandidate) {
			if candidate == nil {
				return
			}
			text, err := json.Marshal(candidate.ToJSON())
			if err == nil {
				err = c.say("trickle", livekitTrickle{string(text), target})
			}
			if err != nil {
				failed(err)
			}
		})
	}
	if err := c.say("pingReq", map[string]any{"timestamp": "1"}); err != nil { // it answers in what it is spoken to
		return nil, err
	}
	g.going.Go(c.read)
	return c, nil
}

func (c *livekitCaller) say(what string, value any) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.conn.WriteJSON(map[string]any{what: value})
}

func (c *livekitCaller) read() {
	for {
		kind, data, err := c.conn.ReadMessage()
		if err != nil {
			return
		}
		if err := c.take(kind, data); err != nil {
			c.failed(err)
		}
	}
}

func (c *livekitCaller) take(kind int, data []byte) error {
	var r livekitResponse
	if kind == websocket.BinaryMessage {
		r.Offer = binaryOffer(data)
	} else if err := json.Unmarshal(data, &r); err != nil {
		return err
	}
	switch {
	case r.Offer != nil:
		answer, err := c.answerTo(r.Offer.SDP)
		if err != nil {
			return err
		}
		if err := c.candidates(c.down); err != nil {
			return err
		}
		return c.say("answer", livekitDescription{"answer", answer, r.Offer.ID})
	case r.Answer != nil:
		if err := c.answered(r.Answer.SDP); err != nil {
			return err
		}
		c.offered <- struct{}{}
		return c.candidates(c.up)
	case r.Trickle != nil:
		pc := c.up
		if r.Trickle.Target == livekitSubscriber {
			pc = c.down
		}
		var candidate webrtc.ICECandidateInit
		if err := json.Unmarshal([]byte(r.Trickle.CandidateInit), &candidate); err != nil {
			return err
		}
		c.waiting[pc] = append(c.waiting[pc], candidate)
		return c.candidates(pc)
	case r.TrackPublished != nil:
		c.published <- struct{}{}
	}
	return nil
}

// candidates adds those that have come, if they can be.
func (c *livekitCaller) candidates(pc *webrtc.PeerConnection) error {
	if pc.RemoteDescription() == nil {
		return nil
	}
	for _, candidate := range c.waiting[pc] {
		if err := pc.AddICECandidate(candidate); err != nil {
			return err
		}
	}
	c.waiting[pc] = nil
	return nil
}

func (c *livekitCaller) publish(track *webrtc.TrackLocalStaticRTP, asked func()) error {
	request := map[string]any{"cid": track.ID(), "name": track.ID(), "type": "AUDIO", "source": "MICROPHONE", "disableRed": true}
	if track.Kind() == webrtc.RTPCodecTypeVideo {
		request = map[string]any{
			"cid": track.ID(), "name": track.ID(), "type": "VIDEO", "source": "CAMERA", "width": 640, "height": 360,
			"layers": []any{map[string]any{"quality": "HIGH", "width": 640, "height": 360, "bitrate": int(fluent.rate)}},
		}
	}
	if err := c.say("addTrack", request); err != nil {
		return err
	}
	if err := awaited(c.published); err != nil {
		return err
	}
	offer, _, err := c.offerOf(track, asked)
	if err != nil {
		return err
	}
	if err := c.say("offer", livekitDescription{"offer", offer, 1}); err != nil {
		return err
	}
	return awaited(c.offered)
}

func awaited(what <-chan struct{}) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-what:
		return nil
	case <-timer.C:
		return fmt.Errorf("no answer within %v", patience)
	}
}

func (c *livekitCaller) close() {
	_ = c.say("leave", map[string]any{}) // or it will find out
	c.calls.close()
	_ = c.conn.Close() // as above
}

// binaryOffer finds the offer, field 3, in a SignalResponse that was sent before the server knew that it is spoken to in JSON.
func binaryOffer(message []byte) *livekitDescription {
	offer := protobufField(message, 3)
	if offer == nil {
		return nil
	}
	return &livekitDescription{SDP: string(protobufField(offer, 2))}
}

// protobufField gives a field of bytes.
func protobufField(message []byte, number uint64) []byte {
	for len(message) > 0 {
		key, n := binary.Uvarint(message)
		if n <= 0 {
			return nil
		}
		length, m := binary.Uvarint(message[n:])
		if m <= 0 {
			return nil
		}
		message = message[n+m:]
		if key&7 != 2 { // a number
			continue
		}
		if length > uint64(len(message)) {
			return nil
		}
		if key>>3 == number {
			return message[:length]
		}
		message = message[length:]
	}
	return nil
}
