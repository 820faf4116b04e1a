// Package gateway is the edge of an app host: it bounds, identifies and forwards requests, sockets among them.
// It knows prefixes and services, never endpoints, and decides nothing about who may do what.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"secureconnect/services/internal/ratelimit"
	"secureconnect/services/internal/redisstore"
	"secureconnect/services/internal/token"
	"secureconnect/services/internal/tunnel"
	"secureconnect/services/internal/web"
	"secureconnect/services/internal/wire"
)

// Gateway is one running edge. Make it with New, Run it once.
type Gateway struct {
	config   Config
	log      *slog.Logger
	server   *web.Server
	upstream *http.Transport
	redis    *redis.Client

	keys    *token.Remote
	limits  *ratelimit.Limiter
	revoked *revocations
	tunnels *tunnel.Set
	pages   *pages
}

// New wires a gateway; nothing is asked of other hosts yet.
func New(log *slog.Logger, c Config) (*Gateway, error) {
	if c.Limits == (Limits{}) {
		c.Limits = defaultLimits()
	}
	pages, err := newPages(c)
	if err != nil {
		return nil, fmt.Errorf("read web client: %w", err)
	}
	upstream := newUpstream()
	asking := &http.Client{Transport: upstream, Timeout: 3 * time.Second}
	store := redisstore.Open(c.Redis)
	g := &Gateway{
		config:   c,
		log:      log,
		server:   web.NewServer(log, "gateway", c.Web),
		upstream: upstream,
		redis:    store,
		keys:     token.NewRemote(c.Auth.JoinPath(wire.PathJWKS).String(), asking),
		limits:   ratelimit.New(store, time.Now),
		revoked:  newRevocations(store),
		tunnels:  tunnel.NewSet(c.Limits.Sockets),
		pages:    pages,
	}
	g.server.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "gateway_tunnels", Help: "Open connections that were upgraded."},
		func() float64 { return float64(g.tunnels.Count()) }))
	g.server.Ready("auth", g.authReady(asking))
	g.server.Degraded("redis", redisstore.Ready(store))
	g.server.OnStop(g.tunnels.Stop)
	g.route()
	return g, nil
}

// newUpstream reaches the services of this host. Its bounds are a service's protection from us.
func newUpstream() *http.Transport {
	return &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
		MaxIdleConnsPerHost:   64,
		MaxConnsPerHost:       512,
		IdleConnTimeout:       60 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true, // bodies pass as they are
	}
}

// Open takes the gateway's port before Run, and tells which it is.
func (g *Gateway) Open() (net.Addr, error) { return g.server.Open() }

// Run serves until ctx ends, has goodbye said on every socket and finishes what is in flight.
func (g *Gateway) Run(ctx context.Context) error {
	err := g.server.Run(ctx)
	g.upstream.CloseIdleConnections()
	return errors.Join(err, g.redis.Close())
}

func (g *Gateway) authReady(asking *http.Client) func(context.Context) error {
	target := g.config.Auth.JoinPath("/readyz").String()
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
		if err != nil {
			return fmt.Errorf("ask auth: %w", err)
		}
		response, err := asking.Do(request)
		if err != nil {
			return fmt.Errorf("ask auth: %w", err)
		}
		_ = response.Body.Close() // the status is all we wanted
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("ask auth: it answered %s", response.Status)
		}
		return nil
	}
}
