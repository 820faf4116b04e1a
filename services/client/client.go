// Package client speaks the platform's public interface as a user's program would.
// It holds no session: every call is given the token it should use, so that a test can also give the wrong one.
package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// DialFunc opens a connection to address, which is host:port.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Options say where the platform is; only BaseURL is needed.
type Options struct {
	BaseURL string // https://api.example.org, without a path

	// Dial replaces name resolution; see DialTo.
	Dial DialFunc
	// RootCAs replace the machine's certificate authorities.
	RootCAs *x509.CertPool
	// PreferHost asks the load balancer for one app host by name. It is a wish: the others are its backup.
	PreferHost string
	UserAgent  string
	// Timeout bounds one call, 15 s when it is zero.
	Timeout time.Duration
	// Patience is how long a call may wait, in all, when it is told to come back later (429 with Retry-After).
	// Zero: the answer is the caller's.
	Patience time.Duration
}

// Client is safe for concurrent use. Close it to drop its idle connections.
type Client struct {
	base       *url.URL
	preferHost string
	userAgent  string
	patience   time.Duration
	silence    time.Duration
	http       *http.Client
	transport  *http.Transport
	tls        *tls.Config // never changed: the transport changes its own at its first call
}

// hostCookie is the cookie by which the load balancer prefers an app host.
const hostCookie = "sc_app"

// New returns a client for the platform at o.BaseURL.
func New(o Options) (*Client, error) {
	base, err := parseBase(o.BaseURL)
	if err != nil {
		return nil, err
	}
	trust := &tls.Config{RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12}
	transport := newTransport(o, trust.Clone())
	return &Client{
		tls:        trust,
		base:       base,
		preferHost: o.PreferHost,
		userAgent:  valueOr(o.UserAgent, "secureconnect-client"),
		patience:   o.Patience,
		silence:    silence,
		transport:  transport,
		http: &http.Client{
			Transport: transport,
			Timeout:   valueOr(o.Timeout, 15*time.Second),
			// An API call that is sent elsewhere is a finding, not something to follow.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Close drops idle connections; open sockets are their holder's to close.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// DialTo connects every name to one machine and keeps the port: the hosts file of a test.
func DialTo(machine string) DialFunc {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("dial %s: %w", address, err)
		}
		return dialer.DialContext(ctx, network, net.JoinHostPort(machine, port))
	}
}

func parseBase(raw string) (*url.URL, error) {
	base, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("read base URL: %w", err)
	}
	if (base.Scheme != "http" && base.Scheme != "https") || base.Host == "" || strings.Trim(base.Path, "/") != "" {
		return nil, fmt.Errorf("base URL %q: want http(s)://host[:port]", raw)
	}
	return &url.URL{Scheme: base.Scheme, Host: base.Host}, nil
}

func newTransport(o Options, trust *tls.Config) *http.Transport {
	dial := o.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: 5 * time.Second}).DialContext
	}
	return &http.Transport{
		DialContext:         dial,
		TLSClientConfig:     trust,
		TLSHandshakeTimeout: 5 * time.Second,
		IdleConnTimeout:     30 * time.Second,
		MaxIdleConnsPerHost: 8,
		ForceAttemptHTTP2:   true,
	}
}

func valueOr[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

// RoundTripper sends the requests of another library to the platform: their path and body as they are, all else as of a call of this
// client, with the token that token gives.
func (c *Client) RoundTripper(token func(context.Context) (string, error)) http.RoundTripper {
	return roundTripper{c, token}
}

type roundTripper struct {
	client *Client
	token  func(context.Context) (string, error)
}

func (r roundTripper) RoundTrip(request *http.Request) (*http.Response, error) {
	token, err := r.token(request.Context())
	if err != nil {
		return nil, err
	}
	sent := request.Clone(request.Context())
	sent.URL.Scheme, sent.URL.Host, sent.Host = r.client.base.Scheme, r.client.base.Host, ""
	for name, values := range r.client.header(token) {
		sent.Header[name] = values
	}
	return r.client.transport.RoundTrip(sent) //nolint:wrapcheck // a transport's errors are its caller's to explain
}
