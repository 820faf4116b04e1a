package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"secureconnect/services/auth"
	"secureconnect/services/chat"
	"secureconnect/services/video"
)

// migrate runs the migrations of all services, one after the other.
func migrate(ctx context.Context, log *slog.Logger) error {
	for _, bringToDate := range []func(context.Context, *slog.Logger) error{auth.Migrate, chat.Schema.Migrate, video.Schema.Migrate} {
		if err := bringToDate(ctx, log); err != nil {
			return err
		}
	}
	return nil
}

func migrateCommand() *cobra.Command {
	limit := 5 * time.Minute
	command := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the tables of the stores to date; safe to run at any time, and twice at once",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), limit)
			defer cancel()
			return migrate(ctx, slog.Default())
		},
	}
	command.Flags().DurationVar(&limit, "limit", limit, "give up after this time")
	return command
}
