package video

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"secureconnect/services/internal/config"
	"secureconnect/services/internal/cqlstore"
	"secureconnect/services/internal/redisstore"
	"secureconnect/services/internal/session"
	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/token"
	"secureconnect/services/internal/web"
	"secureconnect/services/internal/wire"
	"secureconnect/services/video/sfu"
)

// Command is `secureconnect video`.
func Command() *cobra.Command {
	return &cobra.Command{
		Use:   "video",
		Short: "Serve calls: who rings, who joins, and what they send each other",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := ReadConfig(config.FromEnvironment())
			if err != nil {
				return err
			}
			return serve(cmd.Context(), slog.Default().With("service", "video", "app_host", settings.AppHost), settings)
		},
	}
}

const (
	// askTime bounds one question to another service of this host.
	askTime = 3 * time.Second

	// socketBytes is what the kernel may hold for the media port in each direction: what comes in a few milliseconds when everybody sends
	// a key frame.
	socketBytes = 4 << 20

	pathRelayTest = "/relaytest"
)

func serve(ctx context.Context, log *slog.Logger, settings Config) error {
	sql, err := sqlstore.Open(ctx, settings.SQL)
	if err != nil {
		return err
	}
	defer sql.Close()
	cql := cqlstore.Open(settings.CQL)
	defer cql.Close()
	transport := &http.Transport{MaxIdleConnsPerHost: 16, MaxConnsPerHost: 64, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: askTime}
	defer transport.CloseIdleConnections()
	asking := &http.Client{Transport: transport, Timeout: askTime}
	keys := token.NewRemote(settings.Auth.JoinPath(wire.PathJWKS).String(), asking)
	hints := redisstore.Open(settings.Redis)
	defer func() { _ = hints.Close() }()

	server := web.NewServer(log, "video", settings.Web)
	media, err := openMedia(log, settings, server)
	if err != nil {
		return err
	}
	defer func() { _ = media.Close() }()
	service := New(Parts{
		Log: log, SQL: sql, CQL: cql, Redis: hints, Callers: NewCallers(settings.Chat, asking), Verifier: keys,
	})
	live := NewLive(LiveParts{
		Log: log, Service: service, Media: media, Sessions: session.NewCheck(settings.Auth, asking), TURN: settings.TURN,
		Host: settings.AppHost, Address: net.JoinHostPort(settings.Address.String(), strconv.Itoa(settings.CallsPort)),
		Faults: settings.Faults, Registry: server.Registry,
	})
	relay := newRelayTest(log, settings, server.Registry)

	server.Ready("sql", service.store.ready)
	server.Ready("cassandra", service.records.ready)
	server.Ready("auth", keys.Ready)
	server.Degraded("redis", redisstore.Ready(hints))
	server.Degraded("relay", relay.ready)
	server.OnLoopback("POST "+pathRelayTest, relay.serve)
	server.OnStop(live.Stop)
	Routes(server.Echo, service)
	SocketRoute(server.Echo, live)
	group, running := errgroup.WithContext(ctx)
	for _, run := range []func(context.Context) error{server.Run, service.Sweep, live.Run, relay.run} {
		group.Go(func() error { return run(running) })
	}
	return group.Wait()
}

// openMedia takes the media port.
func openMedia(log *slog.Logger, settings Config, server *web.Server) (*sfu.SFU, error) {
	at := netip.AddrPortFrom(settings.Address, uint16(settings.MediaPort)) //nolint:gosec // a port, as Config checks
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("listen for media on %s (MEDIA_PORT): %w", at, err)
	}
	// Where the kernel allows less, it gives what it allows.
	_, _ = conn.SetReadBuffer(socketBytes), conn.SetWriteBuffer(socketBytes)
	media, err := sfu.New(sfu.Options{
		Log: log, Conn: conn, Address: settings.Address, Allowed: settings.allowed, Stray: answerProbe, Registry: server.Registry,
	})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return media, nil
}

// RelayTestCommand is `secureconnect relaytest`.
func RelayTestCommand() *cobra.Command {
	var asJSON bool
	at := "http://127.0.0.1:9093"
	command := &cobra.Command{
		Use:   "relaytest",
		Short: "Have the video service of this host prove that calls get through the TURN server",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := askRelayTest(cmd.Context(), at)
			if err != nil {
				return err
			}
			if asJSON {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(report)
			} else {
				_, err = fmt.Fprint(cmd.OutOrStdout(), report)
			}
			if err == nil && !report.Passed {
				return errors.New("calls do not get through the TURN server")
			}
			return err
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	command.Flags().StringVar(&at, "at", at, "where the video service listens for this host alone (METRICS_LISTEN)")
	return command
}

func askRelayTest(ctx context.Context, at string) (report RelayReport, err error) {
	ctx, cancel := context.WithTimeout(ctx, 4*legTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, at+pathRelayTest, nil)
	if err != nil {
		return RelayReport{}, fmt.Errorf("ask the video service: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return RelayReport{}, fmt.Errorf("ask the video service: %w", err)
	}
	defer func() { _ = response.Body.Close() }() // read to its end or given up
	if response.StatusCode != http.StatusOK {
		return RelayReport{}, fmt.Errorf("ask the video service: it answered %s", response.Status)
	}
	if err := json.NewDecoder(response.Body).Decode(&report); err != nil {
		return RelayReport{}, fmt.Errorf("read the report of the video service: %w", err)
	}
	return report, nil
}
