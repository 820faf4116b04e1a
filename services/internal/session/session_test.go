package session_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/session"
	"secureconnect/services/internal/wire"
	"secureconnect/services/internal/wsconn"
)

func TestCheck(t *testing.T) {
	const id = wire.SessionID("0192f0c0-0000-7000-8000-000000000000")
	for name, c := range map[string]struct {
		status int
		want   apperr.Kind // 0: it lives
		code   wsconn.Code
	}{
		"live":           {http.StatusNoContent, 0, 0},
		"ended":          {http.StatusNotFound, apperr.Unauthenticated, wsconn.Revoked},
		"nobody_can_say": {http.StatusBadGateway, apperr.Unavailable, wsconn.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			auth := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != wire.PathSession+string(id) {
					t.Errorf("asked for %s", r.URL.Path)
				}
				w.WriteHeader(c.status)
			}))
			defer auth.Close()
			address, err := url.Parse(auth.URL)
			if err != nil {
				t.Fatal(err)
			}
			err = session.NewCheck(address, auth.Client())(t.Context(), id)
			if c.want == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !apperr.Is(err, c.want) || session.CloseCode(err) != c.code {
				t.Errorf("got %v, which closes with %d", err, session.CloseCode(err))
			}
		})
	}
}

func TestCloseCode(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want wsconn.Code
	}{
		"ended_session":    {session.Ended("x"), wsconn.Revoked},
		"bad_token":        {apperr.E("x", apperr.Unauthenticated, "No.", nil), wsconn.Unauthenticated},
		"bad_request":      {apperr.E("x", apperr.Invalid, "No.", nil), wsconn.BadFrame},
		"too_many":         {apperr.Overrun("x", 0), wsconn.TooMany},
		"store_away":       {apperr.OrUnavailable("x", errors.New("away")), wsconn.Unavailable},
		"nobody_s_meaning": {errors.New("odd"), wsconn.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			if got := session.CloseCode(c.err); got != c.want {
				t.Errorf("closes with %d, want %d", got, c.want)
			}
		})
	}
}
