package report

import (
	"fmt"
	"io"
	"sync"
	"time"

	"secureconnect/cmd/deploy/internal/run"
)

// plain is the report for logs: steps, plays, what changed, what failed, what took long.
type plain struct {
	out       io.Writer
	now       func() time.Time
	began     time.Time
	variables Variables

	mu   sync.Mutex
	play string
}

// A task this long gets a line though it changed nothing, so that a watcher sees life.
const longTask = 5.0

func (p *plain) Step(title string) { p.line("== %s", title) }

func (p *plain) Hear(event run.Event) {
	switch {
	case event.Event == "play" && p.isNew(event.Play):
		p.line("-- %s", clean(event.Play))
	case event.Event != "result":
	case event.Status == "failed" || event.Status == "unreachable":
		p.line("%s: %s: %s: %s", event.Host, clean(event.Task), event.Status, clean(event.Msg))
	case event.Status == "changed":
		p.line("%s: %s: changed (%.1f s)", event.Host, clean(event.Task), event.Duration)
	case event.Duration >= longTask && event.Status != "skipped":
		p.line("%s: %s: %s (%.1f s)", event.Host, clean(event.Task), event.Status, event.Duration)
	}
}

func (p *plain) Say(line string) { p.line("%s", line) }

func (p *plain) Close(result Result) {
	_, _ = io.WriteString(p.out, closing(result, p.variables, ink{}))
}

// isNew is false for the same play's next batch of hosts.
func (p *plain) isNew(play string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.play
	p.play = play
	return was != play
}

func (p *plain) line(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	elapsed := p.now().Sub(p.began).Round(time.Second)
	_, _ = fmt.Fprintf(p.out, "%s "+format+"\n", append([]any{clock(elapsed)}, args...)...)
}
