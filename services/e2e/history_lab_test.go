//go:build lab

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"secureconnect/services/client"
)

// TestHistory harms a lab for HISTORY_MINUTES with each of HISTORY_SEEDS: the running one of `make lab` when HISTORY_OF is "lab", a
// fresh one of the name otherwise.
func TestHistory(t *testing.T) {
	var s *system
	switch name := os.Getenv("HISTORY_OF"); name {
	case "":
		return
	case "lab":
		s = &system{root: repository(t), name: name, prefix: "10.89.0", hosts: []string{"lb-01", "app-01", "app-02", "db-01", "storage-01"}}
	default:
		s = newSystem(t, name, "lab", "10.92.0", "lb-01", "app-01", "app-02", "db-01", "storage-01")
		s.mustDeploy(t, "apply", "-i", s.name)
	}
	for _, seed := range historySeeds(t) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { keepsHistory(t, s, seed) })
	}
}

func keepsHistoryUnderFaults(t *testing.T, s *system) { keepsHistory(t, s, historySeeds(t)[0]) }

func historySeeds(t *testing.T) (seeds []uint64) {
	t.Helper()
	for _, word := range strings.Fields(valueOr(os.Getenv("HISTORY_SEEDS"), "1")) {
		seed, err := strconv.ParseUint(word, 10, 64)
		if err != nil {
			t.Fatalf("HISTORY_SEEDS: %v", err)
		}
		seeds = append(seeds, seed)
	}
	return seeds
}

// historyLength is what was asked for, five minutes by default, or what the test's deadline leaves.
func historyLength(t *testing.T) time.Duration {
	t.Helper()
	minutes, err := strconv.ParseFloat(valueOr(os.Getenv("HISTORY_MINUTES"), "5"), 64)
	if err != nil {
		t.Fatalf("HISTORY_MINUTES: %v", err)
	}
	length := time.Duration(minutes * float64(time.Minute))
	const reserve = 20 * time.Minute // for what comes after
	if deadline, set := t.Deadline(); set {
		length = max(time.Minute, min(length, time.Until(deadline)-reserve))
	}
	return length
}

const (
	crowdRate  = 30 // messages a second
	answerTime = 2 * time.Minute
	settleTime = 2 * time.Minute
)

// keepsHistory lets a crowd write to each other while a series of faults goes by, and judges what they were told.
func keepsHistory(t *testing.T, s *system, seed uint64) {
	length := historyLength(t)
	record, name := s.recordHistory(t, seed)
	c := newCrowd(t, record, s.newAccounts(t, 6))
	ctx, cancel := context.WithCancel(t.Context())
	defer c.living.Wait()
	defer cancel()
	t.Logf("seed %d, %s, into %s", seed, length, name)
	c.start(ctx, crowdRate)
	s.harm(t, series(seed, length, harmsOf(s.prefix, s.node)), length)
	c.hush(answerTime)
	c.settle(ctx, settleTime)

	history, err := record.close()
	if err != nil {
		t.Error(err)
	}
	v := judge(history)
	v.report(t)
	t.Logf("seed %d: %v; %v", seed, v, c.oddities())
	if v.acknowledged < int(length.Seconds()) {
		t.Errorf("only %d messages were acknowledged in %s", v.acknowledged, length)
	}
	cancel()
	c.living.Wait()
	s.provesItself(t)
}

// provesItself wants a green ladder, some time after a crowd has used up what one address may ask for.
func (s *system) provesItself(t *testing.T) {
	t.Helper()
	for try := range attempts {
		r := s.deploy(t, "verify", "-i", s.name)
		if r.code == 0 {
			return
		}
		t.Logf("verify: exit %d\n%s", r.code, failures(r.stdout))
		if try < attempts-1 {
			rest(t.Context(), time.Minute)
		}
	}
	t.Error("verify is not green after the faults")
}

// failures are the lines of a ladder that tell what is wrong.
func failures(ladder string) string {
	var wrong []string
	for line := range strings.Lines(ladder) {
		if strings.Contains(line, "FAIL") {
			wrong = append(wrong, line)
		}
	}
	return strings.Join(wrong, "")
}

// recordHistory opens the file of a run.
func (s *system) recordHistory(t *testing.T, seed uint64) (*recorder, string) {
	t.Helper()
	name := filepath.Join(s.root, ".build/history", fmt.Sprintf("%s-seed-%d-%s.jsonl", s.name, seed, time.Now().UTC().Format("20060102T150405Z")))
	if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return newRecorder(file), name
}

// newAccounts makes people, each of whom comes in by either app host.
func (s *system) newAccounts(t *testing.T, n int) (accounts []account) {
	t.Helper()
	for range n {
		p := s.newPerson(t, "app-01")
		other, err := client.New(client.Options{
			BaseURL: "https://api.secureconnect.com", Dial: client.DialTo(s.prefix + ".10"), RootCAs: s.roots(t), PreferHost: "app-02",
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(other.Close)
		accounts = append(accounts, account{p.name, p.password, [2]*client.Client{p.client, other}})
	}
	return accounts
}

// harm carries a series out, one fault after the other, until so much time has passed. A fault that could not begin is told, and ended.
func (s *system) harm(t *testing.T, plan []fault, length time.Duration) {
	t.Helper()
	began := time.Now()
	for _, f := range plan {
		rest(t.Context(), time.Until(began.Add(f.at)))
		at := time.Since(began)
		r := s.harmOnce(t, f)
		t.Logf("%v; began at %.1f s, took %.1f s", f, at.Seconds(), r.took.Seconds())
		if r.code != 0 {
			t.Logf("exit %d: %s%s", r.code, tail(r.stdout, 5), tail(r.stderr, 5))
		}
	}
	rest(t.Context(), time.Until(began.Add(length)))
}

func (s *system) harmOnce(t *testing.T, f fault) result {
	t.Helper()
	if f.host == "" {
		return s.run(t, nil, "sh", "-c", f.script())
	}
	return s.on(t, f.host, "sh", "-c", f.script())
}
