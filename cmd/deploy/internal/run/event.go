package run

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Event is one line of the events plugin (deployment/plugins/callback/events.py).
type Event struct {
	TS       float64  `json:"ts"`
	Event    string   `json:"event"` // play, task, start, result, stats, end
	Play     string   `json:"play"`
	Task     string   `json:"task,omitempty"`
	Role     string   `json:"role,omitempty"`
	Action   string   `json:"action,omitempty"` // the module's name
	Host     string   `json:"host,omitempty"`
	Hosts    []string `json:"hosts,omitempty"`  // of a play
	Status   string   `json:"status,omitempty"` // of a result: ok, changed, failed, unreachable, skipped, ignored
	Msg      string   `json:"msg,omitempty"`
	Detail   string   `json:"detail,omitempty"` // what a failed command printed last
	Duration float64  `json:"duration,omitempty"`
	Stats    *Stats   `json:"stats,omitempty"`
}

// Stats are Ansible's own closing counts of one host.
type Stats struct {
	OK          int `json:"ok"`
	Changed     int `json:"changed"`
	Failures    int `json:"failures"`
	Unreachable int `json:"unreachable"`
	Skipped     int `json:"skipped"`
	Rescued     int `json:"rescued"`
	Ignored     int `json:"ignored"`
}

// Follow hands every line of a growing file to hear, until ended is closed and the file is read
// to its end. Lines may have any length. One that is no event is passed over: a run is never
// stopped for the sake of its own report.
func Follow(path string, ended <-chan struct{}, hear func(Event)) error {
	file, err := open(path, ended)
	if err != nil || file == nil {
		return err
	}
	defer func() { _ = file.Close() }()
	lines := &lineReader{from: bufio.NewReader(file)}
	for {
		finished := isClosed(ended) // asked before reading, so that nothing written in between is missed
		for {
			line, err := lines.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return fmt.Errorf("read the events: %w", err)
			}
			event := Event{}
			if json.Unmarshal(line, &event) == nil && event.Event != "" {
				hear(event)
			}
		}
		if finished {
			return nil
		}
		wait(ended)
	}
}

// open waits for the file to appear; a run that ends without ever writing has no events.
func open(path string, ended <-chan struct{}) (*os.File, error) {
	for {
		finished := isClosed(ended)
		file, err := os.Open(path) // #nosec G304 -- in the run's own folder
		switch {
		case err == nil:
			return file, nil
		case !errors.Is(err, os.ErrNotExist):
			return nil, fmt.Errorf("open the events: %w", err)
		case finished:
			return nil, nil
		}
		wait(ended)
	}
}

const lookAgain = 100 * time.Millisecond

func wait(ended <-chan struct{}) {
	timer := time.NewTimer(lookAgain)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// lineReader gives whole lines only: half a line waits for its other half.
type lineReader struct {
	from *bufio.Reader
	half []byte
}

func (l *lineReader) next() ([]byte, error) {
	part, err := l.from.ReadBytes('\n')
	l.half = append(l.half, part...)
	if err != nil {
		return nil, err
	}
	line := bytes.TrimSpace(l.half)
	l.half = nil
	return line, nil
}
