// Command coturn-health allocates a relay on this host's coturn as a client would and gives it
// back. It proves listening, credentials and allocation, and relays nothing. Before that it sees
// to it that coturn uses the secrets and the certificate that lie beside its configuration, which
// change while calls go on: a restart would end every allocation.
package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha1" // #nosec G505 -- what TURN REST credentials are made with
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v5"
)

const configPath = "/etc/secureconnect/coturn/turnserver.conf"

// patience is shorter than the health check's own limit, so that a cause is printed.
const patience = 4 * time.Second

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := run(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "coturn:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	settings, err := readConfig(configPath)
	if err != nil {
		return err
	}
	if err := putSecrets(ctx); err != nil {
		return err
	}
	if err := renewCertificate(ctx, settings, readAgain); err != nil {
		return err
	}
	return check(ctx, settings, time.Now())
}

func putSecrets(ctx context.Context) error {
	said, err := exec.CommandContext(ctx, "coturn-secrets").CombinedOutput()
	if err != nil {
		return fmt.Errorf("put the secrets into the database: %w: %s", err, said)
	}
	return nil
}

func check(ctx context.Context, s settings, now time.Time) error {
	conn, err := net.ListenPacket("udp4", ":0") // #nosec G102 -- coturn answers on the address it listens on
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return fmt.Errorf("open a socket: %w", err)
		}
	}
	return errors.Join(allocate(conn, s, now), conn.Close())
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
