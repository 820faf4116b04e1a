package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/config"
)

const (
	minPassword = 8    // characters
	maxPassword = 1024 // bytes
)

// checkNewPassword asks for length and nothing else (NIST SP 800-63B §3.1.1).
func checkNewPassword(password config.Secret, username string) error {
	text := password.Reveal()
	switch {
	case utf8.RuneCountInString(text) < minPassword:
		return weak("The password needs at least 8 characters.")
	case len(text) > maxPassword:
		return weak("The password is longer than 1024 bytes.")
	case strings.EqualFold(text, username):
		return weak("The password must not be the username.")
	case strings.Count(text, text[:1]) == len(text):
		return weak("The password must not be one character repeated.")
	}
	return nil
}

func weak(text string) error {
	return apperr.E("auth.checkNewPassword", apperr.Invalid, text, nil, apperr.Code("weak_password"))
}

// cost is what argon2id (RFC 9106) spends on one password; OWASP's smallest advice is 19 MiB, 2, 1.
type cost struct {
	memory  uint32 // KiB
	passes  uint32
	threads uint8
}

var currentCost = cost{memory: 19 << 10, passes: 2, threads: 1}

const (
	saltBytes = 16
	hashBytes = 32

	// maxCost bounds what a stored hash can make us spend, in KiB.
	maxCost = 256 << 10

	// maxWaiting requests wait for a slot; more are told to come back, or memory would have no bound.
	maxWaiting = 64

	// idleBeforeReturn is the quiet after which the memory of hashing goes back to the system.
	idleBeforeReturn = 5 * time.Second
)

// hasher hashes passwords, few at a time: that bounds memory, and its queue is what slows a flood of logins down.
type hasher struct {
	cost    cost
	slots   chan struct{}
	waiting atomic.Int64
	idle    *time.Timer
	absent  string // a hash no password has, checked where there is no user
}

func newHasher(c cost) *hasher {
	h := &hasher{cost: c, slots: make(chan struct{}, min(runtime.GOMAXPROCS(0), 4))}
	h.absent = encodeHash(c, randomBytes(saltBytes), randomBytes(hashBytes))
	h.idle = time.AfterFunc(math.MaxInt64, debug.FreeOSMemory)
	return h
}

// close stops what runs after the last hash.
func (h *hasher) close() { h.idle.Stop() }

// hash makes the text to store for password.
func (h *hasher) hash(ctx context.Context, password config.Secret) (string, error) {
	leave, err := h.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	salt := randomBytes(saltBytes)
	return encodeHash(h.cost, salt, h.cost.derive(password, salt, hashBytes)), nil
}

// matches compares in constant time. Where stored is "" it does the same work for nothing.
func (h *hasher) matches(ctx context.Context, password config.Secret, stored string) (bool, error) {
	leave, err := h.enter(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	known := stored != ""
	if !known {
		stored = h.absent
	}
	c, salt, want, err := decodeHash(stored)
	if err != nil {
		return false, err
	}
	got := c.derive(password, salt, uint32(len(want))) //nolint:gosec // decodeHash bounds it
	return subtle.ConstantTimeCompare(got, want) == 1 && known, nil
}

// outdated reports whether stored was made at another cost than today's.
func (h *hasher) outdated(stored string) bool {
	c, _, _, err := decodeHash(stored)
	return err != nil || c != h.cost
}

func (h *hasher) enter(ctx context.Context) (leave func(), err error) {
	defer h.waiting.Add(-1)
	if h.waiting.Add(1) > maxWaiting {
		return nil, busy(nil)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	select {
	case h.slots <- struct{}{}:
		return func() {
			<-h.slots
			h.idle.Reset(idleBeforeReturn)
		}, nil
	case <-ctx.Done():
		return nil, busy(ctx.Err())
	}
}

func busy(cause error) error {
	return apperr.E("auth.hasher", apperr.TooMany, "Many people are logging in. Try again in a moment.", cause,
		apperr.Code("busy"), apperr.RetryAfter(2*time.Second))
}

func (c cost) derive(password config.Secret, salt []byte, length uint32) []byte {
	return argon2.IDKey([]byte(password.Reveal()), salt, c.passes, c.memory, c.threads, length)
}

// encodeHash writes the PHC string format.
func encodeHash(c cost, salt, hash []byte) string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.memory, c.passes, c.threads,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(hash))
}

var errHash = errors.New("stored password hash is malformed")

func decodeHash(stored string) (c cost, salt, hash []byte, err error) {
	parts := strings.Split(stored, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return c, nil, nil, errHash
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &c.memory, &c.passes, &c.threads); err != nil {
		return c, nil, nil, errHash
	}
	salt, saltErr := base64.RawStdEncoding.DecodeString(parts[4])
	hash, hashErr := base64.RawStdEncoding.DecodeString(parts[5])
	if saltErr != nil || hashErr != nil || len(salt) < 8 || len(hash) < 16 || len(hash) > 64 ||
		c.memory > maxCost || c.passes < 1 || c.passes > 16 || c.threads < 1 {
		return c, nil, nil, errHash
	}
	return c, salt, hash, nil
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails (crypto/rand)
	return b
}
