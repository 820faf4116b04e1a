package client

import (
	"io"
	"net/http"
	"testing"
	"time"
)

func TestCallRequests(t *testing.T) {
	var asked, body string
	c := platform(t, func(w http.ResponseWriter, r *http.Request) {
		content, _ := io.ReadAll(r.Body)
		asked, body = r.Method+" "+r.URL.RequestURI(), string(content)
		_, _ = w.Write([]byte(`{}`))
	})
	ctx, at := t.Context(), time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for want, ask := range map[string]func() (Answer, error){
		`POST /v1/calls {"conversation_id":"c","client_id":"i","media":"audio"}`: func() (Answer, error) {
			_, a, err := c.BeginCall(ctx, "", CallRequest{ConversationID: "c", ClientID: "i", Media: "audio"})
			return a, err
		},
		`POST /v1/calls/test `:      func() (Answer, error) { _, a, err := c.BeginTestCall(ctx, ""); return a, err },
		`GET /v1/calls `:            func() (Answer, error) { _, a, err := c.OngoingCalls(ctx, ""); return a, err },
		`GET /v1/calls/a%2Fb `:      func() (Answer, error) { _, a, err := c.FindCall(ctx, "", "a/b"); return a, err },
		`POST /v1/calls/a/decline `: func() (Answer, error) { return c.DeclineCall(ctx, "", "a") },
		`POST /v1/calls/a/leave `:   func() (Answer, error) { return c.LeaveCall(ctx, "", "a") },
		`GET /v1/calls/history `:    func() (Answer, error) { _, a, err := c.CallHistory(ctx, "", "", 0); return a, err },
		`GET /v1/calls/history?before=x&limit=3 `: func() (Answer, error) {
			_, a, err := c.CallHistory(ctx, "", "x", 3)
			return a, err
		},
		`PUT /v1/calls/history/seen {"at":"2030-01-02T03:04:05Z"}`: func() (Answer, error) { return c.SeeCalls(ctx, "", at) },
	} {
		if a, err := ask(); err != nil || a.Status != http.StatusOK || asked+" "+body != want {
			t.Errorf("asked %s %s, %v; want %s", asked, body, err, want)
		}
	}
}
