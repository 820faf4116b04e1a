package chat

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

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
		"REDIS_HOST": "db-01", "REDIS_PASSWORD": "secret", "AUTH_URL": "http://auth:8081", "APP_HOST": "app-01",
	}
	for name, value := range changes {
		environment[name] = value
	}
	return config.From(func(name string) (string, bool) { value, set := environment[name]; return value, set })
}

func TestReadConfig(t *testing.T) {
	c, err := ReadConfig(settings(nil))
	if err != nil || c.Web.Listen != ":8082" || c.Web.MetricsListen != "127.0.0.1:9092" || c.Auth.Host != "auth:8081" || c.CQL.Keyspace != "secureconnect" || c.Redis.Address != "db-01:6379" {
		t.Errorf("read %+v, %v", c, err)
	}
	_, err = ReadConfig(settings(map[string]string{"DB_HOST": "", "CASSANDRA_HOST": "", "REDIS_HOST": "", "AUTH_URL": "auth"}))
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
	if want := []string{"AUTH_URL", "CASSANDRA_HOST", "DB_HOST", "REDIS_HOST"}; !slices.Equal(named, want) {
		t.Errorf("named %q", named)
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

// The command serves once its stores are migrated and auth gives its keys, and stops without leaving anything behind.
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
	listen := freePort(t)
	sql, address := testkit.PostgresConfig(t)
	c := Config{
		Web: web.Config{Listen: listen, MetricsListen: "127.0.0.1:0"}, Auth: authURL,
		SQL: sql, CQL: testkit.CassandraConfig(t),
	}

	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, slog.New(slog.NewTextHandler(io.Discard, nil)), c) }()
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
	testkit.Eventually(t, patience, "chat to say that its tables are missing", func() bool { return status() == http.StatusServiceUnavailable })
	if _, err := Schema.MigrateIn(t.Context(), quiet, testkit.OpenPostgres(t, address), testkit.OpenCassandra(t, c.CQL)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, patience, "chat to be ready", func() bool { return status() == http.StatusOK })
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestMigrateFromTheEnvironment(t *testing.T) {
	sql, address := testkit.PostgresConfig(t)
	cassandra := testkit.CassandraConfig(t)
	host, port, _ := strings.Cut(cassandra.Hosts[0], ":")
	for name, value := range map[string]string{
		"DB_HOST": sql.Host, "DB_PORT": strconv.Itoa(sql.Port), "DB_NAME": sql.Name, "DB_USER": sql.User, "DB_PASSWORD": sql.Password.Reveal(),
		"CASSANDRA_HOST": host, "CASSANDRA_PORT": port, "CASSANDRA_KEYSPACE": cassandra.Keyspace, "CASSANDRA_USER": cassandra.User,
		"CASSANDRA_PASSWORD": cassandra.Password.Reveal(),
	} {
		t.Setenv(name, value)
	}
	for range 2 {
		if err := Schema.Migrate(t.Context(), quiet); err != nil {
			t.Fatal(err)
		}
	}
	s := New(Parts{Log: quiet, SQL: testkit.OpenPostgres(t, address), CQL: testkit.OpenCassandra(t, cassandra), Relations: &friends{relations: map[[2]wire.UserID]wire.Relations{}}})
	defer s.Close()
	if err := errors.Join(s.store.ready(t.Context()), s.messages.ready(t.Context())); err != nil {
		t.Error(err)
	}
}
