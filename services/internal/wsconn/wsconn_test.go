package wsconn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// served is a connection whose owner takes frames from a channel.
type served struct {
	*Conn
	frames chan []byte
}

func (s *served) Frames() <-chan []byte { return s.frames }

func (s *served) begin() {
	s.Begin(func(frame []byte) {
		select {
		case s.frames <- frame:
		case <-s.Ending():
		}
	}, func(Code) { close(s.frames) })
}

// connect gives both ends of a connection over a real server.
func connect(t *testing.T, options Options) (*served, *websocket.Conn) {
	t.Helper()
	return connectOver(t, options, func(l net.Listener) net.Listener { return l })
}

func connectOver(t *testing.T, options Options, over func(net.Listener) net.Listener) (*served, *websocket.Conn) {
	t.Helper()
	accepted := make(chan *served, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Served-By", "app-09")
		conn, err := Accept(w, r, options)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s := &served{conn, make(chan []byte)}
		s.begin()
		accepted <- s
	}))
	server.Listener = over(server.Listener)
	server.Start()
	t.Cleanup(server.Close)
	peer, response, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(server.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.Header.Get("X-Served-By") != "app-09" {
		t.Errorf("the handshake lost its headers: %v", response.Header)
	}
	conn := <-accepted
	t.Cleanup(func() {
		_ = peer.Close()
		drain(conn)
		conn.Wait()
	})
	return conn, peer
}

func drain(conn *served) {
	for range conn.Frames() { // until it is closed
	}
}

// ends reads the peer's side to its end and gives the frames and the close code, 0 for none.
func ends(t *testing.T, peer *websocket.Conn) (frames []string, code int) {
	t.Helper()
	if err := peer.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for {
		_, frame, err := peer.ReadMessage()
		var closed *websocket.CloseError
		if errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure {
			return frames, closed.Code
		}
		if err != nil {
			return frames, 0
		}
		frames = append(frames, string(frame))
	}
}

// waitsFor is Wait with a limit.
func waitsFor(t *testing.T, conn *served) Code {
	t.Helper()
	ended := make(chan Code, 1)
	go func() { ended <- conn.Wait() }()
	select {
	case code := <-ended:
		return code
	case <-time.After(20 * time.Second):
		t.Fatal("the connection did not end")
		return 0
	}
}

func TestFramesArriveInOrder(t *testing.T) {
	conn, peer := connect(t, Options{})
	const n = 500
	for i := range n {
		if err := conn.Send(fmt.Appendf(nil, "%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	conn.Close(GoingAway) // what was queued is still written
	frames, code := ends(t, peer)
	if len(frames) != n || code != int(GoingAway) {
		t.Fatalf("%d frames, then %d", len(frames), code)
	}
	for i, frame := range frames {
		if frame != fmt.Sprint(i) {
			t.Fatalf("frame %d is %s", i, frame)
		}
	}
	if code := waitsFor(t, conn); code != GoingAway {
		t.Errorf("ended with %d", code)
	}
}

// undescribed hides what its connections are made of, as TLS would.
type undescribed struct{ net.Listener }

func (l undescribed) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return struct{ net.Conn }{conn}, err
}

func TestConnectionWithoutDescriptor(t *testing.T) {
	conn, peer := connectOver(t, Options{}, func(l net.Listener) net.Listener { return undescribed{l} })
	for _, text := range []string{"one", "two"} {
		if err := conn.Send([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	conn.Close(GoingAway)
	if frames, code := ends(t, peer); !slices.Equal(frames, []string{"one", "two"}) || code != int(GoingAway) {
		t.Errorf("%q, then %d", frames, code)
	}
}

// stuck is a connection whose peer reads nothing, and for which more waits than the kernel takes.
func stuck(t *testing.T) (*served, *websocket.Conn) {
	t.Helper()
	conn, peer := connect(t, Options{QueueBytes: 64 << 20, WriteTimeout: time.Minute, CloseGrace: 100 * time.Millisecond})
	for range 16 {
		if err := conn.Send(bytes.Repeat([]byte("x"), 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	return conn, peer
}

// Who does not read keeps nobody else from being written to, however many they are.
func TestSlowReadersAreNobodyElsesConcern(t *testing.T) {
	for range 2 * runtime.GOMAXPROCS(0) {
		stuck(t)
	}
	conn, peer := connect(t, Options{})
	if err := conn.Send([]byte("fast")); err != nil {
		t.Fatal(err)
	}
	if err := peer.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, frame, err := peer.ReadMessage(); err != nil || string(frame) != "fast" {
		t.Errorf("got %q, %v", frame, err)
	}
}

// The time that one frame was given is not the next one's.
func TestTimeOfAFrameEndsWithIt(t *testing.T) {
	const patience = 2 * time.Second
	conn, peer := connect(t, Options{WriteTimeout: patience, QueueBytes: 16 << 20})
	sendAndRead := func(size int) {
		t.Helper()
		if err := conn.Send(bytes.Repeat([]byte("x"), size)); err != nil {
			t.Fatal(err)
		}
		if _, frame, err := peer.ReadMessage(); err != nil || len(frame) != size {
			t.Fatalf("%d bytes of %d, %v", len(frame), size, err)
		}
	}
	sendAndRead(8 << 20) // is waited for
	<-time.After(patience + 100*time.Millisecond)
	sendAndRead(100)
}

// What a peer asks is answered between frames and never inside of one, also when it has not read for a while.
func TestAnswersBetweenFrames(t *testing.T) {
	conn, peer := stuck(t)
	const n = 20
	pongs := make(chan string, n)
	peer.SetPongHandler(func(content string) error {
		pongs <- content
		return nil
	})
	for i := range n {
		if err := peer.WriteControl(websocket.PingMessage, fmt.Append(nil, i), time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if err := peer.WriteMessage(websocket.TextMessage, []byte("asked")); err != nil {
		t.Fatal(err)
	}
	<-conn.Frames() // so all pings have been heard
	if err := conn.Send([]byte("last")); err != nil {
		t.Fatal(err)
	}
	if err := peer.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		_, frame, err := peer.ReadMessage()
		if err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		if string(frame) == "last" {
			break
		}
		if len(frame) != 1<<20 || strings.Trim(string(frame), "x") != "" {
			t.Fatalf("frame %d is %d bytes, not all of them ours", i, len(frame))
		}
	}
	conn.Close(GoingAway)
	if _, code := ends(t, peer); code != int(GoingAway) {
		t.Errorf("then %d", code)
	}
	close(pongs)
	last := ""
	for content := range pongs {
		last = content
	}
	if last != fmt.Sprint(n-1) { // one answer may do for several (RFC 6455 §5.5.3)
		t.Errorf("the last pong is %q", last)
	}
}

// Who closes is answered with the same code (RFC 6455 §5.5.1), after what was queued.
func TestCloseOfThePeer(t *testing.T) {
	for _, code := range []int{websocket.CloseNormalClosure, 4999, websocket.CloseNoStatusReceived} {
		conn, peer := connect(t, Options{})
		if err := conn.Send([]byte("last")); err != nil {
			t.Fatal(err)
		}
		if err := peer.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if frames, answer := ends(t, peer); len(frames) != 1 || answer != code {
			t.Errorf("%d frames, then %d, want %d", len(frames), answer, code)
		}
		if ended := waitsFor(t, conn); ended != 0 {
			t.Errorf("ended with %d, though the peer left", ended)
		}
	}
}

func TestManySenders(t *testing.T) {
	conn, peer := connect(t, Options{})
	var senders sync.WaitGroup
	for sender := range 8 {
		senders.Go(func() {
			for i := range 100 {
				if conn.Send(fmt.Appendf(nil, "%d %d", sender, i)) != nil {
					return
				}
			}
		})
	}
	go func() {
		senders.Wait()
		conn.Close(GoingAway)
	}()
	frames, _ := ends(t, peer)
	last := map[int]int{}
	for _, frame := range frames {
		var sender, i int
		if _, err := fmt.Sscan(frame, &sender, &i); err != nil {
			t.Fatal(err)
		}
		if i != last[sender] {
			t.Fatalf("sender %d: frame %d where %d was due", sender, i, last[sender])
		}
		last[sender]++
	}
	if len(frames) != 800 {
		t.Errorf("%d frames of 800", len(frames))
	}
}

func TestReceives(t *testing.T) {
	conn, peer := connect(t, Options{})
	for _, text := range []string{"one", "two"} {
		if err := peer.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got := string(<-conn.Frames()); got != text {
			t.Errorf("got %q, want %q", got, text)
		}
	}
	_ = peer.Close()
	if _, open := <-conn.Frames(); open {
		t.Error("a frame after the end")
	}
	if code := waitsFor(t, conn); code != 0 {
		t.Errorf("ended with %d, though the peer left", code)
	}
	if err := conn.Send([]byte("late")); !errors.Is(err, ErrClosed) {
		t.Errorf("Send after the end: %v", err)
	}
}

// A reader that stands still costs its queue and no more, and is told to come back.
func TestSlowReader(t *testing.T) {
	const limit = 256 << 10
	frame := bytes.Repeat([]byte("x"), 32<<10)
	conn, peer := connect(t, Options{QueueBytes: limit, CloseGrace: 500 * time.Millisecond})
	sent := 0
	for ; sent < 10_000; sent++ {
		if err := conn.Send(frame); err != nil {
			if !errors.Is(err, ErrClosed) {
				t.Errorf("Send: %v", err)
			}
			break
		}
		conn.queue.mu.Lock()
		queued := conn.queue.bytes
		conn.queue.mu.Unlock()
		if queued > limit {
			t.Fatalf("%d bytes wait, the limit is %d", queued, limit)
		}
	}
	if code := waitsFor(t, conn); code != Slow {
		t.Errorf("ended with %d, want %d", code, Slow)
	}
	if frames, code := ends(t, peer); len(frames) >= sent || code != 0 && code != int(Slow) {
		t.Errorf("the reader found %d of %d frames, then %d", len(frames), sent, code)
	}
}

// A reader that is behind but moves hears why it has to come back.
func TestSlowReaderIsTold(t *testing.T) {
	frame := bytes.Repeat([]byte("x"), 64<<10)
	conn, peer := connect(t, Options{QueueBytes: 128 << 10})
	go func() {
		for conn.Send(frame) == nil { // until the queue is full
		}
	}()
	<-conn.Ending()
	if _, code := ends(t, peer); code != int(Slow) {
		t.Errorf("told %d, want %d", code, Slow)
	}
}

func TestFirstCloseCodeWins(t *testing.T) {
	conn, peer := connect(t, Options{})
	var closers sync.WaitGroup
	conn.Close(Revoked)
	for range 10 {
		closers.Go(func() { conn.Close(GoingAway) })
	}
	closers.Wait()
	if _, code := ends(t, peer); code != int(Revoked) {
		t.Errorf("told %d, want %d", code, Revoked)
	}
}

func TestPeerThatDoesNotAnswerTheClose(t *testing.T) {
	conn, peer := connect(t, Options{CloseGrace: 50 * time.Millisecond})
	conn.Close(GoingAway)
	if code := waitsFor(t, conn); code != GoingAway {
		t.Errorf("ended with %d", code)
	}
	if _, code := ends(t, peer); code != int(GoingAway) {
		t.Errorf("told %d", code)
	}
}

func TestPings(t *testing.T) {
	t.Run("keep a peer that answers", func(t *testing.T) {
		conn, peer := connect(t, Options{PingEvery: 150 * time.Millisecond})
		pings := make(chan struct{}, 100)
		answer := peer.PingHandler()
		peer.SetPingHandler(func(data string) error {
			pings <- struct{}{}
			return answer(data)
		})
		read := make(chan struct{})
		go func() {
			defer close(read)
			_, _, _ = peer.ReadMessage() // answers pings until the end
		}()
		for range 6 { // three times as long as a silent peer is given
			select {
			case <-pings:
			case <-read:
				t.Fatal("the peer was given up")
			}
		}
		if err := conn.Send([]byte("still here")); err != nil {
			t.Error(err)
		}
		<-read
	})
	t.Run("find a peer that is gone", func(t *testing.T) {
		conn, _ := connect(t, Options{PingEvery: 20 * time.Millisecond}) // whose peer reads nothing
		drain(conn)
		if code := waitsFor(t, conn); code != 0 {
			t.Errorf("ended with %d", code)
		}
	})
}

func TestBadFrames(t *testing.T) {
	t.Run("binary", func(t *testing.T) {
		_, peer := connect(t, Options{})
		if err := peer.WriteMessage(websocket.BinaryMessage, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, code := ends(t, peer); code != int(BadFrame) {
			t.Errorf("told %d", code)
		}
	})
	t.Run("too large", func(t *testing.T) {
		_, peer := connect(t, Options{ReadLimit: 100})
		if err := peer.WriteMessage(websocket.TextMessage, make([]byte, 101)); err != nil {
			t.Fatal(err)
		}
		if _, code := ends(t, peer); code != websocket.CloseMessageTooBig {
			t.Errorf("told %d", code)
		}
	})
	t.Run("no frame at all", func(t *testing.T) {
		conn, peer := connect(t, Options{})
		if _, err := peer.NetConn().Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		drain(conn)
		waitsFor(t, conn)
	})
}

// A proxy that stops ends its side towards us and still passes on what we say.
func TestPeerWhoseSideEnds(t *testing.T) {
	conn, peer := connect(t, Options{})
	if err := conn.Send([]byte("last")); err != nil {
		t.Fatal(err)
	}
	if err := peer.NetConn().(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if frames, code := ends(t, peer); code != int(GoingAway) || len(frames) != 1 {
		t.Errorf("%d frames, then %d", len(frames), code)
	}
	if code := waitsFor(t, conn); code != 0 {
		t.Errorf("ended with %d", code)
	}
}

// Who waits for room can send any amount, at the reader's pace.
func TestAwait(t *testing.T) {
	frame := bytes.Repeat([]byte("x"), 32<<10)
	conn, peer := connect(t, Options{QueueBytes: 128 << 10})
	const n = 300
	go func() {
		for range n {
			if conn.Await(64<<10) != nil || conn.Send(frame) != nil {
				return
			}
		}
		conn.Close(GoingAway)
	}()
	if frames, code := ends(t, peer); len(frames) != n || code != int(GoingAway) {
		t.Errorf("%d frames of %d, then %d", len(frames), n, code)
	}
	if err := conn.Await(0); !errors.Is(err, ErrClosed) {
		t.Errorf("Await after the end: %v", err)
	}
}

func TestSubprotocol(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := Accept(w, r, Options{Subprotocol: "ours.v1"})
		if err != nil {
			t.Error(err)
			return
		}
		conn.Begin(func([]byte) {}, func(Code) {})
		conn.Close(GoingAway)
	}))
	defer server.Close()
	for _, offered := range [][]string{nil, {"ours.v1"}, {"other", "ours.v1"}, {"other"}} {
		dialer := websocket.Dialer{Subprotocols: offered}
		peer, response, err := dialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(server.URL, "http"), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		want := ""
		if slices.Contains(offered, "ours.v1") {
			want = "ours.v1"
		}
		if peer.Subprotocol() != want {
			t.Errorf("offered %q, got %q", offered, peer.Subprotocol())
		}
		ends(t, peer)
		_ = peer.Close()
	}
}

func TestNotAHandshake(t *testing.T) {
	answered := httptest.NewRecorder()
	_, err := Accept(answered, httptest.NewRequest(http.MethodGet, "/", nil), Options{})
	if !errors.Is(err, ErrNotSocket) {
		t.Errorf("got %v", err)
	}
	if body, readErr := io.ReadAll(answered.Body); readErr != nil || len(body) > 0 {
		t.Errorf("Accept answered by itself: %q", body)
	}
}

func TestCodes(t *testing.T) {
	for code, final := range map[Code]bool{
		GoingAway: false, Slow: false, TokenExpired: false, Unavailable: false,
		Unauthenticated: true, Revoked: true, BadFrame: true, TooMany: true,
	} {
		if code.Final() != final || code.String() == "" {
			t.Errorf("%d %q: final %v", code, code, code.Final())
		}
	}
}
