package main

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"secureconnect/cmd/deploy/internal/exit"
	"secureconnect/cmd/deploy/internal/inventory"
	"secureconnect/cmd/deploy/internal/lock"
	"secureconnect/cmd/deploy/internal/plan"
	"secureconnect/cmd/deploy/internal/remote"
	"secureconnect/cmd/deploy/internal/report"
	"secureconnect/cmd/deploy/internal/run"
)

// running is a job at work.
type running struct {
	job    *job
	folder *run.Folder
	report report.Report
	tally  *report.Tally
	began  time.Time

	locked atomic.Bool // the playbook has taken the lock

	learnOnce sync.Once
	learned   chan struct{}
	known     deployment
	err       error
}

// deployment is the described inventory and the way to its hosts.
type deployment struct {
	description *inventory.Description
	shell       *remote.Remote
	lock        *lock.Lock
}

// identity is how the lock knows this run: by its folder, and alive as long as this process.
func identity(folder *run.Folder, j *job) plan.Identity {
	return plan.Identity{ID: folder.ID, PID: os.Getpid(), What: "deploy " + j.verb + " -i " + j.name}
}

// carryOut runs the steps a verb plans, keeps the record, and shows how it ended.
func (a *app) carryOut(ctx context.Context, j *job, steps func(plan.Options) []plan.Step, asJSON bool) error {
	began := time.Now()
	folder, err := run.NewFolder(j.root, j.verb, j.name, began)
	if err != nil {
		return err
	}
	j.options.Run = identity(folder, j)
	r := &running{
		job: j, folder: folder, began: began,
		report:  report.For(a.stdout, asJSON, report.ReadVariables(j.root)),
		tally:   report.NewTally(),
		learned: make(chan struct{}),
	}
	defer r.close()
	if j.verb == "apply" {
		r.learn(ctx) // beside the first steps: the lock's heartbeat and verify need it
	}

	for _, step := range steps(j.options) {
		if err = r.step(ctx, step); err != nil {
			break
		}
	}
	return r.conclude(ctx, err)
}

// learn asks Ansible about the inventory, once, beside the run: it takes seconds, and what cannot be
// learned is for the playbook's own checks to explain.
func (r *running) learn(ctx context.Context) {
	r.learnOnce.Do(func() {
		// Not cancelled with the run, since giving the lock back needs it.
		ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		go func() {
			defer close(r.learned)
			defer stop()
			r.known, r.err = learn(ctx, r.job)
		}()
	})
}

func learn(ctx context.Context, j *job) (deployment, error) {
	description, err := inventory.Load(ctx, j.root, j.options.Inventory)
	if err != nil {
		return deployment{}, exit.With(exit.Preflight, err)
	}
	shell, err := remote.New(description)
	if err != nil {
		return deployment{}, err
	}
	l, err := lockOf(description, shell)
	return deployment{description: description, shell: shell, lock: l}, err
}

// deployment waits for what is being learned.
func (r *running) deployment(ctx context.Context) (deployment, error) {
	r.learn(ctx)
	select {
	case <-r.learned:
		return r.known, r.err
	case <-ctx.Done():
		return deployment{}, ctx.Err()
	}
}

func (r *running) close() {
	r.learnOnce.Do(func() { close(r.learned) }) // nobody wanted to know
	<-r.learned
	if r.known.shell != nil {
		_ = r.known.shell.Close() // what is left of ssh's connections ends by itself within a minute
	}
}

// playbook runs Ansible, with a sign of life for the lock meanwhile, and leaves no lock behind
// however it ends.
func (r *running) playbook(ctx context.Context, step plan.Step) error {
	beating, stop := context.WithCancel(ctx)
	var heart sync.WaitGroup
	err := run.Run(ctx, r.folder, r.job.root, step.Command, func(event run.Event) {
		r.tally.Note(event)
		r.report.Hear(event)
		if event.Action == "lock" && event.Status == "ok" && !r.locked.Swap(true) {
			heart.Go(func() { r.keepLock(beating) })
		}
	})
	stop()
	heart.Wait()
	if err != nil && r.locked.Load() {
		r.releaseLock(ctx)
	}
	return err
}

func (r *running) keepLock(ctx context.Context) {
	known, err := r.deployment(ctx)
	if err != nil {
		return // whoever needs the description will say why there is none
	}
	beat := time.NewTicker(lock.Beat)
	defer beat.Stop()
	known.lock.KeepAlive(ctx, r.folder.ID, beat.C)
}

// releaseLock is for a run that stopped before its playbook did it. A lock that cannot be reached
// stays, owned by a process that is gone, and the next run takes it over.
func (r *running) releaseLock(ctx context.Context) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer stop()
	known, err := r.deployment(ctx)
	if err != nil {
		return
	}
	_, _ = known.lock.Release(ctx, r.folder.ID)
}

// conclude writes result.json and shows the end.
func (r *running) conclude(ctx context.Context, err error) error {
	result := report.Result{
		Event:     "result",
		Run:       r.folder.ID,
		Inventory: r.job.name,
		What:      r.job.verb,
		Started:   r.began.UTC(),
		Seconds:   time.Since(r.began).Seconds(),
		Code:      exit.Of(err),
		Hosts:     r.tally.Hosts(),
		Failures:  r.tally.Failures(),
		Log:       r.folder.LogPath(),
	}
	if err != nil {
		if ctx.Err() != nil {
			result.Code = exit.Cancelled
		}
		result.Error = err.Error()
		if ended := new(run.ExitError); errors.As(err, &ended) && len(result.Failures) == 0 {
			result.Error += "\n" + run.Tail(result.Log)
		}
	}
	writeErr := r.folder.WriteResult(result)
	r.report.Close(result)
	if err != nil {
		return exit.Told(result.Code, err)
	}
	return writeErr
}
