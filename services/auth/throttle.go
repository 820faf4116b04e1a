package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"time"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/ratelimit"
)

// Every attempt takes from buckets before the password is looked at, and a right password puts it back: so only
// failures count, and attempts sent at the same time cannot slip past.
//
// No bucket that others can empty stands between a person and an address that person has logged in from: the bucket
// of a name is for strange addresses only. There it slows guessing by many machines down to one try in five seconds.
var (
	ruleAddress  = ratelimit.Rule{Burst: 60, Every: 2 * time.Second}
	rulePair     = ratelimit.Rule{Burst: 10, Every: 10 * time.Second}
	ruleName     = ratelimit.Rule{Burst: 20, Every: 5 * time.Second}
	ruleRegister = ratelimit.Rule{Burst: 50, Every: 10 * time.Second}
	ruleConfirm  = ratelimit.Rule{Burst: 10, Every: 10 * time.Second}
)

type throttle struct {
	limiter *ratelimit.Limiter
}

type refund func(context.Context)

// login takes an attempt for this name from this address, and one from this address for any name.
func (t *throttle) login(ctx context.Context, username, address string) (refund, error) {
	from := addressClass(address)
	return t.take(ctx,
		ratelimit.Bucket{Key: "login:address:" + from, Rule: ruleAddress},
		ratelimit.Bucket{Key: "login:pair:" + short(username) + ":" + from, Rule: rulePair})
}

// name takes an attempt for this name from anywhere, unless the address is one the name has logged in from.
func (t *throttle) name(ctx context.Context, username string, addressKnown bool) (refund, error) {
	if addressKnown {
		return func(context.Context) {}, nil
	}
	return t.take(ctx, ratelimit.Bucket{Key: "login:name:" + short(username), Rule: ruleName})
}

// register takes a new account, or a try at an invite, from this address.
func (t *throttle) register(ctx context.Context, address string) error {
	_, err := t.take(ctx, ratelimit.Bucket{Key: "register:address:" + addressClass(address), Rule: ruleRegister})
	return err
}

// confirm takes a try at the password inside a session: a stolen access token does not guess at leisure.
func (t *throttle) confirm(ctx context.Context, session string) (refund, error) {
	return t.take(ctx, ratelimit.Bucket{Key: "confirm:session:" + session, Rule: ruleConfirm})
}

func (t *throttle) take(ctx context.Context, buckets ...ratelimit.Bucket) (refund, error) {
	verdict := t.limiter.Take(ctx, buckets...)
	if !verdict.Allowed {
		return nil, apperr.E("auth.throttle", apperr.TooMany, "Too many attempts. Try again later.", nil,
			apperr.Code("too_many_attempts"), apperr.RetryAfter(verdict.Wait))
	}
	return func(ctx context.Context) { t.limiter.Refund(ctx, buckets...) }, nil
}

// addressClass is what counts as one address: IPv6 gives everybody 2^64 of them.
func addressClass(address string) string {
	parsed, err := netip.ParseAddr(address)
	if err != nil {
		return "unknown"
	}
	if parsed = parsed.Unmap(); parsed.Is4() {
		return parsed.String()
	}
	prefix, err := parsed.WithZone("").Prefix(64)
	if err != nil {
		return "unknown"
	}
	return prefix.String()
}

// short keeps what people type, perhaps a password by mistake, and its length out of the limiter's keys.
func short(username string) string {
	sum := sha256.Sum256([]byte(username))
	return hex.EncodeToString(sum[:12])
}
