// Command secureconnect is every service of the platform and what an operator runs beside them, in one binary.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"secureconnect/services/auth"
	"secureconnect/services/chat"
	"secureconnect/services/gateway"
	"secureconnect/services/video"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stdout, nil)))
	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "secureconnect:", err)
		return 1
	}
	return 0
}

func root() *cobra.Command {
	command := &cobra.Command{
		Use:           "secureconnect",
		Short:         "SecureConnect's services",
		SilenceErrors: true, // run prints the error, once
		SilenceUsage:  true,
	}
	command.CompletionOptions.DisableDefaultCmd = true
	command.AddCommand(
		gateway.Command(),
		auth.Command(),
		chat.Command(),
		video.Command(),
		auth.UserCommand(),
		migrateCommand(),
		healthcheckCommand(),
		video.RelayTestCommand(),
		versionCommand(),
	)
	return command
}
