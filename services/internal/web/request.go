package web

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"runtime/debug"
	"time"

	"github.com/labstack/echo/v5"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
)

var requestIDPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{8,64}$`)

// requestID keeps the id the proxy gave, or makes one, and answers with it.
func requestID(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c *echo.Context) error {
		header := c.Request().Header
		id := header.Get(wire.HeaderRequestID)
		if !requestIDPattern.MatchString(id) {
			id = rand.Text()
			header.Set(wire.HeaderRequestID, id)
		}
		c.Response().Header().Set(wire.HeaderRequestID, id)
		return next(c)
	}
}

// record answers errors, counts the request and writes its one log line.
func (s *Server) record(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c *echo.Context) error {
		start := time.Now()
		err := next(c)
		if err != nil {
			errorHandler(c, err)
		}
		took := time.Since(start)
		response, status := echo.ResolveResponseStatus(c.Response(), nil)
		s.readings.add(c.Request().Method, routeOf(c), status, took)
		s.logRequest(c, response, status, took, err)
		return nil
	}
}

func routeOf(c *echo.Context) string {
	if path := c.RouteInfo().Path; path != "" {
		return path
	}
	return "none"
}

func (s *Server) logRequest(c *echo.Context, response *echo.Response, status int, took time.Duration, err error) {
	request := c.Request()
	if isProbe(request.URL.Path) && status < http.StatusBadRequest {
		return
	}
	attributes := []slog.Attr{
		slog.String("method", request.Method),
		slog.String("path", request.URL.Path), // never the query: people put secrets there
		slog.Int("status", status),
		slog.Int64("bytes", sizeOf(response)),
		slog.Float64("ms", float64(took.Microseconds())/1000),
		slog.String("client", c.RealIP()),
		slog.String("request_id", request.Header.Get(wire.HeaderRequestID)),
	}
	if caller, known := callerOf(c); known {
		attributes = append(attributes, slog.String("user_id", string(caller.UserID)))
	}
	if err != nil {
		attributes = append(attributes, slog.String("error", err.Error()))
	}
	s.log.LogAttrs(request.Context(), levelOf(status), "request", attributes...)
}

func isProbe(path string) bool { return path == "/healthz" || path == "/readyz" }

func sizeOf(response *echo.Response) int64 {
	if response == nil {
		return 0
	}
	return response.Size
}

func levelOf(status int) slog.Level {
	if status >= http.StatusInternalServerError {
		return slog.LevelError
	}
	return slog.LevelInfo
}

// recoverPanic turns a panic of one request into that request's error.
func recoverPanic(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c *echo.Context) (err error) {
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if failure, isError := cause.(error); isError && errors.Is(failure, http.ErrAbortHandler) {
				panic(cause) // net/http's own way to drop a connection
			}
			err = apperr.E("web", apperr.Internal, "Something went wrong on our side.",
				fmt.Errorf("panic: %v\n%s", cause, debug.Stack()))
		}()
		return next(c)
	}
}

// LimitBody bounds the bodies of some routes more tightly than the server's own limit does.
func LimitBody(limit int64) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c *echo.Context) error {
			request := c.Request()
			if request.ContentLength > limit {
				return errTooLarge(nil)
			}
			if request.Body != nil && request.Body != http.NoBody {
				request.Body = http.MaxBytesReader(c.Response(), request.Body, limit)
			}
			return next(c)
		}
	}
}

func errTooLarge(cause error) error {
	return apperr.E("web", apperr.TooLarge, "The request is too large.", cause)
}

// clientAddress believes X-Real-Ip only where it comes from one of the proxies.
func clientAddress(proxies []netip.Prefix) echo.IPExtractor {
	return func(r *http.Request) string {
		peer := peerAddress(r.RemoteAddr)
		if !contains(proxies, peer) {
			return peer.String()
		}
		client, err := netip.ParseAddr(r.Header.Get(wire.HeaderRealIP))
		if err != nil {
			return peer.String()
		}
		return client.Unmap().WithZone("").String()
	}
}

func peerAddress(remote string) netip.Addr {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	address, err := netip.ParseAddr(host)
	if err != nil {
		return netip.IPv4Unspecified()
	}
	return address.Unmap().WithZone("")
}

func contains(prefixes []netip.Prefix, address netip.Addr) bool {
	for _, prefix := range prefixes {
		if prefix.Contains(address) {
			return true
		}
	}
	return false
}

// NoStore keeps answers that hold tokens or tell of people out of every cache.
func NoStore(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c *echo.Context) error {
		c.Response().Header().Set("Cache-Control", "no-store")
		return next(c)
	}
}

// Subscriber is what limits count for an address: a whole /64 in IPv6, which is what one customer is given.
func Subscriber(address string) string {
	parsed, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	if parsed.Is6() {
		if network, err := parsed.Prefix(64); err == nil {
			return network.String()
		}
	}
	return parsed.String()
}
