package hosts

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"secureconnect/cmd/deploy/internal/inventory"
)

func described() *inventory.Description {
	return &inventory.Description{
		Name:   "lab",
		Groups: map[string][]string{"lb": {"lb-01"}, "storage": {"storage-01"}},
		Hosts: map[string]inventory.Host{
			"lb-01":      {Address: "10.0.0.10", PublicAddress: "198.51.100.10"},
			"storage-01": {Address: "10.0.0.14"},
		},
		Names: inventory.Names{API: "api.x.org", Chat: "chat.x.org", Files: "files.x.org", Turn: "turn.x.org"},
	}
}

func TestLines(t *testing.T) {
	got, err := Lines(described())
	want := []string{"198.51.100.10 api.x.org chat.x.org files.x.org", "10.0.0.14 turn.x.org"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := Lines(&inventory.Description{}); err == nil {
		t.Error("an inventory without hosts has lines")
	}
}

const block = "# begin secureconnect x.org\n1 api\n2 turn\n# end secureconnect x.org\n"

func TestEdit(t *testing.T) {
	lines := []string{"1 api", "2 turn"}
	for name, c := range map[string]struct {
		before string
		lines  []string
		after  string
	}{
		"an empty file":                  {"", lines, block},
		"added at the end":               {"127.0.0.1 localhost\n", lines, "127.0.0.1 localhost\n" + block},
		"a last line without an end":     {"127.0.0.1 localhost", lines, "127.0.0.1 localhost\n" + block},
		"nothing to do":                  {"a\n" + block + "b\n", lines, "a\n" + block + "b\n"},
		"replaced where it stood":        {"a\n# begin secureconnect x.org\nold\n# end secureconnect x.org\nb\n", lines, "a\n" + block + "b\n"},
		"two blocks become one":          {"a\n" + block + "b\n" + block + "c\n", lines, "a\n" + block + "b\nc\n"},
		"another domain's block stays":   {"# begin secureconnect y.org\n3 api\n# end secureconnect y.org\n", lines, "# begin secureconnect y.org\n3 api\n# end secureconnect y.org\n" + block},
		"removed":                        {"a\n" + block + "b\n", nil, "a\nb\n"},
		"removed where it never was":     {"a\nb", nil, "a\nb"},
		"comments and odd lines stay":    {"# mine\n\n  ::1\tlocalhost  # x\r\n", lines, "# mine\n\n  ::1\tlocalhost  # x\r\n" + block},
		"a block without an end is kept": {"# begin secureconnect x.org\nold\nmine\n", lines, "# was: secureconnect x.org\nold\nmine\n" + block},
	} {
		t.Run(name, func(t *testing.T) {
			got := Edit(c.before, "x.org", c.lines)
			if got != c.after {
				t.Errorf("got\n%q\nwant\n%q", got, c.after)
			}
			if again := Edit(got, "x.org", c.lines); again != got {
				t.Errorf("a second time:\n%q", again)
			}
		})
	}
}

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(path, []byte("a\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	lines := []string{"1 api", "2 turn"}
	for _, want := range []bool{true, false} {
		changed, err := Write(path, "x.org", lines)
		if err != nil || changed != want {
			t.Errorf("changed %v, want %v: %v", changed, want, err)
		}
	}
	content, err := os.ReadFile(path)
	if err != nil || string(content) != "a\n"+block {
		t.Errorf("%q, %v", content, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info, err)
	}
	if changed, err := Write(path, "x.org", nil); err != nil || !changed {
		t.Errorf("not removed: %v", err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// The program that makes the system's bundle is a script here that notes how it was called.
func TestTrust(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	update, notes, ca := filepath.Join(dir, "update"), filepath.Join(dir, "notes"), filepath.Join(dir, "ca.crt")
	if err := os.WriteFile(update, []byte("#!/bin/sh\necho \"called $*\" >> "+notes+"\n"), 0o700); err != nil { // #nosec G306 -- a program
		t.Fatal(err)
	}
	t.Setenv("PATH", "/nonexistent") // no certutil
	trust := Trust{Folder: filepath.Join(dir, "trusted"), Update: update}
	if _, err := trust.Add(t.Context(), "x.org", ca); err == nil {
		t.Error("an authority that does not exist is trusted")
	}
	if err := os.WriteFile(ca, []byte("certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{2, 1} { // the last line says how Chromium comes to trust it
		done, err := trust.Add(t.Context(), "x.org", ca)
		if err != nil || len(done) != want {
			t.Errorf("did %v: %v", done, err)
		}
	}
	installed, err := os.ReadFile(filepath.Join(trust.Folder, "secureconnect-x.org.crt"))
	if err != nil || string(installed) != "certificate" {
		t.Errorf("%q, %v", installed, err)
	}
	for _, want := range []int{1, 0} {
		done, err := trust.Remove(t.Context(), "x.org")
		if err != nil || len(done) != want {
			t.Errorf("undid %v: %v", done, err)
		}
	}
	called, err := os.ReadFile(notes)
	if err != nil || string(called) != "called \ncalled --fresh\n" {
		t.Errorf("%q, %v", called, err)
	}
}
