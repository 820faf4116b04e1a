package video

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-multierror"

	"secureconnect/services/internal/config"
	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/token"
	"secureconnect/services/internal/web"
	"secureconnect/services/internal/wire"
)

func settings(changes map[string]string) *config.Reader {
	environment := map[string]string{
		"DB_HOST": "db-01", "DB_PASSWORD": "secret", "CASSANDRA_HOST": "db-01", "CASSANDRA_PASSWORD": "secret",
		"REDIS_HOST": "db-01", "REDIS_PASSWORD": "secret", "AUTH_URL": "http://127.0.0.1:8081", "CHAT_URL": "http://127.0.0.1:8082",
		"APP_HOST": "app-01", "APP_ADDRESS": "192.0.2.11", "TURN_HOST": "turn.example.org", "TURN_ADDRESS": "192.0.2.14",
		"TURN_PUBLIC_ADDRESS": "198.51.100.14", "TURN_SECRET": "secret",
	}
	for name, value := range changes {
		environment[name] = value
	}
	return config.From(func(name string) (string, bool) { value, set := environment[name]; return value, set })
}

func TestReadConfig(t *testing.T) {
	c, err := ReadConfig(settings(nil))
	if err != nil || c.Web.Listen != ":8083" || c.Web.MetricsListen != "127.0.0.1:9093" || c.MediaPort != 10000 || c.CallsPort != 8083 ||
		c.TURN.Port != 3478 || c.TURN.TLSPort != 5349 || c.TURN.Life != 10*time.Minute || c.Faults {
		t.Errorf("read %+v, %v", c, err)
	}
	for address, want := range map[string]bool{"192.0.2.14": true, "198.51.100.14": true, "::ffff:192.0.2.14": true, "192.0.2.11": false, "203.0.113.1": false} {
		if c.allowed(netip.MustParseAddr(address)) != want {
			t.Errorf("media from %s: %v", address, !want)
		}
	}
	_, err = ReadConfig(settings(map[string]string{
		"APP_ADDRESS": "app-01", "APP_HOST": "", "TURN_HOST": "", "TURN_ADDRESS": "", "TURN_PUBLIC_ADDRESS": "10.0.0.0/8", "TURN_SECRET": "",
		"MEDIA_PORT": "0", "CHAT_URL": "chat", "TURN_LIFE": "long", "CALL_FAULTS": "some",
	}))
	var all *multierror.Error
	if !errors.As(err, &all) {
		t.Fatalf("got %v", err)
	}
	var named []string
	for _, problem := range all.Errors {
		name, _, _ := strings.Cut(problem.Error(), " ")
		named = append(named, name)
	}
	slices.Sort(named)
	want := []string{"APP_ADDRESS", "APP_HOST", "CALL_FAULTS", "CHAT_URL", "MEDIA_PORT", "TURN_ADDRESS", "TURN_HOST", "TURN_LIFE", "TURN_PUBLIC_ADDRESS", "TURN_SECRET_FILE"}
	if !slices.Equal(named, want) {
		t.Errorf("named %q, want %q", named, want)
	}
}

// freePort is nobody's for the moment.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// The command serves once its stores are migrated and auth gives its keys, says what it found of the relay, and stops without leaving
// anything behind.
func TestServe(t *testing.T) {
	signer, err := token.NewSigner(config.NewSecret(strings.Repeat("k", 40)))
	if err != nil {
		t.Fatal(err)
	}
	auth := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(signer.Keys()) }))
	defer auth.Close()
	authURL, err := url.Parse(auth.URL)
	if err != nil {
		t.Fatal(err)
	}
	sql, address := testkit.PostgresConfig(t)
	port, err := net.ListenUDP("udp", &net.UDPAddr{IP: loopback.AsSlice()})
	if err != nil {
		t.Fatal(err)
	}
	mediaPort := port.LocalAddr().(*net.UDPAddr).Port //nolint:forcetypeassert // as it was opened
	_ = port.Close()
	listen, metrics := freePort(t), freePort(t)
	c := Config{
		Web: web.Config{Listen: listen, MetricsListen: metrics}, Auth: authURL, Chat: authURL, SQL: sql, CQL: testkit.CassandraConfig(t),
		Redis: testkit.RedisConfig(t), AppHost: "app-01", Address: loopback, CallsPort: 8083, MediaPort: mediaPort,
		TURNAddress: loopback, TURNPublic: loopback, TURN: TURN{Host: turnHost, Port: 1, TLSPort: 1, Secret: config.NewSecret("x"), Life: time.Minute},
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, quiet, c) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	status := func() int {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+listen+"/readyz", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			return 0
		}
		_ = response.Body.Close()
		return response.StatusCode
	}
	testkit.Eventually(t, patience, "video to say that its tables are missing", func() bool { return status() == http.StatusServiceUnavailable })
	if _, err := Schema.MigrateIn(t.Context(), quiet, testkit.OpenPostgres(t, address), testkit.OpenCassandra(t, c.CQL)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, patience, "video to be ready", func() bool { return status() == http.StatusOK })
	report, err := askRelayTest(t.Context(), "http://"+metrics)
	if err != nil || report.Passed || len(report.Legs) != 3 {
		t.Errorf("of a TURN server that is not there: %+v, %v", report, err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := askRelayTest(t.Context(), "http://"+metrics); err == nil {
		t.Error("it still answers")
	}
}

func TestCallersIn(t *testing.T) {
	for name, c := range map[string]struct {
		status        int
		content, code string
	}{
		"members":      {http.StatusOK, `{"kind":"group","members":["a","b"]}`, ""},
		"not_there":    {http.StatusNotFound, `{"code":"no_such_conversation","detail":"No."}`, "no_such_conversation"},
		"blocked":      {http.StatusForbidden, `{"code":"cannot_call","detail":"No."}`, "cannot_call"},
		"another_404":  {http.StatusNotFound, `404 page not found`, "unavailable"}, // it is no word on anybody
		"broken":       {http.StatusOK, `{`, "unavailable"},
		"away":         {http.StatusServiceUnavailable, `{"code":"unavailable"}`, "unavailable"},
		"unauthorized": {http.StatusUnauthorized, `{"code":"token_missing"}`, "unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			callers, err := callersIn("x", c.status, []byte(c.content))
			if c.code == "" {
				if err != nil || len(callers.Members) != 2 || callers.Kind != wire.KindGroup {
					t.Errorf("got %+v, %v", callers, err)
				}
				return
			}
			wantCode(t, err, c.code)
		})
	}
}
