package config

import (
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
)

const hidden = "[secret]"

// Secret is text that prints, formats, logs and marshals as [secret].
type Secret struct{ value string }

// NewSecret hides value.
func NewSecret(value string) Secret { return Secret{value} }

// Reveal gives the value to the one place that needs it.
func (s Secret) Reveal() string { return s.value }

// Empty reports whether there is no value.
func (s Secret) Empty() bool { return s.value == "" }

// Equal compares in a time that tells nothing about either value.
func (s Secret) Equal(other Secret) bool {
	a, b := sha256.Sum256([]byte(s.value)), sha256.Sum256([]byte(other.value))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

func (s Secret) String() string { return hidden }

// GoString keeps %#v quiet.
func (s Secret) GoString() string { return hidden }

// MarshalText keeps JSON and YAML quiet.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// LogValue keeps slog quiet.
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }
