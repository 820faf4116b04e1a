package report

import (
	"encoding/json"
	"io"
	"sync"

	"secureconnect/cmd/deploy/internal/run"
)

// lines is the report for programs: every event as it comes, the result last.
type lines struct {
	mu  sync.Mutex
	out io.Writer
}

func newLines(out io.Writer) *lines { return &lines{out: out} }

func (l *lines) Step(title string) {
	l.write(map[string]string{"event": "step", "step": title})
}

func (l *lines) Hear(event run.Event) { l.write(event) }

func (l *lines) Say(line string) {
	l.write(map[string]string{"event": "line", "line": line})
}

func (l *lines) Close(result Result) { l.write(result) }

func (l *lines) write(value any) {
	raw, err := json.Marshal(value)
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.out.Write(append(raw, '\n')) // a reader that left does not stop a deployment
}
