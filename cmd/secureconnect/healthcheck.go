package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const readyPath = "/readyz"

func healthcheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "healthcheck URL",
		Short: "Ask a service whether it can do its work (GET " + readyPath + ")",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return healthcheck(cmd.Context(), args[0])
		},
	}
}

// healthcheck takes a service's URL, with or without a path of its own.
func healthcheck(ctx context.Context, raw string) error {
	target, err := url.Parse(raw)
	if err != nil || target.Host == "" {
		return fmt.Errorf("%q is not a URL such as http://127.0.0.1:8080", raw)
	}
	if strings.Trim(target.Path, "/") == "" {
		target.Path = readyPath
	}
	ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", target, err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("ask %s: %w", target, err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", target, err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s is not ready: %s %s", target, response.Status, answer)
	}
	return nil
}
