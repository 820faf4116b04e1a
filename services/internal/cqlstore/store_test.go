package cqlstore_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"secureconnect/services/internal/config"
	"secureconnect/services/internal/cqlstore"
	"secureconnect/services/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func plan(files map[string]string) cqlstore.Migrations {
	found := fstest.MapFS{}
	for name, content := range files {
		found[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return cqlstore.Migrations{Owner: "test", Files: found}
}

var twoSteps = plan(map[string]string{
	"0001_a.cql": `CREATE TABLE IF NOT EXISTS a (id int PRIMARY KEY, name text)`,
	"0002_b.cql": `CREATE TABLE IF NOT EXISTS b (id int PRIMARY KEY)`,
})

func names(ctx context.Context, store *cqlstore.Store) (found []string, err error) {
	err = store.Read(ctx, func() { found = nil }, func(scan func(...any) error) (bool, error) {
		var name string
		err := scan(&name)
		found = append(found, name)
		return true, err
	}, `SELECT name FROM a`)
	return found, err
}

func TestMigrate(t *testing.T) {
	sql := testkit.Postgres(t)
	if _, err := sql.Migrate(t.Context(), quiet); err != nil {
		t.Fatal(err)
	}
	place := testkit.CassandraConfig(t)
	t.Run("two_at_once_take_each_step_once", func(t *testing.T) {
		steps := make([]int, 4)
		stores := []*cqlstore.Store{testkit.OpenCassandra(t, place), testkit.OpenCassandra(t, place)}
		group, ctx := errgroup.WithContext(t.Context())
		for i := range steps {
			group.Go(func() (err error) {
				steps[i], err = stores[i%2].Migrate(ctx, quiet, sql, twoSteps)
				return err
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		if total := steps[0] + steps[1] + steps[2] + steps[3]; total != 2 {
			t.Errorf("%v steps were taken, want 2 in all", steps)
		}
	})
	t.Run("changed_migration_is_refused", func(t *testing.T) {
		changed := plan(map[string]string{"0001_a.cql": `CREATE TABLE IF NOT EXISTS c (id int PRIMARY KEY)`})
		if _, err := testkit.OpenCassandra(t, place).Migrate(t.Context(), quiet, sql, changed); err == nil {
			t.Error("accepted")
		}
	})
}

func TestStoreComesBackWithItsServer(t *testing.T) {
	place := testkit.CassandraConfig(t)
	line := testkit.NewLine(t, place.Hosts[0])
	place.Hosts = []string{line.Address()}
	sql := testkit.Postgres(t)
	if _, err := sql.Migrate(t.Context(), quiet); err != nil {
		t.Fatal(err)
	}
	store := testkit.OpenCassandra(t, place)
	if _, err := store.Migrate(t.Context(), quiet, sql, twoSteps); err != nil {
		t.Fatal(err)
	}
	insert := func(id int) error {
		return store.Write(t.Context(), `INSERT INTO a (id, name) VALUES (?, ?)`, id, fmt.Sprint(id))
	}
	if err := insert(1); err != nil {
		t.Fatal(err)
	}
	line.Cut()
	if insert(2) == nil || store.Ready(t.Context()) == nil {
		t.Error("the store answers through a line that is cut")
	}
	line.Mend()
	testkit.Eventually(t, patience, "the store to be back", func() bool { return store.Ready(t.Context()) == nil && insert(3) == nil })
	if found, err := names(t.Context(), store); err != nil || len(found) < 2 {
		t.Errorf("got %v, %v", found, err)
	}
}

func TestStoreStartsBeforeItsServer(t *testing.T) {
	store := cqlstore.Open(cqlstore.Config{Hosts: []string{"127.0.0.1:1"}, Port: 1, Password: config.NewSecret("hunter2-in-the-clear")})
	defer store.Close()
	err := store.Ready(t.Context())
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

func TestClosedStoreSaysSo(t *testing.T) {
	store := testkit.OpenCassandra(t, testkit.CassandraConfig(t))
	if err := store.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	store.Close()
	if err := store.Ready(t.Context()); err == nil {
		t.Error("answers")
	}
}

func TestReadConfig(t *testing.T) {
	environment := map[string]string{"CASSANDRA_HOST": "db-01, db-02:9043", "CASSANDRA_PASSWORD": "secret"}
	r := config.From(func(name string) (string, bool) { value, set := environment[name]; return value, set })
	c := cqlstore.ReadConfig(r)
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	if len(c.Hosts) != 2 || c.Port != 9042 || c.Keyspace != "secureconnect" || c.User != "secureconnect" {
		t.Errorf("read %+v", c)
	}
}
