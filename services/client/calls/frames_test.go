package calls

import (
	"encoding/json"
	"testing"
	"time"

	"secureconnect/services/internal/wire"
)

// Whatever the platform says, the call goes on or ends; what it says of media is pion's to read.
func FuzzFrames(f *testing.F) {
	for _, seed := range []string{
		`{"type":"participant","participant":{"id":"p2","user_id":"mai","device_id":"d","tracks":[{"id":"t","mid":"0","source":"camera"}]}}`,
		`{"type":"participant","participant":null}`, `{"type":"gone","participant_id":"p2"}`, `{"type":"gone","participant_id":"p1"}`, `{"type":"slots","slots":[{"mid":"0","track_id":"t"},{}]}`,
		`{"type":"speakers","speakers":[{"participant_id":"p2","level":-1}]}`, `{"type":"quality","up":"good","participants":{"p2":"poor"}}`,
		`{"type":"layers","mid":"0","active":["q",""]}`, `{"type":"layers"}`, `{"type":"ice","ice":{"servers":[{"urls":["turn:x:1","turns:","%"],"username":"","credential":""}]}}`,
		`{"type":"moved"}`, `{"type":"ended","reason":"left"}`, `{"type":"error","code":"x","retry_after":-1}`, `{"type":"ready","expires_at":"2000-01-01T00:00:00Z"}`,
		`{"type":"answer","id":"7","sdp":"v=0"}`, `{"type":"unheard of"}`, `{}`, `null`, `[]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var head struct{ Type string }
		if json.Unmarshal(raw, &head) != nil || head.Type == wire.FrameOffer || head.Type == wire.FrameAnswer {
			return
		}
		c := &Call{acts: newMailbox(), room: newRoom(), relays: newRelays(Options{}), stop: func() {}, hearing: hearing{received: map[Heard]*Received{}}}
		c.sent = []*sent{newSent(Track{Source: wire.SourceCamera, Layers: []Media{nil, nil, nil}})}
		s, err := c.newSeat(t.Context(), wire.JoinedFrame{ParticipantID: "p1", Participants: []wire.Participant{{ID: "p1"}, {ID: "p2", UserID: "mai"}}})
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		c.seat = s
		for range 2 {
			_ = c.take(head.Type, raw)
			c.seat.ring.tick(time.Now())
		}
		_ = c.state()
	})
}
