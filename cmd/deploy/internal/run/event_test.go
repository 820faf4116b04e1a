package run

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestFollow(t *testing.T) {
	long := strings.Repeat("ä", 100*1024) // 200 KiB
	line := func(msg string) string {
		raw, err := json.Marshal(Event{Event: "result", Msg: msg})
		if err != nil {
			t.Fatal(err)
		}
		return string(raw) + "\n"
	}
	for name, parts := range map[string][]string{
		"whole lines":              {line("one"), line("two")},
		"a line in two halves":     {line("one")[:10], line("one")[10:], line("two")},
		"what is not an event":     {line("one"), "not json\n", "\n", "[]\n", "{}\n", line("two")},
		"a line of 200 KiB":        {line("one"), line(long), line("two")},
		"the file appears later":   {"", line("one"), line("two")},
		"an end without a newline": {line("one"), line("two"), `{"event":"resu`},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "events.jsonl")
			ended, heard := make(chan struct{}), make(chan []string, 1)
			go func() {
				var messages []string
				if err := Follow(path, ended, func(e Event) { messages = append(messages, e.Msg) }); err != nil {
					t.Error(err)
				}
				heard <- messages
			}()
			write(t, path, parts)
			close(ended)
			got := <-heard
			if len(got) < 2 || got[0] != "one" || got[len(got)-1] != "two" {
				t.Errorf("heard %d messages", len(got))
			}
			if name == "a line of 200 KiB" && (len(got) != 3 || got[1] != long) {
				t.Errorf("the long line did not arrive whole")
			}
		})
	}

	t.Run("a run that wrote nothing", func(t *testing.T) {
		ended := make(chan struct{})
		close(ended)
		if err := Follow(filepath.Join(t.TempDir(), "none"), ended, func(Event) { t.Error("heard something") }); err != nil {
			t.Error(err)
		}
	})
}

func write(t *testing.T, path string, parts []string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Error(err)
		return
	}
	for _, part := range parts {
		if _, err := file.WriteString(part); err != nil {
			t.Error(err)
		}
	}
	if err := file.Close(); err != nil {
		t.Error(err)
	}
}

func TestNewFolder(t *testing.T) {
	root := t.TempDir()
	moment := mustParse(t, "2025-11-23T07:34:00+01:00")
	first, err := NewFolder(root, "apply", "lab", moment)
	if err != nil {
		t.Fatal(err)
	}
	second, err := NewFolder(root, "apply", "lab", moment)
	if err != nil {
		t.Fatal(err)
	}
	if first.ID != "20251123T063400Z-apply-lab" || second.ID != first.ID+"-2" {
		t.Errorf("%s and %s", first.ID, second.ID)
	}
	if info, err := os.Stat(first.Path); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", info, err)
	}
}

func mustParse(t *testing.T, text string) time.Time {
	t.Helper()
	moment, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return moment
}
