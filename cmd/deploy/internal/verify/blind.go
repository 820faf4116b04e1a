package verify

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"secureconnect/services/client"
	"secureconnect/services/client/e2ee"
)

// climbBlind plants words that nobody but their readers may see, and words in clear beside them, and searches what the servers hold,
// log and carry for both. A search that does not find what lies in clear proves nothing, and fails.
func climbBlind(ctx context.Context, s *site, p *proofs) {
	g := &guests{site: s}
	defer g.leave(ctx, p)
	b := &blind{talk: &talk{site: s}, secret: "verify-secret-" + random(12), clear: "verify-clear-" + random(12), began: time.Now()}
	defer b.hangUp()
	apps := s.Groups["app"]
	log := "docker compose logs chat auth on " + listing(apps)
	if !p.prove(ctx, "people", log, func(ctx context.Context) (string, error) {
		if _, err := b.meet(ctx, g, []string{apps[0], apps[len(apps)-1]}); err != nil {
			return "", err
		}
		_, err := b.makeKeys(ctx)
		return "two people have a conversation and keys", err
	}) {
		return
	}
	defer b.stopListening()
	if !p.prove(ctx, "plant", log, b.plant) {
		return
	}
	b.collect(ctx, p)
	b.overhear(ctx, p)
}

// overhear searches for what is said in a call.
func (b *blind) overhear(ctx context.Context, p *proofs) {
	o := overhear(b.talk)
	defer o.leave()
	video := "docker compose logs video on " + listing(b.Groups["app"])
	if p.prove(ctx, "call", video, o.talks) {
		p.prove(ctx, "memory of the SFU", "python3 on "+listing(b.Groups["app"]), o.searched)
	}
}

// blind is what was planted, and who listens.
type blind struct {
	*talk
	secret string // inside an encrypted message
	clear  string // the name of a group, and the body of a message that was not encrypted
	trace  string // the id of a request, which logs must have
	began  time.Time

	ears []*ear
}

//go:embed sniff.py
var sniffSource string

//go:embed search.py
var searchSource string

// listenLife bounds the listening where nobody is left to stop it.
const listenLife = 60 * time.Second

// ear counts words in the packets of one host.
type ear struct {
	host  string
	stop  func()
	ended chan struct{} // closed when it has; out and err are set before
	out   []byte
	err   error
}

// found is how often each word was seen, and in how much: bytes of files, or packets.
type found struct {
	Counts []int `json:"counts"`
	Read   int64 `json:"read"`
}

// words in the order of found.Counts.
func (b *blind) words() []string {
	return []string{b.secret, b.writer.password, b.clear, string(b.writer.tokens.SessionID), b.trace}
}

const (
	countSecret = iota
	countPassword
	countClear
	countSession
	countTrace
)

// listeners are the hosts that packets of people pass: the load balancer, the app hosts, the database.
func (b *blind) listeners() []string {
	var hosts []string
	seen := map[string]bool{}
	for _, group := range []string{"lb", "app", "db"} {
		for _, host := range b.Groups[group] {
			if !seen[host] {
				seen[host] = true
				hosts = append(hosts, host)
			}
		}
	}
	return hosts
}

// plant listens while it writes.
func (b *blind) plant(ctx context.Context) (string, error) {
	for _, host := range b.listeners() {
		if err := b.listen(ctx, host); err != nil {
			return "", err
		}
	}
	if _, err := b.writing.Say(ctx, b.with, e2ee.Content{Kind: e2ee.KindText, Text: b.secret}); err != nil {
		return "", b.writer.unsent(err)
	}
	b.said = append(b.said, b.secret)
	if err := b.shows(ctx, b.reading); err != nil {
		return "", err
	}
	group, _, err := b.writer.api.CreateConversation(ctx, b.writer.tokens.AccessToken, client.ConversationRequest{
		Kind: "group", ClientID: newMessageID(), Name: b.clear,
	})
	if err != nil {
		return "", b.writer.explain("make a group", err)
	}
	_, got, err := b.writer.api.Send(ctx, b.writer.tokens.AccessToken, group.ID, client.Message{ClientID: newMessageID(), Body: b.clear})
	if err != nil {
		return "", b.writer.explain("send in clear", err)
	}
	b.trace = got.RequestID
	b.stopListening()
	return "an encrypted message was written and read, and words in clear beside it", nil
}

// listen starts an ear and returns when it hears.
func (b *blind) listen(ctx context.Context, host string) error {
	// A pipe of the system's: with one of Go's own, the end of a program that never reads is not noticed.
	input, keep, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	e := &ear{host: host, stop: sync.OnceFunc(func() { _ = keep.Close() }), ended: make(chan struct{})}
	b.ears = append(b.ears, e)
	ready := "/run/secureconnect-verify-" + random(6)
	words, err := json.Marshal(b.words()[:countTrace])
	if err != nil {
		return fmt.Errorf("write words: %w", err)
	}
	if _, err := keep.Write(append(words, '\n')); err != nil {
		return fmt.Errorf("write words: %w", err)
	}
	go func() {
		defer close(e.ended)
		defer func() { _ = input.Close() }()
		// Listening outlasts the check that starts it.
		e.out, e.err = b.shell.Run(context.WithoutCancel(ctx), host, input, "python3", "-c", sniffSource, ready, fmt.Sprintf("%.0f", listenLife.Seconds()))
	}()
	for {
		if _, err := b.shell.Run(ctx, host, nil, "test", "-e", ready); err == nil {
			return nil
		}
		select {
		case <-e.ended:
			return fail("python3 on "+host, "packets on %s cannot be listened to: %v", host, e.err)
		case <-ctx.Done():
			return fail("python3 on "+host, "packets on %s are not listened to in time", host)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (b *blind) stopListening() {
	for _, e := range b.ears {
		e.stop()
	}
	for _, e := range b.ears {
		<-e.ended
	}
}

// collect searches each place for what must be there and what must not.
func (b *blind) collect(ctx context.Context, p *proofs) {
	const volumes, containers, logs = "/var/lib/docker/volumes/", "/var/lib/docker/containers", "/var/log"
	db := b.first("db")
	p.prove(ctx, "flush", "docker compose logs cassandra on "+db, func(ctx context.Context) (string, error) {
		_, err := b.shell.Run(ctx, db, nil, b.compose("db", "exec", "-T", "cassandra", "nodetool", "flush", "secureconnect")...)
		return "Cassandra has written what it held in memory", err
	})
	var steps []step
	place := func(name, host string, control int, folders ...string) {
		steps = append(steps, step{name, "services, and docker compose ps on " + host, func(ctx context.Context) (string, error) {
			got, err := b.search(ctx, host, folders...)
			if err != nil {
				return "", err
			}
			return b.judge(got, control, true, fmt.Sprintf("%.1f MB of it", float64(got.Read)/1e6))
		}})
	}
	place("PostgreSQL or CockroachDB on "+db, db, countClear, volumes+"db_sql_data")
	place("Cassandra on "+db, db, countClear, volumes+"db_cassandra_data")
	place("Redis on "+db, db, countSession, volumes+"db_redis_data")
	place("logs of "+b.writer.host, b.writer.host, countTrace, containers, logs)
	place("logs of "+b.first("lb"), b.first("lb"), countTrace, containers, logs)
	for _, e := range b.ears {
		steps = append(steps, step{"packets of " + e.host, "python3 on " + e.host, func(context.Context) (string, error) {
			var got found
			if e.err != nil {
				return "", fmt.Errorf("listen on %s: %w", e.host, e.err)
			}
			if err := json.Unmarshal(e.out, &got); err != nil {
				return "", fmt.Errorf("read what was heard on %s: %w", e.host, err)
			}
			return b.judge(got, countClear, false, fmt.Sprintf("%d packets", got.Read))
		}})
	}
	p.together(ctx, steps...)
}

// search counts the words in what was written on a host since the rung began.
func (b *blind) search(ctx context.Context, host string, folders ...string) (found, error) {
	words, err := json.Marshal(b.words())
	if err != nil {
		return found{}, fmt.Errorf("write words: %w", err)
	}
	lately := time.Since(b.began) + time.Minute // clocks differ
	argv := append([]string{"python3", "-c", searchSource, fmt.Sprintf("%.0f", lately.Seconds())}, folders...)
	out, err := b.shell.Run(ctx, host, bytes.NewReader(words), argv...)
	if err != nil {
		return found{}, fmt.Errorf("search on %s: %w", host, err)
	}
	var got found
	if err := json.Unmarshal(out, &got); err != nil {
		return found{}, fmt.Errorf("read what was found on %s: %w", host, err)
	}
	return got, nil
}

// judge wants the control found and the secrets not. Passwords pass in clear between load balancer and app hosts, so packets are not
// searched for them.
func (b *blind) judge(got found, control int, password bool, searched string) (string, error) {
	var wrong []error
	if len(got.Counts) <= control {
		return "", fail("cmd/deploy/internal/verify", "the search tells of %d words", len(got.Counts))
	}
	if got.Counts[countSecret] > 0 {
		wrong = append(wrong, fail("services/client/e2ee", "what was written in an encrypted message is there in clear, %d times", got.Counts[countSecret]))
	}
	if password && got.Counts[countPassword] > 0 {
		wrong = append(wrong, fail("services/auth", "a person's password is there in clear, %d times", got.Counts[countPassword]))
	}
	if got.Counts[control] == 0 {
		wrong = append(wrong, fail("", "the search finds not even what lies in clear there, so it proves nothing (%s searched)", searched))
	}
	if len(wrong) > 0 {
		return "", errors.Join(wrong...)
	}
	also := strings.TrimSuffix(map[bool]string{true: " and no password,"}[password], ",")
	return fmt.Sprintf("no word of the encrypted message%s in %s; what was in clear is there %d times", also, searched, got.Counts[control]), nil
}
