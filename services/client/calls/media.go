package calls

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/pion/webrtc/v4/pkg/media/ivfreader"
	"github.com/pion/webrtc/v4/pkg/media/oggreader"

	"secureconnect/services/client/e2ee/frames"
)

// Media gives the frames of a track, or of one layer of it, one after the other and without end. One goroutine calls it.
type Media interface {
	// Next is a frame, and how long it lasts. It stays the media's: the caller does not change it.
	Next() (frame []byte, lasts time.Duration)
	// Anew makes the next frame one that needs none before it.
	Anew()
}

// recording plays frames again and again.
type recording struct {
	frames [][]byte
	lasts  time.Duration
	at     int
}

func (r *recording) Next() ([]byte, time.Duration) {
	frame := r.frames[r.at]
	r.at = (r.at + 1) % len(r.frames)
	return frame, r.lasts
}

func (r *recording) Anew() { r.at = 0 }

// ErrNotMedia is what is no recording of what it should be of.
var ErrNotMedia = errors.New("not a recording of that kind")

// Picture plays VP8 out of an IVF file. Its first frame is a key frame.
func Picture(file io.Reader) (Media, error) {
	reader, header, err := ivfreader.NewWith(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotMedia, err)
	}
	r := &recording{lasts: time.Second * time.Duration(header.TimebaseNumerator) / time.Duration(header.TimebaseDenominator)}
	for {
		frame, _, err := reader.ParseNextFrame()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotMedia, err)
		}
		r.frames = append(r.frames, frame)
	}
	if header.FourCC != "VP80" || len(r.frames) == 0 || !frames.KeyFrame(r.frames[0]) || r.lasts <= 0 {
		return nil, fmt.Errorf("%w: no VP8 that begins with a key frame", ErrNotMedia)
	}
	return r, nil
}

// opusFrame is the length of every frame: what browsers send.
const opusFrame = 20 * time.Millisecond

// Sound plays Opus out of an Ogg file that has one packet of 20 ms on a page.
func Sound(file io.Reader) (Media, error) {
	reader, _, err := oggreader.NewWith(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotMedia, err)
	}
	r := &recording{lasts: opusFrame}
	for {
		frame, _, err := reader.ParseNextPage()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotMedia, err)
		}
		if len(frame) > 0 && !bytes.HasPrefix(frame, []byte("OpusTags")) {
			r.frames = append(r.frames, frame)
		}
	}
	if len(r.frames) == 0 {
		return nil, fmt.Errorf("%w: no Opus", ErrNotMedia)
	}
	return r, nil
}

// noise is random bytes that begin as a frame does: for load, and where nobody looks or listens.
type noise struct {
	kind   frames.Kind
	size   int
	lasts  time.Duration
	random *rand.ChaCha8
	anew   bool
}

// Noise plays frames of size bytes, each as long as lasts. Of video, the first is a key frame, and whichever has to be.
func Noise(kind frames.Kind, size int, lasts time.Duration) Media {
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(rand.Uint32()) //nolint:gosec // it hides nothing
	}
	return &noise{kind: kind, size: max(size, len(noiseKeyFrame)), lasts: lasts, random: rand.NewChaCha8(seed), anew: true}
}

// The first bytes of frames: Opus of 20 ms (RFC 6716 §3.1), VP8 key frame of 320 by 180, and another (RFC 6386 §9.1).
var (
	noiseOpus     = []byte{0x78}
	noiseKeyFrame = []byte{0x10, 0, 0, 0x9d, 0x01, 0x2a, 320 & 0xff, 320 >> 8, 180, 0}
	noiseFrame    = []byte{0x31, 0, 0}
)

func (n *noise) Next() ([]byte, time.Duration) {
	frame := make([]byte, n.size)
	_, _ = n.random.Read(frame) // never errs
	switch {
	case n.kind == frames.Audio:
		copy(frame, noiseOpus)
	case n.anew:
		copy(frame, noiseKeyFrame)
	default:
		copy(frame, noiseFrame)
	}
	n.anew = false
	return frame, n.lasts
}

func (n *noise) Anew() { n.anew = true }
