package frames

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// vectors were made by another library: services/video/testdata/frames.py. The web client's tests read them too.
type vectors struct {
	Keys []struct {
		Key, Next, Fifth string
		Frame            hexadecimal
	}
	Senders []struct {
		Name    string
		Key     given
		Counter uint64
		Frames  []frameVector
	}
	Receivers []struct {
		Name   string
		Events []event
	}
}

type given struct {
	Chain uint32
	Step  uint8
	Key   string
}

type frameVector struct {
	Kind      string
	Clear     *hexadecimal
	Encrypted hexadecimal
}

type event struct {
	At   int
	Give *given
	frameVector
}

type hexadecimal []byte

func (h *hexadecimal) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

var kinds = map[string]Kind{"audio": Audio, "video": Video}

func (g given) read(t testing.TB) Key {
	t.Helper()
	secret, err := ReadSecret(g.Key)
	if err != nil {
		t.Fatal(err)
	}
	return Key{g.Chain, g.Step, secret}
}

func readVectors(t testing.TB) (v vectors) {
	t.Helper()
	raw, err := os.ReadFile("../../../video/testdata/frames.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

var start = time.Unix(1_800_000_000, 0)

func TestVectors_keys(t *testing.T) {
	for _, v := range readVectors(t).Keys {
		key := given{Key: v.Key}.read(t)
		if got := key.next().Secret.Reveal(); got != v.Next {
			t.Errorf("the next step is %s, not %s", got, v.Next)
		}
		for range 5 {
			key = key.next()
		}
		if got := key.Secret.Reveal(); got != v.Fifth || key.Step != 5 {
			t.Errorf("the fifth step is %s, not %s", got, v.Fifth)
		}
		if got := (given{Key: v.Key}).read(t).Secret.derive(infoFrame, frameKeySize); !bytes.Equal(got, v.Frame) {
			t.Errorf("the key of frames is %x, not %x", got, v.Frame)
		}
	}
}

func TestVectors_senders(t *testing.T) {
	for _, v := range readVectors(t).Senders {
		t.Run(v.Name, func(t *testing.T) {
			s := NewSender(v.Key.read(t))
			s.counter = v.Counter
			for i, f := range v.Frames {
				got, err := s.Encrypt(nil, kinds[f.Kind], *f.Clear)
				if err != nil || !bytes.Equal(got, f.Encrypted) {
					t.Errorf("%d: made %x, %v, not %x", i, got, err, f.Encrypted)
				}
			}
		})
	}
}

func TestVectors_receivers(t *testing.T) {
	for _, v := range readVectors(t).Receivers {
		t.Run(v.Name, func(t *testing.T) {
			var r Receiver
			for i, e := range v.Events {
				now := start.Add(time.Duration(e.At) * time.Millisecond)
				if e.Give != nil {
					r.Add(now, e.Give.read(t))
					continue
				}
				got, err := r.Decrypt(now, nil, kinds[e.Kind], e.Encrypted)
				if (err == nil) != (e.Clear != nil) || err == nil && !bytes.Equal(got, *e.Clear) {
					t.Errorf("%d: read %x, %v", i, got, err)
				}
			}
		})
	}
}

func TestErrors(t *testing.T) {
	key := NewKey()
	s, r := NewSender(key), Receiver{}
	frame := func(kind Kind) []byte {
		sealed, err := s.Encrypt(nil, kind, bytes.Repeat([]byte{1}, 20))
		if err != nil {
			t.Fatal(err)
		}
		return sealed
	}
	early := frame(Audio)
	if _, err := r.Decrypt(start, nil, Audio, early); !errors.Is(err, ErrNoKey) {
		t.Errorf("without a key: %v", err)
	}
	r.Add(start, key)
	if _, err := r.Decrypt(start, nil, Video, early); !errors.Is(err, ErrForged) {
		t.Errorf("of the other kind: %v", err)
	}
	if _, err := r.Decrypt(start, nil, Audio, early); err != nil {
		t.Error(err)
	}
	if _, err := r.Decrypt(start, nil, Audio, early); !errors.Is(err, ErrSeen) {
		t.Errorf("twice: %v", err)
	}
	if _, err := r.Decrypt(start, nil, Video, frame(Video)[:12]); !errors.Is(err, ErrShort) {
		t.Errorf("cut: %v", err)
	}
	if _, err := s.Encrypt(nil, Video, []byte{0x10, 0, 0}); !errors.Is(err, ErrShort) {
		t.Errorf("a key frame of three bytes: %v", err)
	}
}

// Who is given a step after coming reads nothing of before; who was there goes on by themselves, and who is given a new chain's key reads
// what whoever left cannot.
func TestComingAndGoing(t *testing.T) {
	first := NewKey()
	s := NewSender(first)
	var stays, comes, leaves Receiver
	stays.Add(start, first)
	leaves.Add(start, first)
	read := func(r *Receiver, frame []byte) bool {
		_, err := r.Decrypt(start, nil, Audio, frame)
		return err == nil
	}
	send := func() []byte {
		sealed, err := s.Encrypt(nil, Audio, []byte("word"))
		if err != nil {
			t.Fatal(err)
		}
		return sealed
	}
	before := send()
	step, err := s.Step()
	if err != nil {
		t.Fatal(err)
	}
	comes.Add(start, step)
	if after := send(); !read(&stays, before) || read(&comes, before) || !read(&stays, after) || !read(&comes, after) || !read(&leaves, after) {
		t.Error("a step is read by others than those who may")
	}
	next := NewKey()
	s.Use(next)
	stays.Add(start, next)
	comes.Add(start, next)
	if rotated := send(); !read(&stays, rotated) || !read(&comes, rotated) || read(&leaves, rotated) {
		t.Error("a new chain is read by others than those who may")
	}
}

func TestSpent(t *testing.T) {
	s := NewSender(NewKey())
	for range LastStep {
		if _, err := s.Step(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Step(); !errors.Is(err, ErrSpent) || s.Key().Step != LastStep {
		t.Errorf("a step after the last: %v", err)
	}
	s.counter = maxCounter
	if _, err := s.Encrypt(nil, Audio, []byte{1}); err != nil {
		t.Error(err)
	}
	if _, err := s.Encrypt(nil, Audio, []byte{1}); !errors.Is(err, ErrSpent) {
		t.Errorf("a counter that has been: %v", err)
	}
}

// Nothing is ever encrypted under the same key and counter, also by several tracks at once.
func TestCountersAreUsedOnce(t *testing.T) {
	s := NewSender(NewKey())
	var mu sync.Mutex
	used := map[trailer]bool{}
	var tracks sync.WaitGroup
	for track := range 4 {
		tracks.Go(func() {
			for i := range 200 {
				if i%50 == 0 && track == 0 {
					_, _ = s.Step()
				}
				if i == 100 && track == 1 {
					s.Use(NewKey())
				}
				sealed, err := s.Encrypt(nil, Audio, []byte{1})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if end := readTrailer(sealed); used[end] {
					t.Errorf("%+v twice", end)
				} else {
					used[end] = true
				}
				mu.Unlock()
			}
		})
	}
	tracks.Wait()
}

// window against the plainest one: a set of what was seen.
func FuzzWindow(f *testing.F) {
	f.Add([]byte{0, 0, 1, 255, 3, 128, 0, 200})
	f.Add([]byte{255, 255, 255, 1, 0, 16})
	f.Fuzz(func(t *testing.T, moves []byte) {
		var w window
		seen, newest, at := map[uint64]bool{}, uint64(0), uint64(5000)
		for i := 0; i+1 < len(moves); i += 2 {
			if distance := uint64(moves[i]) * uint64(moves[i]); moves[i+1]%2 == 0 {
				at += distance
			} else {
				at -= min(distance, at)
			}
			want := !seen[at] && (at > newest || newest-at <= behind)
			if got := w.fresh(at); got != want {
				t.Fatalf("%d is fresh: %t, with %d the newest", at, got, newest)
			}
			if want {
				w.mark(at)
				seen[at], newest = true, max(newest, at)
			}
		}
	})
}

// Whatever comes in, what is read was sent, as it was, and once.
func FuzzDecrypt(f *testing.F) {
	for _, v := range readVectors(f).Receivers {
		for _, e := range v.Events {
			f.Add([]byte(e.Encrypted), e.Kind == "video")
		}
	}
	key := NewKey()
	whole, err := NewSender(key).Encrypt(nil, Video, []byte{1, 2, 3, 4})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole, true)
	f.Fuzz(func(t *testing.T, frame []byte, video bool) {
		var r Receiver
		r.Add(start, key)
		kind := Audio
		if video {
			kind = Video
		}
		before := bytes.Clone(frame)
		got, err := r.Decrypt(start, nil, kind, frame)
		if err == nil && (!bytes.Equal(frame, whole) || !bytes.Equal(got, []byte{1, 2, 3, 4})) {
			t.Errorf("%x is read as %x", frame, got)
		}
		if !bytes.Equal(frame, before) {
			t.Error("the frame was changed")
		}
	})
}

func TestInPlace(t *testing.T) {
	key := NewKey()
	s, r := NewSender(key), Receiver{}
	r.Add(start, key)
	for _, frame := range [][]byte{{1}, bytes.Repeat([]byte{0x31, 2, 3}, 400), bytes.Repeat([]byte{0x10, 2}, 5)} {
		buffer := append(make([]byte, 0, len(frame)+Overhead), frame...)
		sealed, err := s.Encrypt(buffer[:0], Video, buffer)
		if err != nil || &sealed[0] != &buffer[:1][0] {
			t.Fatalf("encrypted elsewhere, %v", err)
		}
		got, err := r.Decrypt(start, sealed[:0], Video, sealed)
		if err != nil || !bytes.Equal(got, frame) || &got[0] != &buffer[:1][0] {
			t.Errorf("%x became %x, %v", frame, got, err)
		}
	}
}

func TestAllocations(t *testing.T) {
	key := NewKey()
	s, r := NewSender(key), Receiver{}
	r.Add(start, key)
	frame := bytes.Repeat([]byte{1}, 1000)
	sealed, opened := make([]byte, 0, 2000), make([]byte, 0, 2000)
	for kind, name := range map[Kind]string{Audio: "audio", Video: "video"} {
		if n := testing.AllocsPerRun(200, func() {
			one, err := s.Encrypt(sealed, kind, frame)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Decrypt(start, opened, kind, one); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %.1f allocations beyond the output", name, n)
		}
	}
}

func TestSecret_prints_as_secret(t *testing.T) {
	key := NewKey()
	shown := []string{key.Secret.Reveal(), fmt.Sprintf("%x", [SecretSize]byte(key.Secret)), fmt.Sprint([SecretSize]byte(key.Secret))}
	var logged bytes.Buffer
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("", "key", key, "secret", key.Secret)
	marshalled, err := json.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, printed := range []string{
		fmt.Sprint(key), fmt.Sprintf("%+v", key), fmt.Sprintf("%#v", key), fmt.Sprintf("%x", key), fmt.Sprintf("%d", key.Secret), fmt.Sprintf("%v", &key),
		logged.String(), string(marshalled),
	} {
		for _, secret := range shown {
			if strings.Contains(printed, secret) || strings.Contains(printed, strings.Trim(secret, "[]")) {
				t.Errorf("it prints %q", printed)
			}
		}
	}
}

func TestReadSecret(t *testing.T) {
	good := NewKey().Secret
	if got, err := ReadSecret(good.Reveal()); err != nil || got != good {
		t.Errorf("read another one, %v", err)
	}
	for _, text := range []string{"", good.Reveal() + "=", good.Reveal()[:42], good.Reveal() + "AA", good.Reveal()[:42] + "\n", " " + good.Reveal()[:42]} {
		if _, err := ReadSecret(text); !errors.Is(err, ErrSecret) {
			t.Errorf("%q is read", text)
		}
	}
}
