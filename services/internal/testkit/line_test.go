package testkit_test

import (
	"bufio"
	"net"
	"testing"
	"time"

	"secureconnect/services/internal/testkit"
)

func TestLine(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	go func() {
		for {
			connection, err := server.Accept()
			if err != nil {
				return
			}
			_, _ = connection.Write([]byte("hello\n"))
			t.Cleanup(func() { _ = connection.Close() })
		}
	}()
	line := testkit.NewLine(t, server.Addr().String())

	first := greet(t, line)
	if first == nil {
		t.Fatal("no greeting through the line")
	}
	line.Cut()
	if _, err := first.ReadByte(); err == nil {
		t.Error("the connection outlived the cut")
	}
	if greet(t, line) != nil {
		t.Error("a new connection came through a cut line")
	}
	line.Mend()
	if greet(t, line) == nil {
		t.Error("no greeting through the mended line")
	}
}

// greet gives the connection after its greeting, or nil where none came.
func greet(t *testing.T, line *testkit.Line) *bufio.Reader {
	t.Helper()
	connection, err := net.Dial("tcp", line.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	_ = connection.SetReadDeadline(time.Now().Add(5 * time.Second))
	reader := bufio.NewReader(connection)
	if text, err := reader.ReadString('\n'); err != nil || text != "hello\n" {
		return nil
	}
	return reader
}
