package sqlstore_test

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sync/errgroup"

	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/testkit"
)

const patience = 20 * time.Second

// openSchema opens the same empty schema twice, as two processes would.
func openSchema(t *testing.T) (store, other *sqlstore.Store) {
	t.Helper()
	address := testkit.PostgresURL(t)
	return testkit.OpenPostgres(t, address), testkit.OpenPostgres(t, address)
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func plan(files map[string]string) sqlstore.Migrations {
	found := fstest.MapFS{}
	for name, content := range files {
		found[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return sqlstore.Migrations{Owner: "test", Files: found}
}

var twoSteps = plan(map[string]string{
	"0001_a.sql": `CREATE TABLE IF NOT EXISTS a (id int PRIMARY KEY)`,
	"0002_b.sql": `CREATE INDEX IF NOT EXISTS a_by_id ON a (id)`,
})

func TestMigrate(t *testing.T) {
	t.Run("two_at_once_take_each_step_once", func(t *testing.T) {
		first, second := openSchema(t)
		steps := make([]int, 6)
		group, ctx := errgroup.WithContext(t.Context())
		for i := range steps {
			group.Go(func() (err error) {
				steps[i], err = []*sqlstore.Store{first, second}[i%2].Migrate(ctx, quiet, twoSteps)
				return err
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		total := 0
		for _, n := range steps {
			total += n
		}
		if total != 2 {
			t.Errorf("%v steps were taken, want 2 in all", steps)
		}
	})

	t.Run("dead_holder_is_succeeded_when_its_lease_runs_out", func(t *testing.T) {
		store, other := openSchema(t)
		if _, err := store.Migrate(t.Context(), quiet); err != nil { // makes the tables
			t.Fatal(err)
		}
		if taken, err := store.RenewLease(t.Context(), "dead", time.Second); err != nil || !taken {
			t.Fatalf("lease not taken: %v, %v", taken, err)
		}
		start := time.Now()
		steps, err := other.MigrateWithLease(t.Context(), quiet, time.Second, twoSteps)
		if err != nil || steps != 2 {
			t.Errorf("took %d steps: %v", steps, err)
		}
		if waited := time.Since(start); waited < 500*time.Millisecond {
			t.Errorf("did not wait for the lease to run out: %s", waited)
		}
	})

	t.Run("holder_that_loses_its_lease_stops", func(t *testing.T) {
		store, other := openSchema(t)
		if _, err := store.Migrate(t.Context(), quiet); err != nil {
			t.Fatal(err)
		}
		held, release, err := store.TakeLease(t.Context(), "slow", 400*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		if _, err := other.Exec(t.Context(), `UPDATE schema_lease SET holder = 'quick', expires_at = now() + INTERVAL '1 hour'`); err != nil {
			t.Fatal(err)
		}
		select {
		case <-held.Done():
		case <-time.After(patience):
			t.Error("went on without the lease")
		}
	})

	t.Run("applied_but_not_noted_step_is_taken_again", func(t *testing.T) {
		store, _ := openSchema(t)
		if _, err := store.Exec(t.Context(), `CREATE TABLE a (id int PRIMARY KEY)`); err != nil {
			t.Fatal(err)
		}
		if steps, err := store.Migrate(t.Context(), quiet, twoSteps); err != nil || steps != 2 {
			t.Errorf("took %d steps: %v", steps, err)
		}
	})

	t.Run("second_run_takes_no_step", func(t *testing.T) {
		store, _ := openSchema(t)
		for _, want := range []int{2, 0} {
			if steps, err := store.Migrate(t.Context(), quiet, twoSteps); err != nil || steps != want {
				t.Errorf("took %d steps, want %d: %v", steps, want, err)
			}
		}
	})

	t.Run("changed_migration_is_refused", func(t *testing.T) {
		store, _ := openSchema(t)
		if _, err := store.Migrate(t.Context(), quiet, twoSteps); err != nil {
			t.Fatal(err)
		}
		changed := plan(map[string]string{"0001_a.sql": `CREATE TABLE IF NOT EXISTS c (id int PRIMARY KEY)`})
		if _, err := store.Migrate(t.Context(), quiet, changed); err == nil {
			t.Error("a changed migration was accepted")
		}
	})

	for name, files := range map[string]map[string]string{
		"gap":   {"0001_a.sql": "SELECT 1", "0003_c.sql": "SELECT 1"},
		"twin":  {"0001_a.sql": "SELECT 1", "0001_b.sql": "SELECT 1"},
		"stray": {"0001_a.sql": "SELECT 1", "notes.txt": ""},
	} {
		t.Run(name+"_is_refused", func(t *testing.T) {
			if err := plan(files).Check(); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func TestLeaseWaitEndsWithContext(t *testing.T) {
	store, other := openSchema(t)
	if _, err := store.Migrate(t.Context(), quiet); err != nil {
		t.Fatal(err)
	}
	if _, err := store.RenewLease(t.Context(), "busy", time.Hour); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := other.Migrate(ctx, quiet, twoSteps); err == nil {
		t.Error("migrated while another held the lease")
	}
}
