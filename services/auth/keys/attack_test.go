package keys_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v5"

	"secureconnect/services/auth/keys"
)

// Every route of the directory, with whether it takes a body. None is open to strangers.
var routes = map[string]bool{
	"POST /v1/keys/upload":                    true,
	"POST /v1/keys/query":                     true,
	"POST /v1/keys/claim":                     true,
	"POST /v1/keys/device_signing/upload":     true,
	"POST /v1/keys/signatures/upload":         true,
	"PUT /v1/keys/sendToDevice/:type/:txn":    true,
	"GET /v1/keys/sync":                       false,
	"POST /v1/keys/backup/version":            true,
	"GET /v1/keys/backup/version":             false,
	"GET /v1/keys/backup/version/:version":    false,
	"DELETE /v1/keys/backup/version/:version": false,
	"PUT /v1/keys/backup/keys":                true,
	"GET /v1/keys/backup/keys":                false,
}

func TestEveryRouteHasItsAttack(t *testing.T) {
	e := echo.NewWithConfig(echo.Config{NoGroupAutoRegister404Routes: true})
	keys.Routes(e, &keys.Service{}, nil)
	for _, route := range e.Router().Routes() {
		if _, known := routes[route.Method+" "+route.Path]; !known {
			t.Errorf("%s %s is not in the table", route.Method, route.Path)
		}
	}
}

func TestAttacks(t *testing.T) {
	w := newWorld(t)
	ada := w.join("ada")
	ended := w.join("eve")
	w.call(t.Context(), ended.token, http.MethodPost, "/v1/auth/logout", nil)
	ada.newBackup()

	deep := func(depth int) []byte {
		nested := strings.Repeat(`{"a":`, depth) + `1` + strings.Repeat(`}`, depth)
		return []byte(`{"messages":{"` + ada.user() + `":{"` + ada.id() + `":` + nested + `}},"device_keys":` + nested + `,"master_key":` + nested +
			`,"auth_data":` + nested + `,"algorithm":"a","rooms":{"r":{"sessions":{"s":{"session_data":` + nested + `}}}}}`)
	}
	for route, takesBody := range routes {
		method, path, _ := strings.Cut(route, " ")
		path = strings.NewReplacer(":type", "m.test", ":txn", "t", ":version", "1").Replace(path)
		as := func(token string, body any) answer { return w.call(t.Context(), token, method, path, body) }
		t.Run(route, func(t *testing.T) {
			w.want(as("", object{}), http.StatusUnauthorized, "token_missing")
			w.want(as("x", object{}), http.StatusUnauthorized, "token_invalid")
			w.want(as(ended.token, object{}), http.StatusUnauthorized, "session_ended")
			w.want(w.call(t.Context(), "", method, path+"?access_token="+ada.token, object{}), http.StatusUnauthorized, "token_missing")
			if !takesBody {
				return
			}
			w.want(as(ada.token, nil), http.StatusBadRequest, "invalid_body")
			w.want(as(ada.token, []byte(`{"messages":`)), http.StatusBadRequest, "invalid_body")
			w.want(as(ada.token, []byte(`{} {}`)), http.StatusBadRequest, "invalid_body")
			w.want(as(ada.token, []byte(`[]`)), http.StatusBadRequest, "invalid_body")
			w.want(as(ada.token, deep(20_000)), http.StatusBadRequest, "invalid_body")
			if a := as(ada.token, deep(100)); a.status >= http.StatusInternalServerError {
				t.Errorf("nested: %d %s", a.status, a.body)
			}
			start := time.Now()
			w.want(as(ada.token, bytes.Repeat([]byte(" "), keys.BodyLimit+1)), http.StatusRequestEntityTooLarge, "too_large")
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("a giant took %s", took)
			}
		})
	}
	t.Run("only_room_keys_may_be_large", func(t *testing.T) {
		large := bytes.Repeat([]byte(" "), 2<<20)
		w.want(w.call(t.Context(), ada.token, http.MethodPost, "/v1/keys/query", large), http.StatusRequestEntityTooLarge, "too_large")
		w.want(w.call(t.Context(), "", http.MethodPost, "/v1/auth/login", large), http.StatusRequestEntityTooLarge, "too_large")
	})
	// Each of these, once queued, would break the sync of its device for good.
	for name, content := range map[string]string{
		"deep": string(deep(40)), "fraction": `{"x":1e400}`, "large_number": `{"x":9007199254740993}`, "text": `"x"`, "null": `null`,
		"large": `{"x":"` + strings.Repeat("x", 65<<10) + `"}`,
	} {
		t.Run("content/"+name, func(t *testing.T) {
			body := []byte(`{"messages":{"` + ada.user() + `":{"` + ada.id() + `":` + content + `}}}`)
			w.want(w.call(t.Context(), ada.token, http.MethodPut, "/v1/keys/sendToDevice/m.test/"+name, body), http.StatusBadRequest, "invalid_event")
		})
	}
	for name, content := range map[string]string{
		"lone_surrogate": `{"x":"\ud800"}`, "bad_utf8": "{\"x\":\"\xff\"}", "zero": `{"x\u0000":"\u0000"}`, "twice": `{"x":1,"x":2}`,
	} {
		t.Run("content_made_harmless/"+name, func(t *testing.T) {
			body := []byte(`{"messages":{"` + ada.user() + `":{"` + ada.id() + `":` + content + `}}}`)
			into[object](t, w.call(t.Context(), ada.token, http.MethodPut, "/v1/keys/sendToDevice/m.test/"+name, body))
			page := ada.sync("")
			got := string(page.ToDevice.Events[len(page.ToDevice.Events)-1].Content)
			if strings.Contains(got, `\ud800`) || strings.Contains(got, "\xff") || strings.Count(got, `"x"`) > 1 {
				t.Errorf("passed on: %q", got)
			}
		})
	}
	for _, path := range []string{"a%20b/t", "m.test/%00", "m.test/" + strings.Repeat("t", 300)} {
		w.want(w.call(t.Context(), ada.token, http.MethodPut, "/v1/keys/sendToDevice/"+path, object{"messages": object{}}), http.StatusBadRequest, "invalid_event")
	}
}
