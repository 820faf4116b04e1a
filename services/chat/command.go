package chat

import (
	"context"
	"log/slog"
	"net/http"
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
)

// Command is `secureconnect chat`.
func Command() *cobra.Command {
	return &cobra.Command{
		Use:   "chat",
		Short: "Serve conversations, messages and the sockets of devices",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := ReadConfig(config.FromEnvironment())
			if err != nil {
				return err
			}
			return serve(cmd.Context(), slog.Default().With("service", "chat", "app_host", settings.AppHost), settings)
		},
	}
}

// askAuth bounds one question to the auth service of this host.
const askAuth = 3 * time.Second

func serve(ctx context.Context, log *slog.Logger, settings Config) error {
	sql, err := sqlstore.Open(ctx, settings.SQL)
	if err != nil {
		return err
	}
	defer sql.Close()
	cql := cqlstore.Open(settings.CQL)
	defer cql.Close()
	transport := &http.Transport{MaxIdleConnsPerHost: 16, MaxConnsPerHost: 64, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: askAuth}
	defer transport.CloseIdleConnections()
	asking := &http.Client{Transport: transport, Timeout: askAuth}
	keys := token.NewRemote(settings.Auth.JoinPath(wire.PathJWKS).String(), asking)
	hints := redisstore.Open(settings.Redis)
	defer func() { _ = hints.Close() }()
	server := web.NewServer(log, "chat", settings.Web)
	live := NewLive(LiveParts{Log: log, Redis: hints, Sessions: session.NewCheck(settings.Auth, asking), Registry: server.Registry})
	service := New(Parts{
		Log: log, SQL: sql, CQL: cql, Relations: NewRelations(settings.Auth, asking), Verifier: keys, Announce: live.Announce,
	})
	defer service.Close()
	live.Serve(service)

	server.Ready("sql", service.store.ready)
	server.Ready("cassandra", service.messages.ready)
	server.Ready("auth", keys.Ready)
	server.Degraded("redis", redisstore.Ready(hints))
	server.OnStop(live.Stop)
	Routes(server.Echo, service)
	SocketRoute(server.Echo, live)
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Run(running) })
	group.Go(func() error { return service.Sweep(running) })
	group.Go(func() error { return live.Run(running) })
	return group.Wait()
}
