package web

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v5"
)

// checkTimeout bounds one question to a store: a slow answer is as bad as none.
const checkTimeout = 3 * time.Second

type check struct {
	name     string
	ask      func(context.Context) error
	optional bool // reported, but the service works without
}

// health answers whether the process lives and whether it can do its work.
type health struct {
	log      *slog.Logger
	checks   []check
	stopping atomic.Bool
}

func newHealth(log *slog.Logger) *health { return &health{log: log} }

func (h *health) add(c check) { h.checks = append(h.checks, c) }

type healthAnswer struct {
	Status string            `json:"status"`
	Checks map[string]string `json:"checks,omitempty"`
}

func (h *health) alive(c *echo.Context) error {
	return c.JSON(http.StatusOK, healthAnswer{Status: "alive"})
}

func (h *health) ready(c *echo.Context) error {
	if h.stopping.Load() {
		return c.JSON(http.StatusServiceUnavailable, healthAnswer{Status: "stopping"})
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), checkTimeout)
	defer cancel()
	results := h.askAll(ctx)
	answer, status := healthAnswer{Status: "ready", Checks: map[string]string{}}, http.StatusOK
	for i, err := range results {
		name := h.checks[i].name
		answer.Checks[name] = "ok"
		if err != nil && h.checks[i].optional {
			answer.Checks[name] = "degraded"
		} else if err != nil {
			answer.Checks[name], answer.Status, status = "failed", "not ready", http.StatusServiceUnavailable
			h.log.Warn("not ready", "check", name, "error", err)
		}
	}
	return c.JSON(status, answer)
}

func (h *health) askAll(ctx context.Context) []error {
	results := make([]error, len(h.checks))
	var asked sync.WaitGroup
	for i, check := range h.checks {
		asked.Go(func() { results[i] = check.ask(ctx) })
	}
	asked.Wait()
	return results
}
