package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestEnsureKeyKeepsTheKeyItMade(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "test")
	first, err := ensureKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := ensureKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	if first == "" || first != second {
		t.Errorf("keys %q and %q", first, second)
	}
	info, err := os.Stat(filepath.Join(dir, keyName))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %o: ssh refuses it", info.Mode().Perm())
	}
}

func TestEnsureKeyRefusesABrokenKey(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, keyName), []byte("half a k"), 0o600); err != nil {
		t.Fatal(err)
	}
	if key, err := ensureKey(dir); err == nil {
		t.Errorf("key %q", key)
	}
}

func TestParseStatusSortsByLabAndAddress(t *testing.T) {
	got := parseStatus("test|db-01|10.91.0.13|13|Up 2 minutes\nlab|lb-01|10.89.0.10|13|Exited (0)\ntest|lb-01|10.91.0.10|12|Up\n")
	want := []Server{
		{"lab", "lb-01", "10.89.0.10", "13", "Exited (0)"},
		{"test", "lb-01", "10.91.0.10", "12", "Up"},
		{"test", "db-01", "10.91.0.13", "13", "Up 2 minutes"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestPollTellsTheLastAnswerWhenItsTimeIsOver(t *testing.T) {
	notYet, over := errors.New("not yet"), errors.New("over")
	ctx, cancel := context.WithCancelCause(context.Background())
	err := poll(ctx, func() error { cancel(over); return notYet })
	if !errors.Is(err, notYet) || !errors.Is(err, over) {
		t.Errorf("error %v", err)
	}
}

func TestDownRefusesANameThatIsAPath(t *testing.T) {
	root := t.TempDir()
	if err := Down(context.Background(), root, "../..", func(string) {}); err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(root); err != nil {
		t.Errorf("the repository is gone: %v", err)
	}
}
