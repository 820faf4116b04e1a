package gateway

import (
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"secureconnect/services/internal/config"
)

// Command is `secureconnect gateway`.
func Command() *cobra.Command {
	return &cobra.Command{
		Use:   "gateway",
		Short: "Serve the public interface and the web client on an app host",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := readConfig(config.FromEnvironment())
			if err != nil {
				return fmt.Errorf("read settings: %w", err)
			}
			g, err := New(slog.Default().With("service", "gateway", "app_host", c.Host), c)
			if err != nil {
				return err
			}
			return g.Run(cmd.Context())
		},
	}
}
