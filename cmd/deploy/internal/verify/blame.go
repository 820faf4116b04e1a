package verify

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"secureconnect/services/client/calls"
)

// blame finds out why coturn refuses a credential that the API has just given: two clocks are apart, or two secrets differ.
func (r *relay) blame(ctx context.Context, refused *refusedTURN) error {
	storage := r.first("storage")
	clocks, err := r.clocks(ctx, r.issued.host, storage)
	if err != nil {
		return err
	}
	if ends, known := r.issued.ends(); known && !ends.After(time.Now().Add(clocks[storage])) {
		return r.blameClock(ends, clocks, storage)
	}
	secret, err := r.turnSecret(ctx)
	if err != nil {
		return fail("secrets_file", "coturn refuses a credential that video on %s made (401); whose secret is wrong cannot be told, as %v", r.issued.host, err)
	}
	// The clock of coturn's host counts, whatever this machine's says.
	ours := credentialFor(secret, "verify-"+random(6), time.Now().Add(clocks[storage]+10*time.Minute))
	a, err := r.allocate(ctx, calls.OverUDP, ours)
	if err == nil {
		a.close()
		return fail("turn_secret in secrets_file, and TURN_SECRET_FILE of video on "+r.issued.host+" (deploy apply)",
			"coturn takes credentials made with turn_secret of %s, and refuses the API's (401): video on %s has another secret", r.SecretsFile, r.issued.host)
	}
	if r.issued.madeWith(secret) {
		return fail("turn_secret in secrets_file, and the secrets of coturn on "+storage+" (deploy apply)",
			"video on %s makes credentials with turn_secret of %s, and coturn on %s refuses them (401): it has another secret", r.issued.host, r.SecretsFile, storage)
	}
	return fail("secrets_file, and turn_secret in it",
		"coturn on %s refuses credentials made with turn_secret of %s (401), and video on %s has another one: this is not the file that was deployed", storage, r.SecretsFile, r.issued.host)
}

func (r *relay) blameClock(ends time.Time, clocks map[string]time.Duration, storage string) error {
	apart := (clocks[storage] - clocks[r.issued.host]).Round(time.Second)
	off, by := storage, clocks[storage]
	if clocks[r.issued.host].Abs() > by.Abs() {
		off, by = r.issued.host, clocks[r.issued.host]
	}
	if by.Abs() < time.Minute {
		return fail("TURN_LIFE of video on "+r.issued.host, "the credential that the API gave ended at %s, before it was used", ends.UTC().Format(time.TimeOnly))
	}
	return fail("timedatectl on "+off+" (the clocks of all hosts must agree: systemd-timesyncd or chrony)",
		"coturn refuses the API's credential as expired (401): the clock of %s is off by %s s; the clocks of %s and %s are %s s apart",
		off, signed(by), r.issued.host, storage, signed(apart))
}

func signed(d time.Duration) string { return fmt.Sprintf("%+.0f", d.Seconds()) }

// clocks are how far hosts are ahead of this machine, as well as a round trip lets tell.
func (s *site) clocks(ctx context.Context, hosts ...string) (map[string]time.Duration, error) {
	ahead := make([]time.Duration, len(hosts))
	var asking errgroup.Group
	for i, host := range hosts {
		asking.Go(func() error {
			began := time.Now()
			out, err := s.shell.Run(ctx, host, nil, "date", "+%s.%N")
			if err != nil {
				return fmt.Errorf("read the clock of %s: %w", host, err)
			}
			seconds, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
			if err != nil {
				return fmt.Errorf("read the clock of %s: %w", host, err)
			}
			middle := began.Add(time.Since(began) / 2)
			ahead[i] = time.Unix(0, int64(seconds*1e9)).Sub(middle)
			return nil
		})
	}
	err := asking.Wait()
	told := map[string]time.Duration{}
	for i, host := range hosts {
		told[host] = ahead[i]
	}
	return told, err
}

// ends is when the credential does, as its user name says it.
func (c credential) ends() (time.Time, bool) {
	seconds, err := strconv.ParseInt(strings.SplitN(c.username, ":", 2)[0], 10, 64)
	return time.Unix(seconds, 0), err == nil
}

// madeWith reports whether a secret makes this credential.
func (c credential) madeWith(secret turnSecret) bool {
	ends, user, found := strings.Cut(c.username, ":")
	seconds, err := strconv.ParseInt(ends, 10, 64)
	return found && err == nil && credentialFor(secret, user, time.Unix(seconds, 0)) == c
}
