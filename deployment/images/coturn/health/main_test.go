package main

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v5"
)

// serve runs a TURN server that knows REST credentials of secret, and returns its port.
func serve(t *testing.T, secret string) string {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	logs := logging.NewDefaultLoggerFactory()
	logs.DefaultLogLevel = logging.LogLevelDisabled
	server, err := turn.NewServer(turn.ServerConfig{
		Realm:         "test",
		LoggerFactory: logs,
		AuthHandler:   turn.LongTermTURNRESTAuthHandler(secret, logs.NewLogger("auth")),
		PacketConnConfigs: []turn.PacketConnConfig{{
			PacketConn: conn,
			RelayAddressGenerator: &turn.RelayAddressGeneratorStatic{
				RelayAddress: net.IPv4(127, 0, 0, 1), Address: "127.0.0.1",
			},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	_, port, err := net.SplitHostPort(conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func config(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "turnserver.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCheck(t *testing.T) {
	port := serve(t, "right")
	for name, c := range map[string]struct {
		config  string
		healthy bool
	}{
		"allocates with the secret of the configuration": {"listening-ip=127.0.0.1\nlistening-port=" + port + "\nstatic-auth-secret=right\n", true},
		"is refused with another secret":                 {"listening-ip=127.0.0.1\nlistening-port=" + port + "\nstatic-auth-secret=wrong\n", false},
		"has no secret":                                  {"listening-ip=127.0.0.1\nlistening-port=" + port + "\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := check(config(t, c.config), time.Now()); (err == nil) != c.healthy {
				t.Errorf("error %v, healthy %t", err, c.healthy)
			}
		})
	}
}

func TestReadConfigTakesTheFirstAddress(t *testing.T) {
	got, err := readConfig(config(t, "# x\nlistening-ip=10.0.0.1\nlistening-ip=fd00::1\nlistening-port=3479\nstatic-auth-secret=a=b\n"))
	want := settings{address: "10.0.0.1:3479", secret: "a=b"}
	if err != nil || got != want {
		t.Errorf("settings %+v, error %v, want %+v", got, err, want)
	}
}
