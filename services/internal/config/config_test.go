package config_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-multierror"

	"secureconnect/services/internal/config"
)

func from(values map[string]string) *config.Reader {
	return config.From(func(name string) (string, bool) {
		value, set := values[name]
		return value, set
	})
}

func TestReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte("s3cret \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := from(map[string]string{
		"PORT": "5432", "EVERY": "90s", "MODE": "open", "PASSWORD_FILE": path, "EMPTY": "",
		"PROXIES": "10.0.0.1, 10.1.0.0/16,::1",
	})
	if r.Port("PORT", 1) != 5432 || r.Port("EMPTY", 7) != 7 || r.Port("ABSENT", 8) != 8 {
		t.Error("ports")
	}
	if r.Duration("EVERY", 0) != 90*time.Second || r.OneOf("MODE", "closed", "open", "closed") != "open" {
		t.Error("duration or choice")
	}
	if got := r.Secret("PASSWORD").Reveal(); got != "s3cret " {
		t.Errorf("only the line end goes: %q", got)
	}
	if got := fmt.Sprint(r.Prefixes("PROXIES", "")); got != "[10.0.0.1/32 10.1.0.0/16 ::1/128]" {
		t.Errorf("prefixes are %s", got)
	}
	if err := r.Err(); err != nil {
		t.Error(err)
	}
}

func TestReaderReportsEveryProblemAtOnce(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := from(map[string]string{
		"PORT": "70000", "EVERY": "-1s", "MODE": "ajar", "PROXIES": "10.0.0.1,nonsense",
		"GONE_FILE": "/nonexistent/secret", "HOLLOW_FILE": empty,
	})
	r.Required("HOST")
	r.Port("PORT", 1)
	r.Duration("EVERY", 0)
	r.OneOf("MODE", "open", "open")
	r.Prefixes("PROXIES", "")
	r.Secret("GONE")
	r.Secret("HOLLOW")
	r.Secret("UNSET")
	var all *multierror.Error
	if !errors.As(r.Err(), &all) || len(all.Errors) != 8 {
		t.Errorf("want 8 problems: %v", r.Err())
	}
}

func TestChangingSecretFollowsItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	write := func(value string) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path+".new", []byte(value), 0o600), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	write("first\n")
	r := from(map[string]string{"KEY_FILE": path, "PLAIN": "plain", "GONE_FILE": path + ".gone"})
	fixed, changing, plain := r.Secret("KEY"), r.ChangingSecret("KEY"), r.ChangingSecret("PLAIN")
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	write("second\n")
	if fixed.Reveal() != "first" || changing.Reveal() != "second" || plain.Reveal() != "plain" {
		t.Errorf("%s, %s and %s", fixed.Reveal(), changing.Reveal(), plain.Reveal())
	}
	if !changing.Equal(config.NewSecret("second")) || changing.Empty() || fmt.Sprintf("%v %#v", changing, changing) != "[secret] [secret]" {
		t.Error("it is compared or printed as another")
	}
	write("")
	if changing.Reveal() != "first" {
		t.Errorf("an empty file is taken for a secret: %q", changing.Reveal())
	}
	if r.ChangingSecret("GONE"); r.Err() == nil {
		t.Error("a file that is not there was no problem")
	}
}

func TestSecretPrintsAsSecret(t *testing.T) {
	const value = "hunter2"
	s := config.NewSecret(value)
	holder := struct{ S config.Secret }{s}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "s", s, "holder", holder)
	encoded, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		fmt.Sprint(s), fmt.Sprintf("%s %q %#v %+v %x", s, s, s, holder, s), fmt.Sprintf("%#v", holder), string(encoded), log.String(),
	} {
		if bytes.Contains([]byte(text), []byte(value)) || bytes.Contains([]byte(text), []byte(fmt.Sprintf("%x", value))) {
			t.Errorf("the secret is in %q", text)
		}
	}
	if s.Reveal() != value || !s.Equal(config.NewSecret(value)) || s.Equal(config.NewSecret("Hunter2")) {
		t.Error("the secret is not itself")
	}
}
