package testkit

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// server is one of the deployment's own images, set up with as little as a test needs.
type server struct {
	image     string // its name in the manifest
	port      string
	uid       int // of the container's process, which reads the secrets
	secrets   []string
	files     map[string]string // in config, mounted at mount
	mount     string
	health    string
	container string // its name, once started

	// address is what tests need to know, from where the server listens and its secrets by name.
	address func(listen string, secrets map[string]string) string

	name string // where it is not the image's
}

func (s *server) called() string {
	if s.name != "" {
		return s.name
	}
	return s.image
}

var sqlServer = &server{
	image: "sql", port: "5432", uid: 9001,
	secrets: []string{"sql_admin_password", "sql_password"},
	mount:   "/etc/secureconnect/sql",
	files: map[string]string{
		"postgresql.conf": "listen_addresses = '*'\npassword_encryption = 'scram-sha-256'\nmax_connections = 300\n" +
			"shared_buffers = '64MB'\ndefault_transaction_isolation = 'serializable'\nfsync = off\n" +
			"hba_file = '/etc/secureconnect/sql/pg_hba.conf'\n",
		"pg_hba.conf": "local all all trust\nhost all all all scram-sha-256\n",
	},
	health:  "sql-health",
	address: sqlAddress,
}

// durableSQLServer waits for its disk, as the deployment's does: figures of the other would flatter.
var durableSQLServer = &server{
	image: "sql", name: "sql-durable", port: "5432", uid: 9001,
	secrets: []string{"sql_admin_password", "sql_password"},
	mount:   "/etc/secureconnect/sql",
	files: map[string]string{
		"postgresql.conf": "listen_addresses = '*'\npassword_encryption = 'scram-sha-256'\nmax_connections = 100\n" +
			"shared_buffers = '256MB'\ndefault_transaction_isolation = 'serializable'\n" +
			"max_pred_locks_per_transaction = 256\nrandom_page_cost = 1.1\n" +
			"hba_file = '/etc/secureconnect/sql/pg_hba.conf'\n",
		"pg_hba.conf": "local all all trust\nhost all all all scram-sha-256\n",
	},
	health:  "sql-health",
	address: sqlAddress,
}

func sqlAddress(listen string, secrets map[string]string) string {
	return fmt.Sprintf("postgres://secureconnect:%s@%s/secureconnect", secrets["sql_password"], listen)
}

var cassandraServer = &server{
	image: "cassandra", port: "9042", uid: 9002,
	secrets: []string{"cassandra_admin_password", "cassandra_password"},
	mount:   "/etc/secureconnect/cassandra",
	files: map[string]string{
		"cassandra.yaml": "cluster_name: testkit\nnum_tokens: 1\npartitioner: org.apache.cassandra.dht.Murmur3Partitioner\n" +
			"endpoint_snitch: GossipingPropertyFileSnitch\nlisten_address: 127.0.0.1\n" +
			"seed_provider:\n  - class_name: org.apache.cassandra.locator.SimpleSeedProvider\n    parameters: [{seeds: '127.0.0.1:7000'}]\n" +
			"start_native_transport: true\nrpc_address: 0.0.0.0\nbroadcast_rpc_address: 127.0.0.1\n" +
			"authenticator: PasswordAuthenticator\nauthorizer: CassandraAuthorizer\nrole_manager: CassandraRoleManager\n" +
			"commitlog_sync: group\ncommitlog_sync_group_window: 2ms\ncommitlog_segment_size: 32MiB\n" +
			"storage_compatibility_mode: NONE\nauto_snapshot: false\n" +
			"memtable_heap_space: 64MiB\nmemtable_offheap_space: 64MiB\nmemtable_allocation_type: offheap_objects\n" +
			"key_cache_size: 8MiB\nfile_cache_size: 32MiB\nconcurrent_writes: 64\n" +
			"read_request_timeout: 5s\nwrite_request_timeout: 2s\ncas_contention_timeout: 1s\n",
		"cassandra-rackdc.properties": "dc=dc1\nrack=rack1\n",
		"jvm.options":                 "-Xms384m\n-Xmx384m\n-XX:MaxDirectMemorySize=256m\n",
		"logback.xml": `<configuration scan="false"><appender name="STDOUT" class="ch.qos.logback.core.ConsoleAppender">` +
			`<encoder><pattern>%-5level %logger{20}: %msg%n</pattern></encoder></appender>` +
			`<root level="WARN"><appender-ref ref="STDOUT"/></root></configuration>`,
	},
	health: "cassandra-health",
	address: func(listen string, secrets map[string]string) string {
		return listen + " " + secrets["cassandra_password"] + " " + secrets["cassandra_admin_password"]
	},
}

var redisServer = &server{
	image: "redis", port: "6379", uid: 9003,
	secrets: []string{"redis_password"},
	mount:   "/etc/secureconnect/redis",
	files: map[string]string{
		"redis.conf": "bind 0.0.0.0\nport 6379\ndir /data\nappendonly no\ninclude /run/secrets/redis_auth.conf\n",
	},
	health: "redis-health",
	address: func(listen string, secrets map[string]string) string {
		return listen + " " + secrets["redis_password"]
	},
}

var started struct {
	sync.Mutex
	addresses map[*server]string
}

// startOnce gives the address of the shared container of s, started by whichever test process comes first.
func startOnce(t testing.TB, s *server) string {
	t.Helper()
	started.Lock()
	defer started.Unlock()
	if address, known := started.addresses[s]; known {
		return address
	}
	address, err := s.start()
	if err != nil {
		t.Fatalf("No %s server for the tests: %v. Run `make images`, or set TEST_SQL_URL, TEST_REDIS_ADDR and TEST_CQL_ADDR with their passwords.", s.called(), err)
	}
	if started.addresses == nil {
		started.addresses = map[*server]string{}
	}
	started.addresses[s] = address
	return address
}

func (s *server) start() (string, error) {
	root, err := repository()
	if err != nil {
		return "", err
	}
	// Another checkout on this machine has servers, and secrets, of its own.
	s.container = fmt.Sprintf("secureconnect-testkit-%s-%08x", s.called(), crc32.ChecksumIEEE([]byte(root)))
	ref, err := imageRef(root, s.image)
	if err != nil {
		return "", err
	}
	folder := filepath.Join(root, ".build", "testkit", s.called())
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // the container's user looks in
		return "", fmt.Errorf("make the server's folder: %w", err)
	}
	unlock, err := lockFolder(folder)
	if err != nil {
		return "", err
	}
	defer unlock()
	if running, err := docker("inspect", "--format", "{{.State.Running}} {{.Config.Image}}", s.container); err != nil || running != "true "+ref {
		if err := s.run(root, folder, ref); err != nil {
			return "", err
		}
	}
	return s.ready(folder)
}

// run replaces what has the container's name.
func (s *server) run(root, folder, ref string) error {
	_, _ = docker("rm", "--force", "--volumes", s.container) // there may be none
	if err := s.write(folder); err != nil {
		return err
	}
	_, err := docker("run", "--detach", "--name", s.container, "--label", "secureconnect.testkit="+root,
		"--volume", filepath.Join(folder, "secrets")+":/run/secrets:ro",
		"--volume", filepath.Join(folder, "config")+":"+s.mount+":ro", ref)
	return err
}

func (s *server) write(folder string) error {
	secrets := filepath.Join(folder, "secrets")
	configs := filepath.Join(folder, "config")
	if err := errors.Join(os.RemoveAll(secrets), os.RemoveAll(configs), os.MkdirAll(secrets, 0o755), os.MkdirAll(configs, 0o755)); err != nil { //nolint:gosec // see above
		return fmt.Errorf("make the server's folders: %w", err)
	}
	for _, name := range s.secrets {
		password := rand.Text()
		if err := s.writeSecret(filepath.Join(secrets, name), password); err != nil {
			return err
		}
		if name == "redis_password" {
			if err := s.writeSecret(filepath.Join(secrets, "redis_auth.conf"), "requirepass "+password+"\n"); err != nil {
				return err
			}
		}
	}
	for name, content := range s.files {
		if err := os.WriteFile(filepath.Join(configs, name), []byte(content), 0o644); err != nil { //nolint:gosec // no secret in it
			return fmt.Errorf("write configuration: %w", err)
		}
	}
	return nil
}

// writeSecret gives the file to the container's user; who may not (an ordinary user) makes it readable for it.
func (s *server) writeSecret(path, content string) error {
	if err := os.WriteFile(path, []byte(content), 0o400); err != nil {
		return fmt.Errorf("write secret: %w", err)
	}
	if err := os.Chown(path, s.uid, s.uid); errors.Is(err, fs.ErrPermission) {
		return os.Chmod(path, 0o444) //nolint:gosec // a test server's password, on loopback
	}
	return nil
}

// startTime is what Cassandra needs on a busy machine.
const startTime = 4 * time.Minute

func (s *server) ready(folder string) (string, error) {
	for deadline := time.Now().Add(startTime); ; {
		_, err := docker("exec", s.container, s.health)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			logs, _ := docker("logs", "--tail", "20", s.container)
			return "", fmt.Errorf("%s is not healthy after %s: %w\n%s", s.container, startTime, err, logs)
		}
		<-time.After(200 * time.Millisecond)
	}
	// Its own address and not a published port: docker-proxy takes a part of the machine that a figure would miss.
	address, err := docker("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", s.container)
	if err != nil {
		return "", err
	}
	if net.ParseIP(address) == nil {
		return "", fmt.Errorf("%s has no address on the engine's own network, but %q", s.container, address)
	}
	secrets := map[string]string{}
	for _, name := range s.secrets {
		content, err := os.ReadFile(filepath.Join(folder, "secrets", name)) //nolint:gosec // our own folder
		if err != nil {
			return "", fmt.Errorf("read secret: %w", err)
		}
		secrets[name] = string(content)
	}
	return s.address(net.JoinHostPort(address, s.port), secrets), nil
}

func docker(arguments ...string) (string, error) {
	output, err := exec.Command("docker", arguments...).Output() //nolint:gosec // our own arguments
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return "", fmt.Errorf("docker %s: %w: %s", arguments[0], err, strings.TrimSpace(string(failed.Stderr)))
	}
	if err != nil {
		return "", fmt.Errorf("docker %s: %w", arguments[0], err)
	}
	return strings.TrimSpace(string(output)), nil
}

func imageRef(root, name string) (string, error) {
	path := filepath.Join(root, ".build", "images", "manifest.json")
	content, err := os.ReadFile(path) //nolint:gosec // our own build's file
	if err != nil {
		return "", fmt.Errorf("read the list of images: %w", err)
	}
	var manifest struct {
		Images map[string]struct {
			Ref string `json:"ref"`
		} `json:"images"`
	}
	if err := json.Unmarshal(content, &manifest); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	if manifest.Images[name].Ref == "" {
		return "", fmt.Errorf("%s names no image %q", path, name)
	}
	return manifest.Images[name].Ref, nil
}

// lockFolder keeps test processes from starting the same server at once.
func lockFolder(folder string) (unlock func(), err error) {
	file, err := os.OpenFile(filepath.Join(folder, "lock"), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // our own folder
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", folder, err), file.Close())
	}
	return func() { _ = file.Close() }, nil
}

// repository is the folder above this test that holds go.mod.
func repository() (string, error) {
	folder, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	for ; folder != filepath.Dir(folder); folder = filepath.Dir(folder) {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return folder, nil
		}
	}
	return "", errors.New("no go.mod above this folder")
}
