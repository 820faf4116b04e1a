package verify

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"secureconnect/cmd/deploy/internal/exit"
)

func TestPublish(t *testing.T) {
	failed, passed := mixed(), mixed()
	passed.Passed = true
	for name, c := range map[string]struct {
		report Report
		code   exit.Code
	}{
		"a deployment that holds":    {passed, exit.OK},
		"a deployment that does not": {failed, exit.Verify},
		"notes alone break nothing":  {Report{Passed: true, Checks: mixed().Checks[:1]}, exit.OK},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			command := Command()
			command.SetOut(&out)
			junit := filepath.Join(t.TempDir(), "verify.xml")
			err := publish(command, c.report, true, junit)
			if code := exit.Of(err); code != c.code {
				t.Errorf("ends with %d, want %d", code, c.code)
			}
			if told := new(exit.Error); errors.As(err, &told) && !told.Told {
				t.Error("the failure would be told twice")
			}
			var read Report
			if err := json.Unmarshal(out.Bytes(), &read); err != nil || read.Passed != c.report.Passed {
				t.Errorf("printed %q: %v", out.String(), err)
			}
			if _, err := os.Stat(junit); err != nil {
				t.Error(err)
			}
		})
	}
}
