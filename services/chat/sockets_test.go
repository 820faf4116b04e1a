package chat

import (
	"bufio"
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

	"golang.org/x/sync/errgroup"

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
	ask     io.Writer
	answers *bufio.Scanner
	conns   []net.Conn
}

type reading struct {
	resident   int // KiB
	goroutines int
	sockets    int
}

func (n *network) measuredHost() *measuredHost {
	n.t.Helper()
	command := exec.CommandContext(context.Background(), os.Args[0], "-test.run=^TestMeasuredHost$", "-test.timeout=10m")
	schema := n.sql.Reveal()
	command.Env = append(os.Environ(), hostSetting+"="+schema, "GOMAXPROCS=2")
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
	h := &measuredHost{ask: ask, answers: bufio.NewScanner(output)}
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

// open signs a socket in with each token, and has it follow what there is. Addresses of loopback take turns, as each has only so many ports.
func (h *measuredHost) open(t *testing.T, tokens []string) {
	t.Helper()
	h.conns = make([]net.Conn, len(tokens))
	var group errgroup.Group
	group.SetLimit(16)
	for i, accessToken := range tokens {
		group.Go(func() (err error) {
			h.conns[i], err = openRaw(h.address, net.IPv4(127, 0, 0, byte(1+i%8)), accessToken)
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

// openRaw is a client of nothing but a connection: it is not what is measured.
func openRaw(address string, from net.IP, accessToken string) (net.Conn, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}
	conn, err := dialer.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	_, err = io.WriteString(conn, "GET /v1/ws HTTP/1.1\r\nHost: chat\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
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
	for _, frame := range []string{authFrame(accessToken), `{"type":"sync","id":"1"}`, `{"type":"ping","id":"after"}`} {
		if _, err := conn.Write(masked(frame)); err != nil {
			return nil, err
		}
	}
	for {
		line, err := reader.ReadString('}')
		if err != nil {
			return nil, err
		}
		if strings.Contains(line, wire.FrameSynced) {
			return conn, conn.SetDeadline(time.Time{})
		}
	}
}

// masked is a text frame of a client (RFC 6455 §5.2), under the mask 0.
func masked(text string) []byte {
	frame := []byte{0x81}
	if len(text) < 126 {
		frame = append(frame, 0x80|byte(len(text)))
	} else {
		frame = binary.BigEndian.AppendUint16(append(frame, 0x80|126), uint16(len(text)))
	}
	return append(append(frame, 0, 0, 0, 0), text...)
}

// TestMeasuredHost is the other process of TestIdleSocketsAreCheap.
func TestMeasuredHost(t *testing.T) {
	if os.Getenv(hostSetting) == "" {
		return
	}
	n := hostOfAnotherProcess(t)
	h := n.node(func(p *LiveParts) { p.Limits.UnauthenticatedSockets = 1000 })
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
