package chat

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
)

const (
	// relationLife is how long a block may take to hold of which no hint told.
	relationLife    = 2 * time.Second
	relationTimeout = 2 * time.Second
	// knownRelations bounds the memory of them: beyond it, it starts anew.
	knownRelations = 20_000
)

// relations asks auth, and remembers for a moment.
type relations struct {
	auth   *url.URL
	asking *http.Client
	now    func() time.Time
	flight singleflight.Group

	mu        sync.Mutex
	known     map[string]knownRelation
	forgotten int // how often: an answer from before is not remembered
}

type knownRelation struct {
	wire.Relations
	until time.Time
}

// NewRelations asks the auth service at a URL through a client.
func NewRelations(auth *url.URL, asking *http.Client) Relations {
	return &relations{auth: auth, asking: asking, now: time.Now, known: map[string]knownRelation{}}
}

// Relation fails with Unavailable where auth does not answer, or not as expected.
func (r *relations) Relation(ctx context.Context, a, b wire.UserID) (wire.Relations, error) {
	pair := pairPath(a, b)
	r.mu.Lock()
	known, there := r.known[pair]
	r.mu.Unlock()
	if there && r.now().Before(known.until) {
		return known.Relations, nil
	}
	// One caller's hurry must not fail the question that others wait for.
	ctx = context.WithoutCancel(ctx)
	answer, err, _ := r.flight.Do(pair, func() (any, error) { return r.ask(ctx, pair) })
	if err != nil {
		return wire.Relations{}, apperr.OrUnavailable("chat.relations", err)
	}
	return answer.(wire.Relations), nil //nolint:forcetypeassert // the closure above returns nothing else
}

func pairPath(a, b wire.UserID) string {
	return url.PathEscape(string(a)) + "/" + url.PathEscape(string(b))
}

// Forget drops what is remembered of the two, in either direction; who asks from now on shares no question asked before.
func (r *relations) Forget(a, b wire.UserID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgotten++
	for _, pair := range []string{pairPath(a, b), pairPath(b, a)} {
		delete(r.known, pair)
		r.flight.Forget(pair)
	}
}

const maxRelation = 4 << 10

func (r *relations) ask(ctx context.Context, pair string) (wire.Relations, error) {
	ctx, cancel := context.WithTimeout(ctx, relationTimeout)
	defer cancel()
	asked, before := r.now(), r.timesForgotten()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.auth.JoinPath(wire.PathRelations, pair).String(), nil)
	if err != nil {
		return wire.Relations{}, fmt.Errorf("ask for relation: %w", err)
	}
	response, err := r.asking.Do(request)
	if err != nil {
		return wire.Relations{}, fmt.Errorf("ask for relation: %w", err)
	}
	defer func() { _ = response.Body.Close() }() // read to its end or given up
	if response.StatusCode != http.StatusOK {
		return wire.Relations{}, fmt.Errorf("ask for relation: auth answered %s", response.Status)
	}
	var relation wire.Relations
	if err := json.NewDecoder(io.LimitReader(response.Body, maxRelation)).Decode(&relation); err != nil {
		return wire.Relations{}, fmt.Errorf("read relation: %w", err)
	}
	r.remember(pair, knownRelation{relation, asked.Add(relationLife)}, before)
	return relation, nil
}

func (r *relations) timesForgotten() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.forgotten
}

func (r *relations) remember(pair string, relation knownRelation, before int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.forgotten != before {
		return
	}
	if len(r.known) >= knownRelations {
		clear(r.known)
	}
	r.known[pair] = relation
}
