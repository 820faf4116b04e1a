package auth

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"secureconnect/services/auth/contacts"
	"secureconnect/services/auth/keys"
	"secureconnect/services/internal/config"
	"secureconnect/services/internal/redisstore"
	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/web"
)

// Command is `secureconnect auth`.
func Command() *cobra.Command {
	return &cobra.Command{
		Use:   "auth",
		Short: "Serve accounts, sessions and tokens",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := ReadConfig(config.FromEnvironment())
			if err != nil {
				return err
			}
			return serve(cmd.Context(), slog.Default().With("service", "auth", "app_host", settings.AppHost), settings)
		},
	}
}

func serve(ctx context.Context, log *slog.Logger, settings Config) error {
	service, done, err := open(ctx, log, settings)
	if err != nil {
		return err
	}
	defer done()
	server := web.NewServer(log, "auth", settings.Web)
	beside := Mount(server, service, settings.EdgeTLS != edgeTLSOff)

	group, running := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Run(running) })
	group.Go(func() error { return service.Sweep(running) })
	group.Go(func() error { return beside(running) })
	return group.Wait()
}

// Mount lays all that auth serves: its own routes, those of its packages, and what they need to be ready. It gives what
// its packages want to run beside the server.
func Mount(server *web.Server, service *Service, secureCookie bool) (beside func(context.Context) error) {
	// Not Redis: auth does its work without it.
	server.Ready("sql", service.store.ready)
	Routes(server.Echo, service, secureCookie)

	people := contacts.New(contacts.Parts{Log: service.log, SQL: service.store.db, Redis: service.hints.redis, Now: service.now})
	server.Ready("contacts", people.Ready)
	contacts.Routes(server.Echo, people, service.Authenticate)

	directory := keys.New(keys.Parts{
		Log: service.log, SQL: service.store.db, Redis: service.hints.redis, Passwords: service, Now: service.now,
	})
	server.Ready("keys", directory.Ready)
	server.OnStop(directory.Stop)
	keys.Routes(server.Echo, directory, service.Authenticate)
	return directory.Run
}

// open makes a service of its settings; done closes everything.
func open(ctx context.Context, log *slog.Logger, settings Config) (service *Service, done func(), err error) {
	sql, err := sqlstore.Open(ctx, settings.SQL)
	if err != nil {
		return nil, nil, err
	}
	hints := redisstore.Open(settings.Redis)
	service, err = New(Parts{
		Log: log, SQL: sql, Redis: hints,
		TokenSecret: settings.TokenSecret, Registration: settings.Registration,
	})
	if err != nil {
		sql.Close()
		_ = hints.Close()
		return nil, nil, err
	}
	return service, func() {
		service.Close()
		_ = hints.Close()
		sql.Close()
	}, nil
}
