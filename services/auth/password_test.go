package auth

import (
	"context"
	"sync"
	"testing"
	"time"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/config"
	"secureconnect/services/internal/testkit"
)

func TestHasher(t *testing.T) {
	h := newHasher(currentCost)
	t.Cleanup(h.close)
	secret := config.NewSecret(password)
	stored, err := h.hash(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	again, err := h.hash(t.Context(), secret)
	if err != nil || stored == again {
		t.Errorf("two hashes of a password are the same: %v", err)
	}
	if c, _, _, err := decodeHash(stored); err != nil || c.memory < 19<<10 || c.passes < 2 {
		t.Errorf("got %+v, %v", c, err)
	}
	for name, c := range map[string]struct {
		secret, stored string
		want           bool
	}{
		"right":      {password, stored, true},
		"wrong":      {password + "!", stored, false},
		"empty":      {"", stored, false},
		"of_nobody":  {password, "", false},
		"empty_none": {"", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := h.matches(t.Context(), config.NewSecret(c.secret), c.stored)
			if err != nil || got != c.want {
				t.Errorf("got %t, %v", got, err)
			}
		})
	}
	if h.outdated(stored) || !h.outdated(encodeHash(cheap, randomBytes(16), randomBytes(32))) {
		t.Error("outdated is wrong about a hash")
	}
}

func TestNobodyCostsAsMuchAsSomebody(t *testing.T) {
	h := newHasher(cheap)
	t.Cleanup(h.close)
	stored, err := h.hash(t.Context(), config.NewSecret(password))
	if err != nil {
		t.Fatal(err)
	}
	of := func(stored string) cost {
		c, salt, hash, err := decodeHash(stored)
		if err != nil || len(salt) != saltBytes || len(hash) != hashBytes {
			t.Fatalf("malformed: %v", err)
		}
		return c
	}
	if of(h.absent) != of(stored) {
		t.Error("an unknown name costs less or more than a wrong password")
	}
}

func TestDecodeHashRefuses(t *testing.T) {
	good := encodeHash(cheap, randomBytes(16), randomBytes(32))
	if _, _, _, err := decodeHash(good); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		"", "$", "plain", "$argon2i" + good[9:], good + "$x", good[:len(good)-30],
		"$argon2id$v=19$m=4294967295,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=64,t=0,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
	} {
		if _, _, _, err := decodeHash(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestHasherBoundsItsQueue(t *testing.T) {
	h := newHasher(cheap)
	t.Cleanup(h.close)
	for range cap(h.slots) {
		h.slots <- struct{}{}
	}
	ctx, leave := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	for range maxWaiting {
		waiting.Go(func() { _, _ = h.hash(ctx, config.NewSecret(password)) })
	}
	testkit.Eventually(t, 10*time.Second, "a full queue", func() bool { return h.waiting.Load() == maxWaiting })
	_, err := h.hash(t.Context(), config.NewSecret(password))
	if !apperr.Is(err, apperr.TooMany) || apperr.RetryAfterOf(err) == 0 {
		t.Errorf("one too many got %v", err)
	}
	leave()
	waiting.Wait()
}
