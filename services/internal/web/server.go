// Package web is the HTTP floor of every service: request ids, one log line a request, problem documents,
// health, metrics and a graceful stop. It decides nothing about who may do what.
package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/labstack/echo/v5"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"secureconnect/services/internal/config"
)

// Config says where a server listens and what it accepts.
type Config struct {
	Listen        string // host:port of the service
	MetricsListen string // host:port of /metrics and what else only this host may ask for, on loopback
	Proxies       []netip.Prefix
	BodyLimit     int64         // bytes of a request's body; 0 means 64 KiB
	StopGrace     time.Duration // for requests in flight when stopping; 0 means 8 s
}

// ReadConfig reads LISTEN, METRICS_LISTEN and TRUSTED_PROXIES.
func ReadConfig(r *config.Reader, listen, metricsListen, proxies string) Config {
	return Config{
		Listen:        r.Text("LISTEN", listen),
		MetricsListen: r.Text("METRICS_LISTEN", metricsListen),
		Proxies:       r.Prefixes("TRUSTED_PROXIES", proxies),
	}
}

// DefaultBodyLimit is what a request of words may weigh.
const DefaultBodyLimit = 64 << 10

const (
	defaultStopGrace = 8 * time.Second // Docker kills after 10
	maxHeaderBytes   = 16 << 10
)

// Server is an echo server with the floor laid. Add routes to Echo, then Run it once.
type Server struct {
	Echo     *echo.Echo
	Registry *prometheus.Registry

	log      *slog.Logger
	config   Config
	readings *readings
	health   *health
	onStop   []func(context.Context)
	listener net.Listener
	loopback *http.ServeMux
}

// NewServer lays the floor for the service of that name.
func NewServer(log *slog.Logger, service string, c Config) *Server {
	if c.BodyLimit == 0 {
		c.BodyLimit = DefaultBodyLimit
	}
	if c.StopGrace == 0 {
		c.StopGrace = defaultStopGrace
	}
	registry := newRegistry(service)
	s := &Server{
		Registry: registry,
		log:      log,
		config:   c,
		readings: newReadings(registry),
		health:   newHealth(log),
		loopback: loopbackMux(registry),
	}
	s.Echo = echo.NewWithConfig(echo.Config{
		Logger:           log,
		HTTPErrorHandler: errorHandler,
		IPExtractor:      clientAddress(c.Proxies),
		// A path nobody serves is 404 to everybody, also under a group that asks for a token.
		NoGroupAutoRegister404Routes: true,
	})
	s.Echo.Use(requestID, s.record, recoverPanic, LimitBody(c.BodyLimit))
	s.Echo.GET("/healthz", s.health.alive)
	s.Echo.GET("/readyz", s.health.ready)
	return s
}

// Ready adds a check to /readyz: a real query of a store the service cannot work without.
func (s *Server) Ready(name string, ask func(context.Context) error) {
	s.health.add(check{name: name, ask: ask})
}

// Degraded adds a check of a store the service can do without: /readyz reports its failure and stays 200.
func (s *Server) Degraded(name string, ask func(context.Context) error) {
	s.health.add(check{name: name, ask: ask, optional: true})
}

// OnLoopback adds what only this host may ask for, beside /metrics.
func (s *Server) OnLoopback(pattern string, handler http.HandlerFunc) {
	s.loopback.Handle(pattern, handler)
}

// OnStop adds what to do when stopping begins, before requests in flight are waited for: say goodbye on sockets.
func (s *Server) OnStop(do func(context.Context)) { s.onStop = append(s.onStop, do) }

// Open takes the service's port. Run does it where it was not done.
func (s *Server) Open() (net.Addr, error) {
	listener, err := net.Listen("tcp", s.config.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", s.config.Listen, err)
	}
	s.listener = listener
	return listener.Addr(), nil
}

// Run serves until ctx ends, then finishes what is in flight. It returns nil after a clean stop.
func (s *Server) Run(ctx context.Context) error {
	if s.listener == nil {
		if _, err := s.Open(); err != nil {
			return err
		}
	}
	metrics, err := net.Listen("tcp", s.config.MetricsListen)
	if err != nil {
		_ = s.listener.Close()
		return fmt.Errorf("listen on %s: %w", s.config.MetricsListen, err)
	}
	s.log.Info("serving", "listen", s.listener.Addr().String(), "metrics", metrics.Addr().String())

	group, running := errgroup.WithContext(ctx)
	s.serve(group, running, s.httpServer(s.Echo), s.listener, s.onStop)
	s.serve(group, running, s.httpServer(s.loopback), metrics, nil)
	err = group.Wait()
	s.log.Info("stopped")
	return err
}

func (s *Server) httpServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       60 * time.Second,
		WriteTimeout:      90 * time.Second,
		IdleTimeout:       90 * time.Second, // longer than a proxy keeps its idle connections: the proxy closes first
		MaxHeaderBytes:    maxHeaderBytes,
	}
}

// serve runs server in group and stops it when running ends.
func (s *Server) serve(group *errgroup.Group, running context.Context, server *http.Server, l net.Listener, onStop []func(context.Context)) {
	group.Go(func() error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve %s: %w", l.Addr(), err)
		}
		return nil
	})
	group.Go(func() error {
		<-running.Done()
		s.health.stopping.Store(true)
		grace, cancel := context.WithTimeout(context.WithoutCancel(running), s.config.StopGrace)
		defer cancel()
		for _, do := range onStop {
			do(grace)
		}
		if err := server.Shutdown(grace); err != nil {
			return errors.Join(fmt.Errorf("stop %s: %w", l.Addr(), err), server.Close())
		}
		return nil
	})
}
