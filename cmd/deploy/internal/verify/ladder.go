// Package verify proves a deployment from outside, as its users and its attackers would meet it.
//
// It reads, it makes accounts that it removes, and it sets traps that it takes away; it repairs nothing.
package verify

import (
	"context"
	"io"
	"slices"
	"strconv"
	"time"

	"secureconnect/cmd/deploy/internal/inventory"
	"secureconnect/cmd/deploy/internal/remote"
)

// Shell runs a command on a host of the inventory and returns what it printed.
type Shell interface {
	Run(ctx context.Context, host string, stdin io.Reader, argv ...string) ([]byte, error)
}

// Options say how much of the ladder to climb and where to tell about it.
type Options struct {
	// Only holds names or numbers of rungs; empty means all.
	Only []string
	// Timeout bounds the whole ladder; zero means a minute.
	Timeout time.Duration
	// Out hears every check as it is proved; nil is silence.
	Out io.Writer
	// Root is the repository, where ansible-vault is found; empty means the description's.
	Root string
	// VaultPasswordFile opens an encrypted secrets file; empty leaves it to Ansible's configuration.
	VaultPasswordFile string
	// Shell reaches the hosts; nil means ssh.
	Shell Shell
}

// rung is one step of the ladder. Rungs overlap; one that names another in after waits for it.
type rung struct {
	number  int
	name    string
	promise string
	after   string
	climb   func(context.Context, *site, *proofs)
}

var ladder = []rung{
	{1, "edges", "what the public names answer", "", climbEdges},
	{2, "ports", "what is closed, and to whom", "", climbPorts},
	{3, "login", "a person's session on every app host", "edges", climbLogin},
	{4, "authorization", "what is closed to nobody, to who has left, and to outsiders", "login", climbAuthorization},
	{5, "chat", "encrypted messages between two people on two app hosts", "login", climbChat},
	{7, "call", "a call between two people on two app hosts, relayed by coturn", "login", climbCall},
	{8, "blind", "what the servers hold, log and carry of a conversation", "chat", climbBlind},
}

// checkTimeout bounds one check, so that a silent host costs one line and not the ladder.
const checkTimeout = 15 * time.Second

// proofs takes the checks of one rung in the order they were made.
type proofs struct {
	rung string
	made chan<- Check
}

// step is one thing to prove; look is where to look when the error itself does not know.
type step struct {
	name  string
	look  string
	proof func(context.Context) (string, error)
}

// prove runs one check, reports it, and says whether it held.
func (p *proofs) prove(ctx context.Context, name, look string, proof func(context.Context) (string, error)) bool {
	return p.together(ctx, step{name, look, proof})
}

// together runs independent checks side by side and reports them in the order given.
func (p *proofs) together(ctx context.Context, steps ...step) bool {
	results := make([]chan []Check, len(steps))
	for i, one := range steps {
		results[i] = make(chan []Check, 1)
		go func() { results[i] <- one.run(ctx) }()
	}
	held := true
	for _, result := range results {
		for _, check := range <-result {
			check.Rung = p.rung
			held = held && check.Status != Failed
			p.made <- check
		}
	}
	return held
}

func (s step) run(ctx context.Context) []Check {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	began := time.Now()
	proved, err := s.proof(ctx)
	return verdict(s.name, s.look, proved, err, time.Since(began))
}

// Run climbs the ladder and returns what it found. An error means that it could not be climbed at all;
// a deployment that does not hold is a Report that has not passed.
func Run(ctx context.Context, desc *inventory.Description, opt Options) (Report, error) {
	rungs, err := chosen(opt.Only)
	if err != nil {
		return Report{}, err
	}
	if opt.Timeout == 0 {
		opt.Timeout = time.Minute
	}
	if opt.Out == nil {
		opt.Out = io.Discard
	}
	if opt.Shell == nil {
		ssh, err := remote.New(desc)
		if err != nil {
			return Report{}, err
		}
		defer func() { _ = ssh.Close() }()
		opt.Shell = ssh
	}
	s, err := survey(desc, opt)
	if err != nil {
		return Report{}, err
	}
	bounded, cancel := context.WithTimeout(ctx, opt.Timeout)
	defer cancel()
	report := climb(bounded, s, rungs, opt.Out)
	report.Inventory = desc.Name
	return report, ctx.Err()
}

// chosen are the rungs that only asks for, by name or number, in the ladder's order.
func chosen(only []string) ([]rung, error) {
	if len(only) == 0 {
		return ladder, nil
	}
	for _, want := range only {
		if !slices.ContainsFunc(ladder, func(r rung) bool { return r.answersTo(want) }) {
			return nil, fail("deploy verify --help", "there is no rung %q; the ladder has %s", want, rungNames())
		}
	}
	return slices.DeleteFunc(slices.Clone(ladder), func(r rung) bool {
		return !slices.ContainsFunc(only, r.answersTo)
	}), nil
}

func (r rung) answersTo(name string) bool { return name == r.name || name == strconv.Itoa(r.number) }

func rungNames() string {
	names := ""
	for i, r := range ladder {
		if i > 0 {
			names += ", "
		}
		names += strconv.Itoa(r.number) + " " + r.name
	}
	return names
}

// climb starts every rung as early as it may and tells their checks in order.
func climb(ctx context.Context, s *site, rungs []rung, out io.Writer) Report {
	report := Report{Started: time.Now(), Passed: true}
	tell := narrator{out: out}
	streams := start(ctx, s, rungs)
	for i, r := range rungs {
		tell.begin(r.number, r.name, r.promise)
		for check := range streams[i] {
			tell.tell(check)
			report.Checks = append(report.Checks, check)
			report.Passed = report.Passed && check.Status != Failed
		}
	}
	report.Millis = time.Since(report.Started).Milliseconds()
	tell.end(report)
	return report
}

// start climbs each rung in a goroutine of its own. Its stream is closed when it is done, and climb reads
// every stream to its end, so nothing is left running. A full stream makes its rung wait for its turn.
func start(ctx context.Context, s *site, rungs []rung) []chan Check {
	done := map[string]chan struct{}{}
	for _, r := range rungs {
		done[r.name] = make(chan struct{})
	}
	streams := make([]chan Check, len(rungs))
	for i, r := range rungs {
		stream := make(chan Check, 256)
		streams[i] = stream
		go func() {
			defer close(stream)
			defer close(done[r.name])
			if first, ok := done[r.after]; ok {
				<-first
			}
			r.climb(ctx, s, &proofs{rung: r.name, made: stream})
		}()
	}
	return streams
}
