package verify

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"secureconnect/services/client/calls"
)

// overheard is a call whose frames hold words: what the host that it lives on has of them is searched for. On every wire they are encrypted
// once more, so that only the memory of the SFU shows what it can read. The same frames hold a word where services/video/PROTOCOL.md leaves
// them clear: a search that does not find that proves nothing.
type overheard struct {
	*dialling
	secret []byte
	clear  []byte
}

//go:embed memory.py
var memorySource string

// clearWord is how long a word can be that stays clear: of a key frame, ten bytes do, of which the first says that it is one.
const clearWord = 9

func overhear(t *talk) *overheard {
	o := &overheard{secret: make([]byte, 16), clear: make([]byte, clearWord)}
	_, _ = rand.Read(o.secret) // never errs
	_, _ = rand.Read(o.clear)  // as above
	o.dialling = &dialling{talk: t, sends: o.tracks, patience: 8 * time.Second}
	return o
}

func (o *overheard) tracks() []calls.Track {
	frame := bytes.Repeat(o.secret, 30)
	copy(frame, append([]byte{0x10}, o.clear...))
	return []calls.Track{
		{Source: sourceSound, Layers: []calls.Media{repeated{bytes.Repeat(o.secret, 5), 20 * time.Millisecond}}},
		{Source: sourcePicture, Layers: []calls.Media{repeated{frame, 50 * time.Millisecond}}},
	}
}

// repeated is one frame, again and again.
type repeated struct {
	frame []byte
	lasts time.Duration
}

func (r repeated) Next() ([]byte, time.Duration) { return r.frame, r.lasts }

func (r repeated) Anew() {} // it is the same, and of video a key frame

// talks has them call each other until both have heard some of it.
func (o *overheard) talks(ctx context.Context) (string, error) {
	o.nearKeys, o.farKeys = o.writing.machine, o.reading.machine
	if _, err := o.rings(ctx); err != nil {
		return "", err
	}
	if err := o.enter(ctx, calls.OverUDP); err != nil {
		return "", err
	}
	if _, err := o.hear(ctx, calls.OverUDP); err != nil {
		return "", err
	}
	return "two people hear and see each other in a call", nil
}

// searched looks into the memory of the SFU while the call goes on.
func (o *overheard) searched(ctx context.Context) (string, error) {
	host := o.near.Look().Host
	words, err := json.Marshal([]string{hex.EncodeToString(o.secret), hex.EncodeToString(o.clear)})
	if err != nil {
		return "", fmt.Errorf("write words: %w", err)
	}
	process, err := o.videoProcess(ctx, host)
	if err != nil {
		return "", err
	}
	out, err := o.shell.Run(ctx, host, bytes.NewReader(words), "python3", "-c", memorySource, process)
	if err != nil {
		return "", fmt.Errorf("search the memory of video on %s: %w", host, err)
	}
	var got found
	if err := json.Unmarshal(out, &got); err != nil {
		return "", fmt.Errorf("read what was found in the memory of video on %s: %w", host, err)
	}
	return judgeMemory(host, got)
}

// videoProcess is the number of the process of video on a host.
func (s *site) videoProcess(ctx context.Context, host string) (string, error) {
	container, err := s.shell.Run(ctx, host, nil, s.compose("app", "ps", "-q", "video")...)
	if err != nil {
		return "", fmt.Errorf("find the container of video on %s: %w", host, err)
	}
	process, err := s.shell.Run(ctx, host, nil, "docker", "inspect", "--format", "{{.State.Pid}}", strings.TrimSpace(string(container)))
	if err != nil {
		return "", fmt.Errorf("find the process of video on %s: %w", host, err)
	}
	return strings.TrimSpace(string(process)), nil
}

// judgeMemory wants what is clear in frames found, and what is encrypted not.
func judgeMemory(host string, got found) (string, error) {
	read := fmt.Sprintf("%.1f MB", float64(got.Read)/1e6)
	switch {
	case len(got.Counts) != 2:
		return "", fail("cmd/deploy/internal/verify", "the search tells of %d words", len(got.Counts))
	case got.Counts[0] > 0:
		return "", fail("services/client/e2ee/frames, services/video/PROTOCOL.md", "what was said in a call is in the memory of the SFU on %s in clear, %d times", host, got.Counts[0])
	case got.Counts[1] == 0:
		return "", fail("docker compose ps video on "+host, "the search finds not even what stays clear of frames, so it proves nothing (%s searched)", read)
	}
	return fmt.Sprintf("no byte string of what was said in a call is in %s of the memory of its SFU; what stays clear of the same frames is there %d times", read, got.Counts[1]), nil
}
