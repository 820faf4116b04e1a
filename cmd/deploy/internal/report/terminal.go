package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"secureconnect/cmd/deploy/internal/run"
)

// terminal is the report for a person who watches: the play at work with a line a host, drawn
// again several times a second; a play that is done becomes one line that stays.
type terminal struct {
	out       io.Writer
	now       func() time.Time
	width     func() int
	variables Variables

	mu    sync.Mutex
	began time.Time
	play  *playing
	drawn int // lines on the screen that will be drawn again
	turn  int // of the wheel

	stop chan struct{}
	done sync.WaitGroup
}

// playing is the play at work.
type playing struct {
	name  string
	began time.Time
	hosts map[string]*hostAtWork
}

type hostAtWork struct {
	ok, changed, failed int
	task                string // empty: it waits for the others
	since               time.Time
}

const redraw = 150 * time.Millisecond

func newTerminal(out io.Writer, now func() time.Time, width func() int, variables Variables) *terminal {
	t := &terminal{
		out: out, now: now, width: width, variables: variables,
		began: now(), stop: make(chan struct{}),
	}
	t.done.Go(t.keepDrawing)
	return t
}

func (t *terminal) keepDrawing() {
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	for {
		select {
		case <-t.stop:
			return
		case <-tick.C:
			t.mu.Lock()
			t.turn++
			t.drawLocked()
			t.mu.Unlock()
		}
	}
}

func (t *terminal) Step(title string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.finishPlayLocked()
	t.printLocked("%s", colours.bold(title))
}

func (t *terminal) Hear(event run.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch event.Event {
	case "play":
		t.startPlayLocked(event)
	case "start":
		host := t.hostLocked(event.Host)
		host.task, host.since = event.Task, t.now()
	case "result":
		t.resultLocked(event)
	case "end":
		t.finishPlayLocked()
	}
}

func (t *terminal) Say(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.printLocked("  %s", line)
}

func (t *terminal) Close(result Result) {
	close(t.stop)
	t.done.Wait()
	t.finishPlayLocked() // nobody else draws any more
	_, _ = io.WriteString(t.out, closing(result, t.variables, colours))
}

func (t *terminal) startPlayLocked(event run.Event) {
	if t.play != nil && t.play.name == event.Play {
		return // the same play, its next batch of hosts
	}
	t.finishPlayLocked()
	t.play = &playing{name: event.Play, began: t.now(), hosts: make(map[string]*hostAtWork)}
	for _, host := range event.Hosts {
		t.hostLocked(host)
	}
	t.drawLocked()
}

func (t *terminal) hostLocked(name string) *hostAtWork {
	if t.play == nil {
		t.play = &playing{began: t.now(), hosts: make(map[string]*hostAtWork)}
	}
	host, ok := t.play.hosts[name]
	if !ok {
		host = &hostAtWork{since: t.now()}
		t.play.hosts[name] = host
	}
	return host
}

func (t *terminal) resultLocked(event run.Event) {
	host := t.hostLocked(event.Host)
	host.task, host.since = "", t.now()
	switch event.Status {
	case "ok", "ignored":
		host.ok++
	case "changed":
		host.changed++
	case "failed", "unreachable":
		host.failed++
		t.printLocked("  %s %s · %s: %s", colours.red("✗"), event.Host, clean(event.Task), clean(event.Msg))
	}
}

// finishPlayLocked replaces the live lines by the one that stays.
func (t *terminal) finishPlayLocked() {
	play := t.play
	if play == nil {
		return
	}
	t.play = nil
	mark, changed, failed, done := colours.green("✓"), 0, 0, 0
	for _, host := range play.hosts {
		changed += host.changed
		failed += host.failed
		done += host.ok + host.changed + host.failed
	}
	if failed > 0 {
		mark = colours.red("✗")
	}
	if done == 0 {
		t.eraseLocked()
		return
	}
	t.printLocked("  %s %s  %s", mark, clean(play.name),
		colours.dim(fmt.Sprintf("%s · %s · %s", counted(done, "task"), changes(changed), t.now().Sub(play.began).Round(100*time.Millisecond))))
}

func (t *terminal) printLocked(format string, args ...any) {
	t.eraseLocked()
	_, _ = fmt.Fprintf(t.out, format+"\n", args...)
	t.drawLocked()
}

func (t *terminal) eraseLocked() {
	if t.drawn > 0 {
		_, _ = fmt.Fprintf(t.out, "\x1b[%dA\x1b[J", t.drawn)
	}
	t.drawn = 0
}

func (t *terminal) drawLocked() {
	if t.play == nil {
		return
	}
	wheel := []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
	columns := t.width()
	lines := []string{fit(fmt.Sprintf("  %c %s  %s", wheel[t.turn%len(wheel)], clean(t.play.name),
		clock(t.now().Sub(t.play.began))), columns)}
	names := make([]string, 0, len(t.play.hosts))
	longest := 0
	for name := range t.play.hosts {
		names = append(names, name)
		longest = max(longest, len(name))
	}
	slices.Sort(names)
	for _, name := range names {
		lines = append(lines, fit(t.hostLine(name, longest), columns))
	}
	// One write a picture, so that nothing flickers.
	var picture strings.Builder
	if t.drawn > 0 {
		fmt.Fprintf(&picture, "\x1b[%dA", t.drawn)
	}
	for _, line := range lines {
		picture.WriteString("\x1b[2K" + line + "\n")
	}
	picture.WriteString("\x1b[J")
	_, _ = io.WriteString(t.out, picture.String())
	t.drawn = len(lines)
}

func (t *terminal) hostLine(name string, longest int) string {
	host := t.play.hosts[name]
	line := fmt.Sprintf("    %-*s %3d ok %3d changed  ", longest, name, host.ok, host.changed)
	switch {
	case host.failed > 0:
		return line + "failed"
	case host.task == "":
		return line + "·"
	}
	line += clean(host.task)
	if busy := t.now().Sub(host.since); busy >= 2*time.Second {
		line += "  " + clock(busy)
	}
	return line
}
