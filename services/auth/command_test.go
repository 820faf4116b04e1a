package auth

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"secureconnect/services/internal/config"
	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/web"
)

// environment is what an app host's container has, pointing at the tests' own stores.
func environment(t *testing.T) {
	t.Helper()
	address := testkit.PostgresURL(t)
	parsed, err := url.Parse(address.Reveal())
	if err != nil {
		t.Fatal("the server's address is no URL")
	}
	sql := testkit.OpenPostgres(t, address)
	if _, err := sql.Migrate(t.Context(), slog.New(slog.DiscardHandler), Migrations()...); err != nil {
		t.Fatal(err)
	}
	cache := testkit.RedisConfig(t)
	host, port, _ := strings.Cut(cache.Address, ":")
	sqlPassword, _ := parsed.User.Password()
	for name, value := range map[string]string{
		"DB_HOST": parsed.Hostname(), "DB_PORT": parsed.Port(), "DB_USER": parsed.User.Username(),
		"DB_NAME": strings.TrimPrefix(parsed.Path, "/"), "DB_PASSWORD_FILE": secretFile(t, sqlPassword),
		"REDIS_HOST": host, "REDIS_PORT": port, "REDIS_PASSWORD_FILE": secretFile(t, cache.Password.Reveal()),
		"TOKEN_SECRET_FILE": secretFile(t, tokenSecret.Reveal()),
		"PGOPTIONS":         "-csearch_path=" + parsed.Query().Get("search_path"), // the test's schema
	} {
		t.Setenv(name, value)
	}
}

func secretFile(t *testing.T, value string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(value+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestMigrateAndMount(t *testing.T) {
	environment(t)
	log := slog.New(slog.DiscardHandler)
	for range 2 {
		if err := Migrate(t.Context(), log); err != nil {
			t.Fatal(err)
		}
	}
	settings, err := ReadConfig(config.FromEnvironment())
	if err != nil {
		t.Fatal(err)
	}
	service, done, err := open(t.Context(), log, settings)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	server := web.NewServer(log, "auth", settings.Web)
	Mount(server, service, true)
	for path, want := range map[string]int{"/readyz": http.StatusOK, "/v1/users/me": http.StatusUnauthorized, "/v1/contacts": http.StatusUnauthorized} {
		answer := httptest.NewRecorder()
		server.Echo.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, http.NoBody))
		if answer.Code != want {
			t.Errorf("%s answers %d %s", path, answer.Code, answer.Body)
		}
	}
}

// run is `secureconnect user` with args; it gives stdout.
func run(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	command := UserCommand()
	command.SetArgs(args)
	command.SetIn(strings.NewReader(stdin))
	command.SetOut(&stdout)
	command.SetErr(&stderr)
	err := command.ExecuteContext(t.Context())
	if strings.Contains(stdout.String()+stderr.String(), password) {
		t.Error("the password was printed")
	}
	return stdout.String(), err
}

func TestUserCommand(t *testing.T) {
	environment(t)
	users := func() (listed []Listed) {
		t.Helper()
		out, err := run(t, "", "list", "--json")
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(out), &listed); err != nil {
			t.Fatal(err)
		}
		return listed
	}
	if out, err := run(t, password+"\n", "add", "ada", "--display-name", "Ada L.", "--expires", "1h"); err != nil || out != "ada can log in.\n" {
		t.Fatalf("add: %q, %v", out, err)
	}
	if got := users(); len(got) != 1 || got[0].DisplayName != "Ada L." || got[0].ExpiresAt == nil {
		t.Errorf("got %+v", got)
	}
	if _, err := run(t, password+"\n", "add", "ada"); err == nil {
		t.Error("a name was taken twice")
	}
	if _, err := run(t, "", "add", "eve"); err == nil {
		t.Error("an account without a password was made")
	}
	out, err := run(t, "", "invite", "--uses", "2", "--expires", "10m")
	if err != nil || strings.Count(out, "\n") != 1 || len(strings.TrimSpace(out)) < 20 {
		t.Errorf("invite: %q, %v", out, err)
	}
	if _, err := run(t, "", "disable", "ada"); err != nil || !users()[0].Disabled {
		t.Errorf("disable: %v", err)
	}
	if _, err := run(t, "another password\n", "reset-password", "ada"); err != nil {
		t.Errorf("reset-password: %v", err)
	}
	if _, err := run(t, "", "remove", "ada"); err != nil || len(users()) != 0 {
		t.Errorf("remove: %v", err)
	}
	if _, err := run(t, "", "remove", "ada"); err == nil {
		t.Error("nobody was removed without a word")
	}
}
