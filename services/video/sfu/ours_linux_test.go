package sfu

import (
	"bufio"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/pion/webrtc/v4"

	"secureconnect/services/internal/wire"
)

// startServer starts it, and gives its address and number.
func startServer(t testing.TB) (address string, pid int) {
	t.Helper()
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), serverSetting+"=yes")
	command.Stderr = os.Stderr
	in, err := command.StdinPipe()
	fail(t, err)
	out, err := command.StdoutPipe()
	fail(t, err)
	fail(t, command.Start())
	t.Cleanup(func() {
		_ = in.Close()
		if err := command.Wait(); err != nil {
			t.Errorf("the server: %v", err)
		}
	})
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("the server does not say where it is")
	}
	return lines.Text(), command.Process.Pid
}

// ourCaller is a caller of it.
type ourCaller struct {
	*calls
	conn     net.Conn
	failed   func(error)
	writing  sync.Mutex
	accepted chan struct{}
	tracks   []Source
}

func joinOurs(g *generator, address, room, name string, failed func(error)) (signalling, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	both, err := g.calls()
	if err != nil {
		return nil, err
	}
	c := &ourCaller{calls: both, conn: conn, failed: failed, accepted: make(chan struct{}, 1)}
	g.going.Go(c.read)
	return c, c.say(order{Room: room, Name: name})
}

func (c *ourCaller) say(o order) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return json.NewEncoder(c.conn).Encode(o)
}

func (c *ourCaller) read() {
	in := json.NewDecoder(c.conn)
	for {
		var o order
		if in.Decode(&o) != nil {
			return
		}
		if err := c.take(o); err != nil {
			c.failed(err)
		}
	}
}

func (c *ourCaller) take(o order) error {
	if o.Answer != "" {
		err := c.answered(o.Answer)
		c.accepted <- struct{}{}
		return err
	}
	answer, err := c.answerTo(o.Offer)
	if err != nil {
		return err
	}
	return c.say(order{Answer: answer, Version: o.Version})
}

func (c *ourCaller) publish(track *webrtc.TrackLocalStaticRTP, asked func()) error {
	offer, mid, err := c.offerOf(track, asked)
	if err != nil {
		return err
	}
	source := wire.SourceMicrophone
	if track.Kind() == webrtc.RTPCodecTypeVideo {
		source = wire.SourceCamera
	}
	c.tracks = append(c.tracks, Source{MID: mid, Source: source})
	if err := c.say(order{Offer: offer, Tracks: c.tracks}); err != nil {
		return err
	}
	return awaited(c.accepted)
}

func (c *ourCaller) close() {
	c.calls.close()
	_ = c.conn.Close() // the end
}
