package chat

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"golang.org/x/sync/errgroup"

	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/wire"
)

// BenchmarkStoredMessage measures the sound ways to store a message (deployment/decisions/0006) beside each other, on
// stores that wait for their disks, and prints one table:
//
//	go test -run '^$' -bench StoredMessage -benchtime 1x ./services/chat/
func BenchmarkStoredMessage(b *testing.B) {
	w := newWorld(b)
	sql := testkit.OpenPostgres(b, testkit.DurablePostgresURL(b))
	if _, err := Schema.MigrateIn(b.Context(), quiet, sql, w.cql); err != nil {
		b.Fatal(err)
	}
	s := w.hostOn(sql)
	sender := newUser()
	ids := make([]wire.ConversationID, 200)
	for i := range ids {
		ids[i] = w.group(s, sender, newUser())
	}
	two := newTransactions(b, w)
	ways := []way{
		{"B: two lightweight transactions", two.send},
		{"A: SQL, each message by itself", func(ctx context.Context, id wire.ConversationID, r wire.SendRequest) error {
			w := &send{ctx: ctx, caller: sender, request: r, hash: hashOf(r), done: make(chan sendAnswer, 1)}
			s.storeBatch(ctx, id, []*send{w})
			return (<-w.done).err
		}},
		{"A: SQL, what waits as one batch", func(ctx context.Context, id wire.ConversationID, r wire.SendRequest) error {
			_, err := s.Send(ctx, sender, id, r)
			return err
		}},
	}
	loads := []load{{"1 at a time, 200 conversations", 1, ids}, {"32 at a time, 200 conversations", 32, ids}, {"32 at a time, one conversation", 32, ids[:1]}}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "\nload\tway\tp50 ms\tp99 ms\ta second\tof B")
	for b.Loop() {
		for _, l := range loads {
			base := 0.0
			for _, way := range ways {
				r := l.put(b, way)
				if base == 0 {
					base = r.rate
				}
				_, _ = fmt.Fprintf(table, "%s\t%s\t%.1f\t%.1f\t%.0f\t%.2f\n", l.name, way.name, r.p50, r.p99, r.rate, r.rate/base)
			}
		}
	}
	_ = table.Flush()
}

type way struct {
	name string
	send func(context.Context, wire.ConversationID, wire.SendRequest) error
}

type load struct {
	name    string
	writers int
	ids     []wire.ConversationID
}

type result struct{ p50, p99, rate float64 }

const (
	warming   = time.Second
	measuring = 6 * time.Second
)

// put sends 600 bytes at a time for some seconds; the first second is not counted.
func (l load) put(b *testing.B, way way) result {
	b.Helper()
	body := strings.Repeat("x", 600)
	var next atomic.Int64
	var mu sync.Mutex
	var took []float64
	start := time.Now()
	group, ctx := errgroup.WithContext(b.Context())
	for range l.writers {
		group.Go(func() error {
			for time.Since(start) < warming+measuring {
				begun := time.Now()
				if err := way.send(ctx, l.ids[int(next.Add(1))%len(l.ids)], text(body)); err != nil {
					return err
				}
				if time.Since(start) > warming {
					mu.Lock()
					took = append(took, float64(time.Since(begun).Microseconds())/1000)
					mu.Unlock()
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatalf("%s, %s: %v", l.name, way.name, err)
	}
	slices.Sort(took)
	return result{took[len(took)/2], took[len(took)*99/100], float64(len(took)) / measuring.Seconds()}
}

// transactions is the other way: Cassandra alone decides. It is given what flatters it: one host, which knows the head
// of every conversation, so that no two messages try for one number.
type transactions struct {
	session *gocql.Session
	heads   sync.Map
	sender  string
}

const (
	cqlCreateRecords = `CREATE TABLE records (conversation_id uuid, sender uuid, client_id uuid, hash blob, PRIMARY KEY ((conversation_id, sender, client_id)))`
	cqlCreateDecided = `CREATE TABLE decided (conversation_id uuid, bucket bigint, seq bigint, client_id uuid, sender uuid, device text, body text,
	written_at timestamp, PRIMARY KEY ((conversation_id, bucket), seq))`
	cqlRecord = `INSERT INTO records (conversation_id, sender, client_id, hash) VALUES (?, ?, ?, ?) IF NOT EXISTS`
	cqlDecide = `INSERT INTO decided (conversation_id, bucket, seq, client_id, sender, device, body, written_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS`
)

func newTransactions(b *testing.B, w *world) *transactions {
	b.Helper()
	session, err := w.cql.Session(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for _, statement := range []string{cqlCreateRecords, cqlCreateDecided} {
		if err := session.Query(statement).ExecContext(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	return &transactions{session: session, sender: string(newUser().UserID)}
}

func (x *transactions) send(ctx context.Context, id wire.ConversationID, r wire.SendRequest) error {
	if _, err := x.decide(ctx, cqlRecord, string(id), x.sender, string(r.ClientID), hashOf(r)); err != nil {
		return err
	}
	head, _ := x.heads.LoadOrStore(id, new(atomic.Int64))
	for {
		seq := head.(*atomic.Int64).Add(1)
		applied, err := x.decide(ctx, cqlDecide, string(id), bucketOf(seq), seq, string(r.ClientID), x.sender, "phone", r.Body, time.Now())
		if err != nil || applied {
			return err
		}
	}
}

// decide asks again where nobody knows whether it was done. A service would have to read the row then; this does not,
// which flatters it once more.
func (x *transactions) decide(ctx context.Context, statement string, values ...any) (applied bool, err error) {
	for range 20 {
		applied, err = x.session.Query(statement, values...).MapScanCASContext(ctx, map[string]any{})
		if err == nil {
			return applied, nil
		}
	}
	return false, err
}
