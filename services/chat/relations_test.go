package chat

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/wire"
)

func TestRelations(t *testing.T) {
	var asked atomic.Int64
	var answer atomic.Pointer[http.HandlerFunc]
	serve := func(h http.HandlerFunc) { answer.Store(&h) }
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		(*answer.Load())(w, r)
	}))
	defer server.Close()
	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	r := NewRelations(address, server.Client()).(*relations)
	now := time.Now()
	r.now = func() time.Time { return now }
	ada, bob := newUser().UserID, newUser().UserID

	for name, h := range map[string]http.HandlerFunc{
		"failed":      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"not_found":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) },
		"not_json":    func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("yes")) },
		"no_answer":   func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"wrong_types": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"contact":"true"}`)) },
	} {
		t.Run(name+"_is_unavailable", func(t *testing.T) {
			serve(h)
			_, err := r.Relation(t.Context(), ada, bob)
			wantCode(t, err, "unavailable")
		})
	}
	path := ""
	serve(func(w http.ResponseWriter, r *http.Request) {
		path = r.URL.Path
		_, _ = w.Write([]byte(`{"contact":true,"blocked":false,"blocking":true,"active":true}`))
	})
	want := wire.Relations{Contact: true, Blocking: true, Active: true}
	before := asked.Load()
	for range 3 {
		if got, err := r.Relation(t.Context(), ada, bob); err != nil || got != want {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	if path != wire.PathRelations+string(ada)+"/"+string(bob) || asked.Load() != before+1 {
		t.Errorf("asked %d times for %s", asked.Load()-before, path)
	}
	if _, err := r.Relation(t.Context(), bob, ada); err != nil || asked.Load() != before+2 {
		t.Error("the other direction is another relation")
	}
	now = now.Add(relationLife)
	if _, err := r.Relation(t.Context(), ada, bob); err != nil || asked.Load() != before+3 {
		t.Error("an old answer is given")
	}
	r.Forget(bob, ada)
	if _, err := r.Relation(t.Context(), ada, bob); err != nil || asked.Load() != before+4 {
		t.Error("a forgotten answer is given")
	}
	t.Run("forgotten while it is asked", func(t *testing.T) {
		r.Forget(ada, bob)
		held := make(chan struct{})
		release := sync.OnceFunc(func() { close(held) })
		defer release()
		serve(func(w http.ResponseWriter, _ *http.Request) {
			<-held
			_, _ = w.Write([]byte(`{"contact":true,"active":true}`))
		})
		var early sync.WaitGroup
		early.Go(func() { _, _ = r.Relation(t.Context(), ada, bob) })
		testkit.Eventually(t, patience, "the question", func() bool { return asked.Load() == before+5 })
		r.Forget(ada, bob)
		serve(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"blocked":true}`)) })
		for range 2 { // beside the early answer, and after it
			if got, err := r.Relation(t.Context(), ada, bob); err != nil || !got.Blocked {
				t.Errorf("got %+v, %v", got, err)
			}
			release()
			early.Wait()
		}
	})
}
