// Command coturn-health allocates a relay on this host's coturn as a client would and gives it
// back. It proves listening, credentials and allocation, and relays nothing.
package main

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha1" // #nosec G505 -- what TURN REST credentials are made with
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v5"
)

const configPath = "/etc/secureconnect/coturn/turnserver.conf"

// patience is shorter than the health check's own limit, so that a cause is printed.
const patience = 4 * time.Second

func main() {
	if err := check(configPath, time.Now()); err != nil {
		fmt.Fprintln(os.Stderr, "coturn:", err)
		os.Exit(1)
	}
}

func check(path string, now time.Time) error {
	settings, err := readConfig(path)
	if err != nil {
		return err
	}
	conn, err := net.ListenPacket("udp4", ":0") // #nosec G102 -- coturn answers on the address it listens on
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	if err := conn.SetDeadline(now.Add(patience)); err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	return errors.Join(allocate(conn, settings, now), conn.Close())
}

func allocate(conn net.PacketConn, s settings, now time.Time) error {
	user, password := credentials(s.secret, now)
	logs := logging.NewDefaultLoggerFactory()
	logs.DefaultLogLevel = logging.LogLevelDisabled
	client, err := turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: s.address, Conn: conn, Username: user, Password: password, LoggerFactory: logs,
	})
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	defer client.Close()
	if err := client.Listen(); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	relay, err := client.Allocate()
	if err != nil {
		return fmt.Errorf("allocate on %s: %w", s.address, err)
	}
	if err := relay.Close(); err != nil {
		return fmt.Errorf("give the allocation back: %w", err)
	}
	return nil
}

// credentials are good for a minute (draft-uberti-behave-turn-rest-00).
func credentials(secret string, now time.Time) (user, password string) {
	user = fmt.Sprintf("%d:health", now.Add(time.Minute).Unix())
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(user))
	return user, base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

type settings struct{ address, secret string }

// readConfig takes from turnserver.conf where coturn listens and what it signs with.
func readConfig(path string) (settings, error) {
	file, err := os.Open(path) // #nosec G304 -- the file coturn reads
	if err != nil {
		return settings{}, fmt.Errorf("read configuration: %w", err)
	}
	defer func() { _ = file.Close() }() // read only
	host, port, secret := "", "3478", ""
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		name, value, _ := strings.Cut(strings.TrimSpace(lines.Text()), "=")
		switch {
		case name == "listening-ip" && host == "":
			host = value
		case name == "listening-port":
			port = value
		case name == "static-auth-secret":
			secret = value
		}
	}
	if err := lines.Err(); err != nil {
		return settings{}, fmt.Errorf("read configuration: %w", err)
	}
	if secret == "" {
		return settings{}, fmt.Errorf("no static-auth-secret in %s", path)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return settings{address: net.JoinHostPort(host, port), secret: secret}, nil
}
