package config

import (
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"os"
	"strings"
)

const hidden = "[secret]"

// Secret is text that prints, formats, logs and marshals as [secret].
type Secret struct {
	value string
	path  string // of the file that has the value at any time, where it may change
}

// NewSecret hides value.
func NewSecret(value string) Secret { return Secret{value: value} }

// Reveal gives the value to the one place that needs it. Of a secret that may change it is what its file has now, or had at first
// where the file cannot be read.
func (s Secret) Reveal() string {
	if s.path == "" {
		return s.value
	}
	if value, err := readSecret(s.path); err == nil && value != "" {
		return value
	}
	return s.value
}

// Empty reports whether there is no value.
func (s Secret) Empty() bool { return s.Reveal() == "" }

// Equal compares in a time that tells nothing about either value.
func (s Secret) Equal(other Secret) bool {
	a, b := sha256.Sum256([]byte(s.Reveal())), sha256.Sum256([]byte(other.Reveal()))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

func (s Secret) String() string { return hidden }

// GoString keeps %#v quiet.
func (s Secret) GoString() string { return hidden }

// MarshalText keeps JSON and YAML quiet.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// LogValue keeps slog quiet.
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// readSecret is what a file has; one line end after it is not part of it.
func readSecret(path string) (string, error) {
	content, err := os.ReadFile(path) //nolint:gosec // the path is the operator's own setting
	return strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r"), err
}
