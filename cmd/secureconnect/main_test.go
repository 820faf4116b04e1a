package main

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
)

func TestCommands(t *testing.T) {
	var names []string
	for _, command := range root().Commands() {
		names = append(names, command.Name())
	}
	for _, want := range []string{"gateway", "auth", "chat", "migrate", "user", "healthcheck", "version"} {
		if !slices.Contains(names, want) {
			t.Errorf("there is no %s, only %v", want, names)
		}
	}
}

func TestHealthcheck(t *testing.T) {
	ready := true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != readyPath || !ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(server.Close)
	for _, url := range []string{server.URL, server.URL + "/", server.URL + readyPath} {
		if err := healthcheck(t.Context(), url); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	ready = false
	for _, url := range []string{server.URL, "http://127.0.0.1:1", "nonsense", ""} {
		if healthcheck(t.Context(), url) == nil {
			t.Errorf("%q is healthy", url)
		}
	}
}
