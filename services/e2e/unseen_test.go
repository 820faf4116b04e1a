package e2e

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
	"golang.org/x/image/vp8"

	"secureconnect/services/client"
	"secureconnect/services/client/calls"
	"secureconnect/services/client/e2ee"
	"secureconnect/services/client/e2ee/frames"
	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/wire"
)

// tap keeps what the SFU sees of what is sent, as it sees it: out of SRTP.
type tap struct {
	mu      sync.Mutex
	sounds  [][]byte
	parts   []byte   // of the picture that is coming in
	picture [][]byte // whole frames
}

func (p *tap) take(_ wire.ParticipantID, _ string, packet *rtp.Packet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if packet.PayloadType != 96 {
		p.sounds = append(p.sounds, bytes.Clone(packet.Payload))
		return
	}
	var vp codecs.VP8Packet
	payload, err := vp.Unmarshal(packet.Payload)
	if err != nil {
		return
	}
	p.parts = append(p.parts, payload...)
	if packet.Marker {
		p.picture = append(p.picture, p.parts)
		p.parts = nil
	}
}

// seen is all of it in one piece, and the pictures that need none before them.
func (p *tap) seen() (all []byte, keyFrames [][]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, frame := range slices.Concat(p.sounds, p.picture) {
		all = append(all, frame...)
	}
	for _, frame := range p.picture {
		if frames.KeyFrame(frame) {
			keyFrames = append(keyFrames, frame)
		}
	}
	return all, keyFrames
}

// spoken are frames with a word in them that nobody may read but who is in the call.
type spoken struct{ word string }

func (s spoken) Next() ([]byte, time.Duration) { return []byte("\x78" + s.word), 20 * time.Millisecond }
func (spoken) Anew()                           {}

func recording(t *testing.T, name string) *os.File {
	t.Helper()
	file, err := os.Open(filepath.Join("../client/calls/testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return file
}

// What the SFU captures cannot be read: no word of it, and no picture. That it is a capture of just that, the first bytes of pictures
// show, which stay in clear; that there was something to read, who is in the call.
func TestTheSFUSeesNoMedia(t *testing.T) {
	p := newPlatform(t)
	c := watch(t, p)
	linh, mai := enter(t, c, "linh"), enter(t, c, "mai")
	makeFriends(t, c, linh, mai)
	phones := []*phone{newPhone(t, c, linh), newPhone(t, c, mai)}
	for _, phone := range phones {
		if _, err := phone.Bootstrap(t.Context()); err != nil {
			t.Fatal(err)
		}
		phone.switchOn()
	}
	pair, _, err := c.CreateConversation(t.Context(), linh.AccessToken, client.ConversationRequest{Kind: wire.KindDirect, UserID: mai.User.ID})
	if err != nil {
		t.Fatal(err)
	}
	call, _, err := c.BeginCall(t.Context(), linh.AccessToken, client.CallRequest{ConversationID: pair.ID, ClientID: messageID(t), Media: wire.MediaVideo})
	if err != nil {
		t.Fatal(err)
	}
	const word = "nobody but mai may hear this"
	picture, err := calls.Picture(recording(t, "picture.ivf"))
	if err != nil {
		t.Fatal(err)
	}
	original, _ := picture.Next()
	picture.Anew()

	var mu sync.Mutex
	heard, shown := 0, [][]byte(nil)
	join := func(phone *phone, send []calls.Track, take func(calls.Frame)) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		joined, err := calls.Join(ctx, call.ID, calls.Options{
			Client: c, Token: func(context.Context) (string, error) { return phone.tokens.AccessToken, nil },
			Self: e2ee.Peer{User: phone.tokens.User.ID, Device: phone.tokens.DeviceID}, Keys: phone.Machine, Send: send, Receive: take, Direct: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = joined.Leave(context.Background()) })
	}
	join(phones[1], nil, func(f calls.Frame) {
		mu.Lock()
		defer mu.Unlock()
		if bytes.Contains(f.Data, []byte(word)) {
			heard++
		}
		if f.Kind == frames.Video && frames.KeyFrame(f.Data) {
			shown = append(shown, bytes.Clone(f.Data))
		}
	})
	join(phones[0], []calls.Track{
		{Source: wire.SourceMicrophone, Layers: []calls.Media{spoken{word}}}, {Source: wire.SourceCamera, Layers: []calls.Media{picture}},
	}, nil)
	testkit.Eventually(t, 30*time.Second, "sound and picture at mai's", func() bool {
		mu.Lock()
		defer mu.Unlock()
		_, captured := p.tap.seen()
		return heard > 20 && len(shown) > 0 && len(captured) > 0
	})

	all, captured := p.tap.seen()
	if n := bytes.Count(all, []byte(word)); n > 0 {
		t.Errorf("the SFU hears what is said, %d times", n)
	}
	want := pictureOf(t, original)
	mu.Lock()
	defer mu.Unlock()
	if got := pictureOf(t, shown[0]); likeness(want, got) < 0.99 {
		t.Errorf("mai sees another picture: alike to %.2f", likeness(want, got))
	}
	for _, frame := range captured {
		if !bytes.Equal(frame[:10], original[:10]) {
			t.Errorf("the capture is not of this picture: it begins with %x", frame[:10])
		}
		got, err := pictureIn(frame)
		if err == nil && likeness(want, got) > 0.3 {
			t.Errorf("the SFU sees the picture: alike to %.2f", likeness(want, got))
		}
	}
}

func pictureIn(frame []byte) (*image.YCbCr, error) {
	decoder := vp8.NewDecoder()
	decoder.Init(bytes.NewReader(frame), len(frame))
	if _, err := decoder.DecodeFrameHeader(); err != nil {
		return nil, fmt.Errorf("read the header: %w", err)
	}
	picture, err := decoder.DecodeFrame()
	if err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	return picture, nil
}

func pictureOf(t *testing.T, frame []byte) *image.YCbCr {
	t.Helper()
	picture, err := pictureIn(frame)
	if err != nil {
		t.Fatal(err)
	}
	return picture
}

// likeness is how the brightness of two pictures goes together: 1 for the same, about 0 for two that have nothing to do with each other.
func likeness(a, b *image.YCbCr) float64 {
	var n, sumA, sumB, sumAA, sumBB, sumAB float64
	for i := range min(len(a.Y), len(b.Y)) {
		x, y := float64(a.Y[i]), float64(b.Y[i])
		n, sumA, sumB, sumAA, sumBB, sumAB = n+1, sumA+x, sumB+y, sumAA+x*x, sumBB+y*y, sumAB+x*y
	}
	variance := (n*sumAA - sumA*sumA) * (n*sumBB - sumB*sumB)
	if variance <= 0 {
		return 0
	}
	covariance := n*sumAB - sumA*sumB
	return covariance * max(covariance, -covariance) / variance
}
