// Package cqlstore opens Cassandra and migrates keyspaces. Everything is read and written at LOCAL_QUORUM, and only what may
// be done twice is done again. It holds no query of any service.
package cqlstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
	"golang.org/x/sync/singleflight"

	"secureconnect/services/internal/config"
)

// Config says where Cassandra is and who we are there.
type Config struct {
	Hosts      []string // host or host:port; those that answer tell of the others
	Port       int
	Keyspace   string
	User       string
	Password   config.Secret
	DataCenter string // whose quorum counts; empty means the first host's
}

// ReadConfig reads the CASSANDRA_* settings.
func ReadConfig(r *config.Reader) Config {
	return Config{
		Hosts:      splitHosts(r.Required("CASSANDRA_HOST")),
		Port:       r.Port("CASSANDRA_PORT", 9042),
		Keyspace:   r.Text("CASSANDRA_KEYSPACE", "secureconnect"),
		User:       r.Text("CASSANDRA_USER", "secureconnect"),
		Password:   r.Secret("CASSANDRA_PASSWORD"),
		DataCenter: r.Text("CASSANDRA_DATA_CENTER", ""),
	}
}

func splitHosts(list string) []string {
	var hosts []string
	for host := range strings.SplitSeq(list, ",") {
		if host = strings.TrimSpace(host); host != "" {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

const (
	connectTimeout = 5 * time.Second
	// The server gives up on a write after 2 s and on a read after 5 s (roles/cassandra); we wait a little longer,
	// so that it is the one to say so.
	requestTimeout = 6 * time.Second

	// connectAgain is how long a failed attempt to connect answers for the next ones.
	connectAgain = time.Second

	tries                = 4
	firstPause, maxPause = 20 * time.Millisecond, 500 * time.Millisecond
)

// ErrClosed is a store that was closed.
var ErrClosed = errors.New("the Cassandra store is closed")

// Store is a pool of connections to one keyspace. It connects when first used, so that a service starts before its store.
type Store struct {
	config     Config
	flight     singleflight.Group
	connecting sync.WaitGroup

	mu       sync.Mutex
	session  *gocql.Session
	failed   error
	failedAt time.Time
	closed   bool
}

// Open prepares a store; nothing is asked yet. Close it when done.
func Open(c Config) *Store { return &Store{config: c} }

// Close ends all connections.
func (s *Store) Close() {
	s.mu.Lock()
	s.closed = true
	session := s.session
	s.mu.Unlock()
	s.connecting.Wait()
	if session != nil {
		session.Close()
	}
}

// Session is the driver's own, for statements that Write and Read do not fit. It is made by whoever comes first; while
// Cassandra is away somebody tries once a second.
func (s *Store) Session(ctx context.Context) (*gocql.Session, error) {
	s.mu.Lock()
	session, failed, closed := s.session, s.failed, s.closed
	recently := time.Since(s.failedAt) < connectAgain
	s.mu.Unlock()
	switch {
	case closed:
		return nil, ErrClosed
	case session != nil:
		return session, nil
	case recently:
		return nil, failed
	}
	select {
	case made := <-s.flight.DoChan("connect", s.connect):
		session, _ := made.Val.(*gocql.Session)
		return session, made.Err
	case <-ctx.Done():
		return nil, fmt.Errorf("connect to Cassandra: %w", ctx.Err())
	}
}

func (s *Store) connect() (any, error) {
	s.mu.Lock()
	if s.closed {
		defer s.mu.Unlock()
		return nil, ErrClosed
	}
	if s.session != nil {
		defer s.mu.Unlock()
		return s.session, nil
	}
	s.connecting.Add(1) // under the lock: Close waits for it
	defer s.connecting.Done()
	s.mu.Unlock()
	session, err := s.config.connect()

	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil:
		s.failed, s.failedAt = fmt.Errorf("connect to Cassandra: %w", err), time.Now()
		return nil, s.failed
	case s.closed:
		session.Close()
		return nil, ErrClosed
	default:
		s.session = session
		return session, nil
	}
}

func (c Config) connect() (*gocql.Session, error) {
	center := c.DataCenter
	if center == "" {
		var err error
		if center, err = c.discoverDataCenter(); err != nil {
			return nil, err
		}
	}
	cluster := c.cluster()
	cluster.Keyspace = c.Keyspace
	// Hosts of other data centres are never asked: their quorum would be another one.
	cluster.PoolConfig.HostSelectionPolicy = gocql.TokenAwareHostPolicy(gocql.DCAwareRoundRobinPolicy(center))
	cluster.HostFilter = gocql.DataCenterHostFilter(center)
	return cluster.CreateSession()
}

const cqlDataCenter = `SELECT data_center FROM system.local`

func (c Config) discoverDataCenter() (center string, err error) {
	cluster := c.cluster()
	cluster.DisableInitialHostLookup = true
	cluster.NumConns = 1
	session, err := cluster.CreateSession()
	if err != nil {
		return "", err
	}
	defer session.Close()
	if err := session.Query(cqlDataCenter).Consistency(gocql.One).Scan(&center); err != nil {
		return "", fmt.Errorf("read the name of the data centre: %w", err)
	}
	return center, nil
}

func (c Config) cluster() *gocql.ClusterConfig {
	cluster := gocql.NewCluster(c.addresses()...)
	cluster.Port = c.Port
	cluster.Authenticator = gocql.PasswordAuthenticator{Username: c.User, Password: c.Password.Reveal()}
	cluster.ProtoVersion = 5
	cluster.Consistency = gocql.LocalQuorum
	cluster.SerialConsistency = gocql.LocalSerial
	cluster.ConnectTimeout = connectTimeout
	cluster.Timeout = requestTimeout
	cluster.NumConns = 4
	cluster.ReconnectInterval = time.Second
	cluster.ReconnectionPolicy = &gocql.ConstantReconnectionPolicy{MaxRetries: 3, Interval: 300 * time.Millisecond}
	cluster.RetryPolicy = nil // a timeout is unknown, not failed: see Write
	cluster.DefaultIdempotence = false
	cluster.Logger = silent{}
	cluster.Metadata.CacheMode = gocql.KeyspaceOnly
	return cluster
}

func (c Config) addresses() []string {
	addresses := make([]string, len(c.Hosts))
	for i, host := range c.Hosts {
		addresses[i] = host
		if _, _, err := net.SplitHostPort(host); err != nil {
			addresses[i] = net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(c.Port))
		}
	}
	return addresses
}

// Write runs a statement that may be run twice: it sets the same key to the same content at the same timestamp. So what
// timed out, of which nobody knows whether it was done, is done again until it is known to be done or ctx ends.
func (s *Store) Write(ctx context.Context, statement string, values ...any) error {
	return again(ctx, func() error {
		session, err := s.Session(ctx)
		if err != nil {
			return err
		}
		return session.Query(statement, values...).Idempotent(true).ExecContext(ctx)
	})
}

// Read asks, and gives each row to row, which scans and keeps it; start is called before each try. Reading ends early
// when row gives false.
func (s *Store) Read(ctx context.Context, start func(), row func(scan func(...any) error) (more bool, err error), statement string, values ...any) error {
	return again(ctx, func() error {
		session, err := s.Session(ctx)
		if err != nil {
			return err
		}
		start()
		scanner := session.Query(statement, values...).Idempotent(true).PageSize(pageRows).IterContext(ctx).Scanner()
		for more := true; more && scanner.Next(); {
			if more, err = row(scanner.Scan); err != nil {
				return errors.Join(err, scanner.Err())
			}
		}
		return scanner.Err()
	})
}

// pageRows bounds what one answer holds in memory: rows may have 64 KiB.
const pageRows = 100

func again(ctx context.Context, try func() error) error {
	for pause, left := firstPause, tries-1; ; pause, left = min(2*pause, maxPause), left-1 {
		err := try()
		if err == nil || left == 0 || !worthAnother(err) {
			return err
		}
		timer := time.NewTimer(pause/2 + rand.N(pause)) //nolint:gosec // jitter needs no secrecy
		select {
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(err, ctx.Err())
		case <-timer.C:
		}
	}
}

// worthAnother holds for what may go better in a moment: a node that is away, overloaded or slow.
func worthAnother(err error) bool {
	if errors.Is(err, ErrClosed) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	var refused gocql.RequestError
	if !errors.As(err, &refused) {
		return true // never reached a node, or lost it
	}
	switch refused.Code() {
	case gocql.ErrCodeUnavailable, gocql.ErrCodeOverloaded, gocql.ErrCodeBootstrapping, gocql.ErrCodeServer,
		gocql.ErrCodeWriteTimeout, gocql.ErrCodeReadTimeout, gocql.ErrCodeWriteFailure, gocql.ErrCodeReadFailure:
		return true
	default:
		return false
	}
}

const cqlPing = `SELECT key FROM system.local`

// Ready asks a real question.
func (s *Store) Ready(ctx context.Context) error {
	session, err := s.Session(ctx)
	if err != nil {
		return err
	}
	var key string
	if err := session.Query(cqlPing).Consistency(gocql.One).ScanContext(ctx, &key); err != nil {
		return fmt.Errorf("ask Cassandra: %w", err)
	}
	return nil
}

// silent drops the driver's own lines: its errors come back to us.
type silent struct{}

func (silent) Error(string, ...gocql.LogField)   {}
func (silent) Warning(string, ...gocql.LogField) {}
func (silent) Info(string, ...gocql.LogField)    {}
func (silent) Debug(string, ...gocql.LogField)   {}
