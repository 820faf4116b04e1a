package verify

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSearch_counts_words_in_fresh_files(t *testing.T) {
	folder := t.TempDir()
	across := strings.Repeat("x", 4<<20-3) + "planted" // lies across two reads
	for name, content := range map[string]string{"fresh": "planted and planted", "across": across, "old": "planted", "other": "nothing"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(folder, "old"), long, long); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), "python3", "-c", searchSource, "60", folder, filepath.Join(folder, "absent"))
	command.Stdin = bytes.NewReader([]byte(`["planted", "and", "absent"]`))
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got found
	if err := json.Unmarshal(out, &got); err != nil || !slices.Equal(got.Counts, []int{3, 1, 0}) || got.Read < 4<<20 {
		t.Errorf("found %+v, %v", got, err)
	}
}

func TestBlind_judges(t *testing.T) {
	b := &blind{}
	for name, c := range map[string]struct {
		counts   []int
		password bool
		cause    string
	}{
		"clean":                  {[]int{0, 0, 1, 0, 0}, true, ""},
		"a secret":               {[]int{1, 0, 1, 0, 0}, true, "encrypted message is there in clear"},
		"a password":             {[]int{0, 2, 1, 0, 0}, true, "password is there in clear"},
		"a password that passes": {[]int{0, 2, 1, 0, 0}, false, ""},
		"a blind search":         {[]int{0, 0, 0, 9, 9}, true, "proves nothing"},
		"no counts":              {nil, true, "tells of 0 words"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := b.judge(found{Counts: c.counts}, countClear, c.password, "")
			if c.cause == "" && err != nil || c.cause != "" && (err == nil || !strings.Contains(verdict("", "", "", err, 0)[0].Cause, c.cause)) {
				t.Errorf("got %v", err)
			}
		})
	}
}
