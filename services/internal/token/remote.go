package token

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"secureconnect/services/internal/wire"
)

const (
	// refetchAfter bounds how often tokens of unknown keys make us ask for keys.
	refetchAfter = 10 * time.Second
	maxKeySet    = 64 << 10
)

// ErrNoKeys is a token that cannot be judged because the keys cannot be fetched. It says nothing about the token.
var ErrNoKeys = errors.New("no keys to check access tokens with")

// Remote checks access tokens with the keys a URL publishes: fetched when first needed, and again when a token
// names a key that is not among them.
type Remote struct {
	url    string
	client *http.Client
	flight singleflight.Group

	mu       sync.Mutex
	verifier *Verifier
	fetched  time.Time
}

// NewRemote reads keys from url through client.
func NewRemote(url string, client *http.Client) *Remote {
	return &Remote{url: url, client: client}
}

// Verify is Verifier.Verify with the published keys; it also fails with ErrNoKeys.
func (r *Remote) Verify(ctx context.Context, raw string, now time.Time) (wire.Session, error) {
	verifier, fetched := r.current()
	if verifier != nil {
		session, err := verifier.Verify(raw, now)
		if !errors.Is(err, errUnknownKey) || now.Sub(fetched) < refetchAfter {
			return session, err
		}
	}
	verifier, err := r.fetch(ctx, now)
	if err != nil {
		return wire.Session{}, fmt.Errorf("%w: %w", ErrNoKeys, err)
	}
	return verifier.Verify(raw, now)
}

// Ready fails while no keys are known and none can be fetched.
func (r *Remote) Ready(ctx context.Context) error {
	if verifier, _ := r.current(); verifier != nil {
		return nil
	}
	_, err := r.fetch(ctx, time.Now())
	return err
}

func (r *Remote) current() (*Verifier, time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.verifier, r.fetched
}

func (r *Remote) fetch(ctx context.Context, now time.Time) (*Verifier, error) {
	// One caller's hurry must not fail the fetch that others wait for.
	ctx = context.WithoutCancel(ctx)
	result, err, _ := r.flight.Do("keys", func() (any, error) {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		verifier, err := r.download(ctx)
		if err != nil {
			return nil, err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.verifier, r.fetched = verifier, now
		return verifier, nil
	})
	if err != nil {
		return nil, err
	}
	return result.(*Verifier), nil //nolint:forcetypeassert // the closure above returns nothing else
}

func (r *Remote) download(ctx context.Context) (*Verifier, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return nil, fmt.Errorf("fetch keys: %w", err)
	}
	response, err := r.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("fetch keys: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch keys: %s answered %s", r.url, response.Status)
	}
	var set KeySet
	if err := json.NewDecoder(io.LimitReader(response.Body, maxKeySet)).Decode(&set); err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	return NewVerifier(set)
}
