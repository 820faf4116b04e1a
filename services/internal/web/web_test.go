package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v5"
	"go.uber.org/goleak"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/web"
	"secureconnect/services/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

func newServer(t *testing.T, log io.Writer) *web.Server {
	t.Helper()
	return web.NewServer(slog.New(slog.NewJSONHandler(log, nil)), "test", web.Config{
		Listen: "127.0.0.1:0", MetricsListen: "127.0.0.1:0", BodyLimit: 200,
		Proxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
	})
}

func do(s *web.Server, method, path, body string, header ...string) *httptest.ResponseRecorder {
	request := httptest.NewRequest(method, path, strings.NewReader(body)) // its peer is 192.0.2.1
	request.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	recorder := httptest.NewRecorder()
	s.Echo.ServeHTTP(recorder, request)
	return recorder
}

func problem(t *testing.T, answer *httptest.ResponseRecorder) wire.Problem {
	t.Helper()
	var p wire.Problem
	if err := json.Unmarshal(answer.Body.Bytes(), &p); err != nil {
		t.Fatalf("no problem document: %v: %s", err, answer.Body)
	}
	if got := answer.Header().Get("Content-Type"); got != wire.ProblemMediaType {
		t.Errorf("content type is %s", got)
	}
	if p.Status != answer.Code || p.RequestID == "" || p.RequestID != answer.Header().Get(wire.HeaderRequestID) {
		t.Errorf("the document does not fit its answer: %+v, %d", p, answer.Code)
	}
	return p
}

type body struct {
	Name string `json:"name"`
}

func TestProblems(t *testing.T) {
	var log bytes.Buffer
	s := newServer(t, &log)
	cause := errors.New("SECRET-CAUSE")
	kinds := map[string]apperr.Kind{
		"invalid": apperr.Invalid, "unauthenticated": apperr.Unauthenticated, "forbidden": apperr.Forbidden,
		"not_found": apperr.NotFound, "conflict": apperr.Conflict, "too_many_requests": apperr.TooMany,
		"unavailable": apperr.Unavailable, "internal": apperr.Internal, "too_large": apperr.TooLarge,
	}
	statuses := map[string]int{
		"invalid": 400, "unauthenticated": 401, "forbidden": 403, "not_found": 404, "conflict": 409,
		"too_many_requests": 429, "unavailable": 503, "internal": 500, "too_large": 413,
	}
	s.Echo.GET("/kind/:name", func(c *echo.Context) error {
		return apperr.E("op", kinds[c.Param("name")], "What the user reads.", cause, apperr.RetryAfter(1500*time.Millisecond))
	})
	s.Echo.GET("/plain", func(*echo.Context) error { return cause })
	s.Echo.GET("/panic", func(*echo.Context) error { panic(cause) })

	for code, want := range statuses {
		t.Run(code, func(t *testing.T) {
			answer := do(s, http.MethodGet, "/kind/"+code, "")
			p := problem(t, answer)
			if p.Status != want || p.Code != code || p.Detail != "What the user reads." || answer.Header().Get("Retry-After") != "2" {
				t.Errorf("got %+v, Retry-After %s", p, answer.Header().Get("Retry-After"))
			}
		})
	}
	for path, want := range map[string]string{"/plain": "internal", "/panic": "internal", "/nowhere": "no_such_route"} {
		t.Run(path, func(t *testing.T) {
			answer := do(s, http.MethodGet, path, "")
			if p := problem(t, answer); p.Code != want {
				t.Errorf("got %+v", p)
			}
			if bytes.Contains(answer.Body.Bytes(), []byte("SECRET-CAUSE")) {
				t.Error("the cause went to the client")
			}
		})
	}
	if p := problem(t, do(s, http.MethodDelete, "/plain", "")); p.Code != "method_not_allowed" {
		t.Errorf("got %+v", p)
	}
	if !bytes.Contains(log.Bytes(), []byte("SECRET-CAUSE")) {
		t.Error("the cause is lost to the log")
	}
}

func TestBind(t *testing.T) {
	s := newServer(t, io.Discard)
	s.Echo.POST("/strict", func(c *echo.Context) error {
		b, err := web.Bind[body](c)
		if err != nil {
			return err
		}
		return c.String(http.StatusOK, b.Name)
	})
	s.Echo.POST("/optional", func(c *echo.Context) error {
		b, err := web.BindOptional[body](c)
		if err != nil {
			return err
		}
		return c.String(http.StatusOK, b.Name)
	})
	long := `{"name":"` + strings.Repeat("x", 300) + `"}`
	for name, c := range map[string]struct {
		path, body, media string
		status            int
		code              string
	}{
		"good":                   {"/strict", `{"name":"ada"}`, "application/json", 200, ""},
		"charset":                {"/strict", `{"name":"ada"}`, "application/json; charset=utf-8", 200, ""},
		"unknown_field":          {"/strict", `{"name":"ada","admin":true}`, "application/json", 400, "invalid_body"},
		"second_value":           {"/strict", `{"name":"ada"}{"name":"eve"}`, "application/json", 400, "invalid_body"},
		"trailing_text":          {"/strict", `{"name":"ada"} x`, "application/json", 400, "invalid_body"},
		"wrong_type":             {"/strict", `{"name":7}`, "application/json", 400, "invalid_body"},
		"cut_off":                {"/strict", `{"name":"a`, "application/json", 400, "invalid_body"},
		"empty":                  {"/strict", ``, "application/json", 400, "invalid_body"},
		"form_of_a_foreign_site": {"/strict", `{"name":"ada"}`, "text/plain", 400, "invalid_body"},
		"too_large":              {"/strict", long, "application/json", 413, "too_large"},
		"optional_absent":        {"/optional", ``, "", 200, ""},
		"optional_bad":           {"/optional", `{`, "application/json", 400, "invalid_body"},
	} {
		t.Run(name, func(t *testing.T) {
			answer := do(s, http.MethodPost, c.path, c.body, "Content-Type", c.media)
			if answer.Code != c.status {
				t.Fatalf("got %d %s", answer.Code, answer.Body)
			}
			if c.code != "" && problem(t, answer).Code != c.code {
				t.Errorf("got %s", answer.Body)
			}
		})
	}
	t.Run("too_large_without_a_length", func(t *testing.T) {
		request := httptest.NewRequest(http.MethodPost, "/strict", io.MultiReader(strings.NewReader(long)))
		request.ContentLength = -1
		request.Header.Set("Content-Type", "application/json")
		recorder := httptest.NewRecorder()
		s.Echo.ServeHTTP(recorder, request)
		if recorder.Code != http.StatusRequestEntityTooLarge {
			t.Errorf("got %d", recorder.Code)
		}
	})
}

func TestClientAddress(t *testing.T) {
	s := newServer(t, io.Discard)
	s.Echo.GET("/", func(c *echo.Context) error { return c.String(http.StatusOK, c.RealIP()) })
	for name, c := range map[string]struct{ peer, header, want string }{
		"proxy_is_believed":        {"192.0.2.1:1000", "203.0.113.9", "203.0.113.9"},
		"stranger_is_not":          {"198.51.100.1:1000", "203.0.113.9", "198.51.100.1"},
		"mapped_address_is_itself": {"[::ffff:192.0.2.1]:1000", "::ffff:203.0.113.9", "203.0.113.9"},
		"nonsense_is_ignored":      {"192.0.2.1:1000", "localhost; DROP", "192.0.2.1"},
		"no_header":                {"192.0.2.1:1000", "", "192.0.2.1"},
	} {
		t.Run(name, func(t *testing.T) {
			request := httptest.NewRequest(http.MethodGet, "/", nil)
			request.RemoteAddr = c.peer
			request.Header.Set(wire.HeaderRealIP, c.header)
			recorder := httptest.NewRecorder()
			s.Echo.ServeHTTP(recorder, request)
			if got := recorder.Body.String(); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestRequestIDIsKeptOrMade(t *testing.T) {
	s := newServer(t, io.Discard)
	if got := do(s, http.MethodGet, "/healthz", "", wire.HeaderRequestID, "abcdef-123").Header().Get(wire.HeaderRequestID); got != "abcdef-123" {
		t.Errorf("a good id became %s", got)
	}
	if got := do(s, http.MethodGet, "/healthz", "", wire.HeaderRequestID, "a b\"c").Header().Get(wire.HeaderRequestID); len(got) < 16 {
		t.Errorf("a bad id became %q", got)
	}
}

func TestReadiness(t *testing.T) {
	s := newServer(t, io.Discard)
	broken := errors.New("SECRET-CAUSE")
	var failure error
	s.Ready("sql", func(context.Context) error { return failure })
	if answer := do(s, http.MethodGet, "/readyz", ""); answer.Code != http.StatusOK {
		t.Errorf("got %d", answer.Code)
	}
	failure = broken
	answer := do(s, http.MethodGet, "/readyz", "")
	if answer.Code != http.StatusServiceUnavailable || bytes.Contains(answer.Body.Bytes(), []byte("SECRET-CAUSE")) {
		t.Errorf("got %d %s", answer.Code, answer.Body)
	}
	if alive := do(s, http.MethodGet, "/healthz", ""); alive.Code != http.StatusOK {
		t.Errorf("alive is %d: a store's death must not restart the service", alive.Code)
	}
}

func TestAuthenticate(t *testing.T) {
	s := newServer(t, io.Discard)
	known := wire.Session{UserID: "u"}
	guard := web.Authenticate(func(_ context.Context, raw string) (wire.Session, error) {
		if raw != "good" {
			return wire.Session{}, apperr.E("test", apperr.Unauthenticated, "No.", nil)
		}
		return known, nil
	})
	who := func(c *echo.Context) error {
		caller, err := web.Caller(c)
		if err != nil {
			return err
		}
		return c.String(http.StatusOK, string(caller.UserID))
	}
	s.Echo.GET("/private", who, guard)
	s.Echo.GET("/forgotten", who)
	for name, c := range map[string]struct {
		path, header string
		want         int
	}{
		"good":                     {"/private", "Bearer good", 200},
		"scheme_in_other_case":     {"/private", "bearer good", 200},
		"bad":                      {"/private", "Bearer bad", 401},
		"none":                     {"/private", "", 401},
		"other_scheme":             {"/private", "Basic good", 401},
		"token_in_the_url":         {"/private?access_token=good", "", 401},
		"route_without_middleware": {"/forgotten", "Bearer good", 401},
	} {
		t.Run(name, func(t *testing.T) {
			if answer := do(s, http.MethodGet, c.path, "", "Authorization", c.header); answer.Code != c.want {
				t.Errorf("got %d", answer.Code)
			}
		})
	}
}

func TestRunFinishesWhatIsInFlight(t *testing.T) {
	s := newServer(t, io.Discard)
	entered, release := make(chan struct{}), make(chan struct{})
	s.Echo.GET("/slow", func(c *echo.Context) error {
		close(entered)
		<-release
		return c.String(http.StatusOK, "whole")
	})
	goodbyes := make(chan struct{}, 1)
	s.OnStop(func(context.Context) { goodbyes <- struct{}{} })
	address, err := s.Open()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()

	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	answers := make(chan string, 1)
	go func() {
		response, err := client.Get("http://" + address.String() + "/slow")
		if err != nil {
			answers <- err.Error()
			return
		}
		defer func() { _ = response.Body.Close() }()
		content, _ := io.ReadAll(response.Body)
		answers <- string(content)
	}()
	<-entered
	stop()
	<-goodbyes
	testkit.Eventually(t, patience, "new connections to be refused", func() bool {
		response, err := client.Get("http://" + address.String() + "/healthz")
		if err == nil {
			_ = response.Body.Close()
		}
		return err != nil
	})
	close(release)
	if got := <-answers; got != "whole" {
		t.Errorf("the request in flight got %q", got)
	}
	if err := <-ended; err != nil {
		t.Errorf("stopped with %v", err)
	}
}

func TestLogLine(t *testing.T) {
	var log bytes.Buffer
	s := newServer(t, &log)
	do(s, http.MethodGet, "/healthz", "")
	if log.Len() != 0 {
		t.Errorf("a probe is logged: %s", &log)
	}
	do(s, http.MethodGet, "/nowhere?token=SECRET", "", "Authorization", "Bearer SECRET")
	if bytes.Contains(log.Bytes(), []byte("SECRET")) {
		t.Errorf("a secret is logged: %s", &log)
	}
	if lines := bytes.Count(log.Bytes(), []byte("\n")); lines != 1 {
		t.Errorf("%d lines for one request", lines)
	}
}
