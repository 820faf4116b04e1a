package calls

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtp/codecs"

	"secureconnect/services/client/e2ee/frames"
)

func TestArrivals(t *testing.T) {
	for name, c := range map[string]struct {
		sequences []uint16
		fresh     []bool
		lost      int64
	}{
		"in order":       {[]uint16{7, 8, 9}, []bool{true, true, true}, 0},
		"a gap":          {[]uint16{7, 9}, []bool{true, true}, 1},
		"a late one":     {[]uint16{7, 9, 8}, []bool{true, true, true}, 0},
		"twice":          {[]uint16{7, 8, 8, 7}, []bool{true, true, false, false}, 0},
		"round the end":  {[]uint16{65534, 65535, 0, 2, 65535, 1}, []bool{true, true, true, true, false, true}, 0},
		"before the end": {[]uint16{0, 65535, 1}, []bool{true, true, true}, 0},
		"far ahead":      {[]uint16{0, 20000, 0, 19999, 20000}, []bool{true, true, false, true, false}, 19998},
		"much too late":  {[]uint16{0, 1024, 0, 1}, []bool{true, true, false, true}, 1022},
	} {
		t.Run(name, func(t *testing.T) {
			var a arrivals
			var fresh []bool
			for _, sequence := range c.sequences {
				_, is := a.take(sequence)
				fresh = append(fresh, is)
			}
			if !slices.Equal(fresh, c.fresh) || a.lost() != c.lost {
				t.Errorf("fresh are %v, lost %d", fresh, a.lost())
			}
		})
	}
}

// arrival is one packet of VP8.
type arrival struct {
	place   int64
	ends    bool
	payload []byte
}

// arrivalsOf cuts frames into packets, as a sender does.
func arrivalsOf(first int64, whole ...[]byte) (all []arrival) {
	payloader := &codecs.VP8Payloader{EnablePictureID: true}
	for _, frame := range whole {
		parts := payloader.Payload(100, frame)
		for i, part := range parts {
			all = append(all, arrival{first, i == len(parts)-1, part})
			first++
		}
	}
	return all
}

func someFrames(n int) [][]byte {
	random := rand.New(rand.NewPCG(1, 2))
	var whole [][]byte
	for range n {
		frame := make([]byte, 1+random.IntN(600))
		for i := range frame {
			frame[i] = byte(random.Uint32())
		}
		whole = append(whole, frame)
	}
	return whole
}

func (a *assembler) takeAll(now time.Time, all []arrival) (whole [][]byte, lost int) {
	for _, one := range all {
		frames, n := a.take(now, one.place, one.ends, one.payload)
		whole, lost = append(whole, frames...), lost+n
	}
	return whole, lost
}

func same(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) }

func TestAssembler(t *testing.T) {
	whole := someFrames(20)
	all := arrivalsOf(firstRound+65530, whole...)
	t.Run("in order", func(t *testing.T) {
		var a assembler
		if got, lost := a.takeAll(start, all); !same(got, whole) || lost != 0 {
			t.Errorf("%d frames, %d lost", len(got), lost)
		}
	})
	t.Run("out of order", func(t *testing.T) {
		var a assembler
		mixed := slices.Clone(all)
		for i := 1; i+3 < len(mixed); i += 3 {
			slices.Reverse(mixed[i : i+3])
		}
		if got, lost := a.takeAll(start, mixed); !same(got, whole) || lost != 0 {
			t.Errorf("%d frames, %d lost", len(got), lost)
		}
	})
	t.Run("a packet that is sent again", func(t *testing.T) {
		var a assembler
		late := all[3]
		got, _ := a.takeAll(start, slices.Concat(all[:3], all[4:10]))
		more, lost := a.takeAll(start.Add(patience), append([]arrival{late}, all[10:]...))
		if got = append(got, more...); !same(got, whole) || lost != 0 {
			t.Errorf("%d frames, %d lost", len(got), lost)
		}
	})
	t.Run("a packet that never comes", func(t *testing.T) {
		var a assembler
		got, _ := a.takeAll(start, slices.Concat(all[:1], all[2:10]))
		more, lost := a.takeAll(start.Add(patience+1), all[10:])
		got = append(got, more...)
		if lost != 1 || len(got) < len(whole)-1 || !same(got, whole[len(whole)-len(got):]) {
			t.Errorf("%d frames of %d, %d lost", len(got), len(whole), lost)
		}
	})
	t.Run("the first of a frame is missing at the beginning", func(t *testing.T) {
		var a assembler
		cut := slices.IndexFunc(all, func(one arrival) bool { return one.ends })
		got, lost := a.takeAll(start, all[cut:])
		if !same(got, whole[1:]) || lost != 0 {
			t.Errorf("%d frames, %d lost", len(got), lost)
		}
	})
	t.Run("padding between frames", func(t *testing.T) {
		var a assembler
		first := arrivalsOf(firstRound, whole[0])
		end := first[len(first)-1].place
		rest := arrivalsOf(end+3, whole[1])
		padded := slices.Concat(first, []arrival{{end + 1, false, nil}, {end + 2, false, nil}}, rest)
		if got, lost := a.takeAll(start, padded); !same(got, whole[:2]) || lost != 0 {
			t.Errorf("%d frames, %d lost", len(got), lost)
		}
	})
	t.Run("more than there is room for", func(t *testing.T) {
		var a assembler
		a.takeAll(start, all[:1])
		jumped := arrivalsOf(all[0].place+10*assemblerParts, whole...)
		if got, lost := a.takeAll(start, jumped); !same(got, whole) || lost == 0 {
			t.Errorf("%d frames, %d lost", len(got), lost)
		}
	})
}

// Whatever packets come, no frame is given twice, and nothing is given that did not come.
func FuzzAssembler(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5}, []byte{0x90, 0x80, 1, 2})
	f.Add([]byte{5, 4, 200, 0, 0, 9}, []byte{0x10, 0xff})
	f.Fuzz(func(t *testing.T, moves, content []byte) {
		var a assembler
		var in, out int
		now := start
		for i, move := range moves {
			now = now.Add(time.Duration(move) * time.Millisecond)
			payload := content[min(len(content), i%3):]
			in += len(payload)
			whole, _ := a.take(now, firstRound+int64(move)*int64(1+i%7), move%3 == 0, payload)
			for _, frame := range whole {
				out += len(frame)
			}
		}
		if out > in {
			t.Errorf("%d bytes came out of %d", out, in)
		}
	})
}

func TestMedia(t *testing.T) {
	film := picture(t)
	first, lasts := film.Next()
	if lasts != 100*time.Millisecond || !frames.KeyFrame(first) {
		t.Errorf("the picture begins with %x, for %s", first[:3], lasts)
	}
	second, _ := film.Next()
	if frames.KeyFrame(second) {
		t.Error("the second frame needs none before it")
	}
	film.Anew()
	if again, _ := film.Next(); !bytes.Equal(again, first) {
		t.Error("it does not begin anew")
	}
	for range 100 { // longer than the recording
		if frame, _ := film.Next(); len(frame) == 0 {
			t.Fatal("an empty frame")
		}
	}
	sound, lasts := tone(t).Next()
	if lasts != opusFrame || len(sound) == 0 {
		t.Errorf("the tone begins with %d bytes, for %s", len(sound), lasts)
	}
	noise := Noise(frames.Video, 500, 40*time.Millisecond)
	one, lasts := noise.Next()
	two, _ := noise.Next()
	noise.Anew()
	three, _ := noise.Next()
	if len(one) != 500 || lasts != 40*time.Millisecond || !frames.KeyFrame(one) || frames.KeyFrame(two) || !frames.KeyFrame(three) || bytes.Equal(one, three) {
		t.Error("noise is not what it should be")
	}
	if frame, _ := Noise(frames.Audio, 0, opusFrame).Next(); frame[0] != noiseOpus[0] {
		t.Error("noise does not begin as Opus does")
	}
}

func TestNotMedia(t *testing.T) {
	header := "DKIF\x00\x00\x20\x00VP80\x40\x01\xb4\x00\x0a\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00"
	frame := "\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	for name, raw := range map[string]string{
		"nothing": "", "no frame": header, "half a frame": header + frame + "\x10", "no key frame": header + frame + "\x11\x00\x00",
		"another codec": strings.Replace(header, "VP80", "AV01", 1) + frame + "\x10\x00\x00", "text": "hello, this is not a recording at all, whatever its name says",
	} {
		if _, err := Picture(strings.NewReader(raw)); !errors.Is(err, ErrNotMedia) {
			t.Errorf("%s is a picture: %v", name, err)
		}
		if _, err := Sound(strings.NewReader(raw)); !errors.Is(err, ErrNotMedia) {
			t.Errorf("%s is sound: %v", name, err)
		}
	}
	if _, err := Picture(strings.NewReader(header + frame + "\x10\x00\x00")); err != nil {
		t.Errorf("a picture of one frame: %v", err)
	}
}
