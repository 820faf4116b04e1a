package chat

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sync/errgroup"

	"secureconnect/services/internal/ratelimit"
	"secureconnect/services/internal/wire"
)

// How many sockets the figure is taken with: SOCKETS, which `make load` sets to 10,000.
const (
	socketsSetting = "SOCKETS"
	hostSetting    = "SOCKETS_HOST" // set in the process that is measured
	fewSockets     = 500
	roomSize       = 50 // users of one conversation

	// mostKiB is what an idle socket may cost of the process's resident memory.
	mostKiB = 27
)

// An idle socket, signed in and following a conversation, costs little, and leaves nothing behind. The host is a process of its own, so
// that nothing of the clients is counted.
func TestIdleSocketsAreCheap(t *testing.T) {
	if os.Getenv(hostSetting) != "" {
		return // we are the host, and that is another test
	}
	count, _ := strconv.Atoi(os.Getenv(socketsSetting))
	if count == 0 {
		count = fewSockets
	}
	n := newNetwork(t)
	h := n.measuredHost()
	sessions, _ := n.crowd(count)
	tokens := make([]string, count)
	for i, session := range sessions {
		tokens[i] = n.token(session, time.Now())
	}
	h.open(t, tokens[:50]) // what is made once
	h.closeAll(t)
	before := h.measure(t)
	began := time.Now()
	h.open(t, tokens)
	opened := time.Since(began)
	full := h.measure(t)
	h.closeAll(t)
	after := h.measure(t)
	each := float64(full.resident-before.resident) / float64(count)
	goroutines := float64(full.goroutines-before.goroutines) / float64(count)
	t.Logf("%d sockets opened in %s: %.1f KiB and %.2f goroutines each; goroutines before %d, after %d",
		count, opened.Round(time.Millisecond), each, goroutines, before.goroutines, after.goroutines)
	if count >= 10*fewSockets && each > mostKiB {
		t.Errorf("a socket costs %.1f KiB, the bound is %d", each, mostKiB)
	}
	if full.sockets != count || after.sockets != 0 || after.goroutines > before.goroutines+5 || goroutines > 1.2 {
		t.Errorf("before %+v, full %+v, after %+v", before, full, after)
	}
}

// crowd makes users, each in one conversation with others: the first roomSize in the first, and so on.
func (n *network) crowd(count int) ([]wire.Session, []wire.ConversationID) {
	n.t.Helper()
	service := n.host()
	sessions := make([]wire.Session, count)
	for i := range sessions {
		sessions[i] = newUser()
	}
	rooms := make([]wire.ConversationID, (count+roomSize-1)/roomSize)
	group, _ := errgroup.WithContext(n.t.Context())
	group.SetLimit(8)
	for first := 0; first < count; first += roomSize {
		room := sessions[first:min(first+roomSize, count)]
		group.Go(func() error {
			request := wire.ConversationRequest{Kind: wire.KindGroup, Name: "Room", ClientID: newClientID()}
			for _, other := range room[1:] {
				request.Members = append(request.Members, other.UserID)
			}
			made, _, err := service.Create(n.t.Context(), room[0], request)
			rooms[first/roomSize] = made.ID
			return err
		})
	}
	if err := group.Wait(); err != nil {
		n.t.Fatal(err)
	}
	return sessions, rooms
}

// measuredHost is a chat host in a process of its own, and our ends of its sockets.
type measuredHost struct {
	address string
	pid     int
	ask     io.Writer
	answers *bufio.Scanner
	conns   []*raw
}

type reading struct {
	resident   int // KiB
	goroutines int
	sockets    int
}

func (n *network) measuredHost() *measuredHost {
	n.t.Helper()
	command := exec.CommandContext(context.Background(), os.Args[0], "-test.run=^TestMeasuredHost$", "-test.timeout=10m")
	command.Env = append(os.Environ(), hostSetting+"="+n.toAnotherProcess(), "GOMAXPROCS=2")
	command.Stderr = os.Stderr
	ask, err := command.StdinPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	output, err := command.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		n.t.Fatal(err)
	}
	h := &measuredHost{pid: command.Process.Pid, ask: ask, answers: bufio.NewScanner(output)}
	n.t.Cleanup(func() {
		_ = ask.Close()
		for h.answers.Scan() {
		}
		if err := command.Wait(); err != nil {
			n.t.Errorf("the measured host: %v", err)
		}
		h.hangUp()
	})
	if !h.answers.Scan() {
		n.t.Fatal("the measured host does not start")
	}
	h.address = strings.TrimPrefix(h.answers.Text(), "listening ")
	return h
}

func (h *measuredHost) measure(t *testing.T) reading {
	t.Helper()
	if _, err := fmt.Fprintln(h.ask, "measure"); err != nil || !h.answers.Scan() {
		t.Fatalf("the measured host does not answer: %v", err)
	}
	var r reading
	if _, err := fmt.Sscan(h.answers.Text(), &r.resident, &r.goroutines, &r.sockets); err != nil {
		t.Fatalf("%q: %v", h.answers.Text(), err)
	}
	return r
}

// open signs a socket in with each token, and has it follow what there is.
func (h *measuredHost) open(t *testing.T, tokens []string) {
	t.Helper()
	h.conns = make([]*raw, len(tokens))
	var group errgroup.Group
	group.SetLimit(16)
	for i, accessToken := range tokens {
		group.Go(func() (err error) {
			h.conns[i], err = dialRaw(h.address, socketPath, i, wire.FrameSynced, authFrame(accessToken), `{"type":"sync","id":"1"}`)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

func (h *measuredHost) closeAll(t *testing.T) {
	t.Helper()
	h.hangUp()
	for deadline := time.Now().Add(patience); h.measure(t).sockets > 0; {
		if time.Now().After(deadline) {
			t.Fatal("sockets are left")
		}
	}
}

func (h *measuredHost) hangUp() {
	for _, conn := range h.conns {
		if conn != nil {
			_ = conn.Close()
		}
	}
	h.conns = nil
}

// raw is a client of nothing but a connection: it is not what is measured.
type raw struct {
	net.Conn
	rest []byte // was read, and not looked at yet
}

const socketPath = "/v1/ws"

// dialRaw opens a socket, says something and reads until the answer to it. Addresses of loopback take turns, as each has only so many ports.
func dialRaw(address, path string, turn int, answer string, says ...string) (*raw, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+turn%8))}}
	conn, err := dialer.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	_, err = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: chat\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n")
	if err != nil {
		return nil, err
	}
	reader := bufio.NewReaderSize(conn, 4096)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		return nil, err
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusSwitchingProtocols {
		return nil, errors.New(response.Status)
	}
	for _, frame := range says {
		if _, err := conn.Write(masked(frame)); err != nil {
			return nil, err
		}
	}
	for {
		stream, _ := reader.Peek(reader.Buffered()) // which is there
		_, payload, size := frameIn(stream)
		answered := bytes.Contains(payload, []byte(answer))
		if _, err := reader.Discard(size); err != nil {
			return nil, err
		}
		if answered {
			rest, _ := reader.Peek(reader.Buffered())
			return &raw{conn, bytes.Clone(rest)}, conn.SetDeadline(time.Time{})
		}
		if size == 0 {
			if _, err := reader.Peek(len(stream) + 1); err != nil {
				return nil, err
			}
		}
	}
}

// frameIn is the first frame of what a server sent (RFC 6455 §5.2) and its size, which is 0 where it is not all there.
func frameIn(stream []byte) (opcode byte, payload []byte, size int) {
	if len(stream) < 2 {
		return 0, nil, 0
	}
	header, length := 2, int(stream[1])
	switch {
	case length == 126 && len(stream) >= 4:
		header, length = 4, int(binary.BigEndian.Uint16(stream[2:]))
	case length == 127 && len(stream) >= 10:
		header, length = 10, int(binary.BigEndian.Uint64(stream[2:]))
	case length >= 126:
		return 0, nil, 0
	}
	if len(stream) < header+length {
		return 0, nil, 0
	}
	return stream[0] & 0x0f, stream[header : header+length], header + length
}

// masked is a frame of a client with a text, under the mask 0.
func masked(text string) []byte { return maskedFrame(websocket.TextMessage, text) }

func maskedFrame(opcode byte, payload string) []byte {
	frame := []byte{0x80 | opcode}
	if len(payload) < 126 {
		frame = append(frame, 0x80|byte(len(payload)))
	} else {
		frame = binary.BigEndian.AppendUint16(append(frame, 0x80|126), uint16(len(payload)))
	}
	return append(append(frame, 0, 0, 0, 0), payload...)
}

// TestMeasuredHost is the other process of TestIdleSocketsAreCheap and TestFanOut.
func TestMeasuredHost(t *testing.T) {
	if os.Getenv(hostSetting) == "" {
		return
	}
	n := hostOfAnotherProcess(t)
	h := n.node(func(p *LiveParts) {
		p.Limits.UnauthenticatedSockets = 1000
		p.Limits.SweepEvery = defaultLimits().SweepEvery // what is measured is not hurried
		p.Limits.SocketSend = ratelimit.Rule{Burst: 60, Every: time.Second / 100}
	})
	fmt.Println("listening " + strings.TrimPrefix(h.url, "http://")) //nolint:forbidigo // read by the other process
	questions := bufio.NewScanner(os.Stdin)
	for questions.Scan() {
		for range 3 {
			runtime.GC()
			debug.FreeOSMemory()
		}
		fmt.Println(residentKiB(t), runtime.NumGoroutine(), h.live.sockets.count()) //nolint:forbidigo // see above
	}
}

func residentKiB(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if text, found := strings.CutPrefix(line, "VmRSS:"); found {
			kib, err := strconv.Atoi(strings.Fields(text)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kib
		}
	}
	t.Fatal("no VmRSS")
	return 0
}
