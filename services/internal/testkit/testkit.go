// Package testkit gives tests the real stores, each test a place of its own in them.
// TEST_SQL_URL, TEST_REDIS_ADDR (with TEST_REDIS_PASSWORD) and TEST_CQL_ADDR (with TEST_CQL_PASSWORD and
// TEST_CQL_ADMIN_PASSWORD) name servers that run already; otherwise the images of
// .build/images/manifest.json are started once and shared by all test processes. Without either, a test fails: it
// never skips.
package testkit

import (
	"context"
	"crypto/rand"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"secureconnect/services/internal/config"
	"secureconnect/services/internal/cqlstore"
	"secureconnect/services/internal/redisstore"
	"secureconnect/services/internal/sqlstore"
)

// PostgresURL makes an empty schema that goes with the test, and gives the URL that lands in it.
func PostgresURL(t testing.TB) config.Secret {
	t.Helper()
	server := os.Getenv("TEST_SQL_URL")
	if server == "" {
		server = startOnce(t, sqlServer)
	}
	return schemaIn(t, server)
}

// PostgresConfig is PostgresURL for a program that reads its settings: whatever this process opens with them lands in the schema.
func PostgresConfig(t *testing.T) (settings sqlstore.Config, address config.Secret) {
	t.Helper()
	address = PostgresURL(t)
	u, err := url.Parse(address.Reveal())
	if err != nil {
		t.Fatal("the server's address is no URL")
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	t.Setenv("PGOPTIONS", "-csearch_path="+u.Query().Get("search_path"))
	return sqlstore.Config{
		Host: u.Hostname(), Port: port, Name: strings.TrimPrefix(u.Path, "/"), User: u.User.Username(), Password: config.NewSecret(password), MaxConns: 4,
	}, address
}

func schemaIn(t testing.TB, server string) config.Secret {
	t.Helper()
	schema := "t_" + strings.ToLower(rand.Text())[:16]
	execute(t, server, "CREATE SCHEMA "+schema)
	t.Cleanup(func() { execute(t, server, "DROP SCHEMA "+schema+" CASCADE") })
	separator := "?"
	if strings.Contains(server, "?") {
		separator = "&"
	}
	return config.NewSecret(server + separator + "search_path=" + schema)
}

// Postgres is an open store in an empty schema of its own.
func Postgres(t testing.TB) *sqlstore.Store {
	t.Helper()
	return OpenPostgres(t, PostgresURL(t))
}

// OpenPostgres opens another pool of what PostgresURL gave: another process, as far as the store can tell.
func OpenPostgres(t testing.TB, address config.Secret) *sqlstore.Store {
	t.Helper()
	store, err := sqlstore.OpenURL(t.Context(), address, 8)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return store
}

func execute(t testing.TB, server, statement string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	store, err := sqlstore.OpenURL(ctx, config.NewSecret(server), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := store.Exec(ctx, statement); err != nil {
		t.Fatalf("The SQL server of the tests does not answer: %v", err)
	}
}

// DurablePostgresURL is PostgresURL on a server that waits for its disk: for figures.
func DurablePostgresURL(t testing.TB) config.Secret {
	t.Helper()
	return schemaIn(t, startOnce(t, durableSQLServer))
}

// Cassandra is an open store in an empty keyspace that goes with the test.
func Cassandra(t testing.TB) *cqlstore.Store {
	t.Helper()
	return OpenCassandra(t, CassandraConfig(t))
}

// OpenCassandra opens another pool of what CassandraConfig gave: another process, as far as the store can tell.
func OpenCassandra(t testing.TB, c cqlstore.Config) *cqlstore.Store {
	t.Helper()
	store := cqlstore.Open(c)
	t.Cleanup(store.Close)
	return store
}

// CassandraConfig makes an empty keyspace that goes with the test, and says where it is. The login is the one services
// have in the deployment: it may do anything in its keyspace and nothing elsewhere.
func CassandraConfig(t testing.TB) cqlstore.Config {
	t.Helper()
	server, operator := keyspace(t, "t_"+strings.ToLower(rand.Text())[:16])
	t.Cleanup(operator.Close)
	makeKeyspace(t, operator, server)
	t.Cleanup(func() { executeCQL(t, operator, "DROP KEYSPACE IF EXISTS "+server.Keyspace) })
	return server
}

var (
	sharing     sync.Mutex
	sharedSpace = map[string]bool{} // by name, those that are there
)

// SharedCassandra is a keyspace that all tests of a package have together, as Cassandra takes seconds to make tables: rows of one test must
// not be in the way of another's. It is there, and empty, when it is asked for first.
func SharedCassandra(t testing.TB, name string) cqlstore.Config {
	t.Helper()
	sharing.Lock()
	defer sharing.Unlock()
	server, operator := keyspace(t, name)
	defer operator.Close()
	if !sharedSpace[name] {
		executeCQL(t, operator, "DROP KEYSPACE IF EXISTS "+name)
		makeKeyspace(t, operator, server)
		sharedSpace[name] = true
	}
	return server
}

// keyspace says where a keyspace is or may be made, and opens the way in of who makes it.
func keyspace(t testing.TB, name string) (server cqlstore.Config, operator *cqlstore.Store) {
	t.Helper()
	server = cqlstore.Config{Port: 9042, User: "secureconnect", Keyspace: name}
	admin := os.Getenv("TEST_CQL_ADMIN_PASSWORD")
	if address := os.Getenv("TEST_CQL_ADDR"); address != "" {
		server.Hosts, server.Password = []string{address}, config.NewSecret(os.Getenv("TEST_CQL_PASSWORD"))
	} else {
		parts := strings.Fields(startOnce(t, cassandraServer))
		server.Hosts, server.Password, admin = parts[:1], config.NewSecret(parts[1]), parts[2]
	}
	by := server
	by.Keyspace, by.User, by.Password = "", "admin", config.NewSecret(admin)
	return server, cqlstore.Open(by)
}

func makeKeyspace(t testing.TB, operator *cqlstore.Store, server cqlstore.Config) {
	t.Helper()
	executeCQL(t, operator, "CREATE KEYSPACE IF NOT EXISTS "+server.Keyspace+" WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 1}")
	executeCQL(t, operator, "GRANT ALL PERMISSIONS ON KEYSPACE "+server.Keyspace+" TO "+server.User)
}

func executeCQL(t testing.TB, store *cqlstore.Store, statement string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	// A busy disk makes schema changes slow; each of these may be done again.
	if err := store.Write(ctx, statement); err != nil {
		t.Fatalf("The Cassandra server of the tests does not answer: %v", err)
	}
}

// Redis is a client of an empty logical database that no other test uses meanwhile.
func Redis(t testing.TB) *redis.Client {
	t.Helper()
	client := redisstore.Open(RedisConfig(t))
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// RedisConfig says where that database is, for a test that opens it itself, perhaps through a Line.
func RedisConfig(t testing.TB) redisstore.Config {
	t.Helper()
	server := redisstore.Config{
		Address:  os.Getenv("TEST_REDIS_ADDR"),
		Password: config.NewSecret(os.Getenv("TEST_REDIS_PASSWORD")),
		PoolSize: 8,
	}
	if server.Address == "" {
		address, password, _ := strings.Cut(startOnce(t, redisServer), " ")
		server.Address, server.Password = address, config.NewSecret(password)
	}
	server.Database = claimDatabase(t, server)
	return server
}

// Databases 1 to 15 are handed out by keys in database 0.
const (
	lastDatabase = 15
	claimTime    = 10 * time.Minute
	claimWait    = 3 * time.Minute
)

func claimDatabase(t testing.TB, server redisstore.Config) int {
	t.Helper()
	registry := redisstore.Open(server)
	t.Cleanup(func() { _ = registry.Close() })
	database := 0
	Eventually(t, claimWait, "a free Redis database", func() bool {
		database = claimFree(t, registry)
		return database != 0
	})
	server.Database = database
	client := redisstore.Open(server)
	defer func() { _ = client.Close() }()
	if err := client.FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	return database
}

func claimFree(t testing.TB, registry *redis.Client) int {
	t.Helper()
	for database := 1; database <= lastDatabase; database++ {
		key := "testkit:database:" + string(rune('a'+database))
		claimed, err := registry.SetNX(t.Context(), key, 1, claimTime).Result()
		if err != nil {
			t.Fatalf("The Redis server of the tests does not answer: %v", err)
		}
		if claimed {
			t.Cleanup(func() { registry.Del(context.Background(), key) })
			return database
		}
	}
	return 0
}

// Eventually polls until done holds, and fails the test when that takes longer than limit.
func Eventually(t testing.TB, limit time.Duration, what string, done func() bool) {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for !done() {
		select {
		case <-deadline.C:
			t.Fatalf("waited %s for %s", limit, what)
		case <-ticker.C:
		}
	}
}
