// Package frames encrypts the frames of calls, each sender's under keys of their own, as services/video/PROTOCOL.md says ("Encryption").
// It knows no devices and sends nothing: whoever has a Key, from whomever they took it, can open frames, and also forge them.
package frames

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
)

// What a key of a step makes.
const (
	infoStep  = "secureconnect call step"
	infoFrame = "secureconnect call frame"

	frameKeySize = 16
)

// LastStep is the last of a chain; who has used it needs a new one.
const LastStep = math.MaxUint8

// Key is one step of a chain. Who has it has every later step, and none before.
type Key struct {
	Chain  uint32
	Step   uint8
	Secret Secret
}

// NewKey begins a chain.
func NewKey() Key {
	var drawn [4 + SecretSize]byte
	_, _ = rand.Read(drawn[:]) // never errs
	return Key{Chain: binary.BigEndian.Uint32(drawn[:4]), Secret: Secret(drawn[4:])}
}

// next is the following step; there is none after LastStep.
func (k Key) next() Key {
	return Key{Chain: k.Chain, Step: k.Step + 1, Secret: Secret(k.Secret.derive(infoStep, SecretSize))}
}

// box encrypts under this step.
func (k Key) box() cipher.AEAD {
	block, err := aes.NewCipher(k.Secret.derive(infoFrame, frameKeySize))
	if err != nil {
		panic(err) // only a key of another length is refused
	}
	box, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // only a block of another length is refused
	}
	return box
}

// SecretSize is the length of a Secret.
const SecretSize = 32

// Secret prints, logs and marshals as [secret].
type Secret [SecretSize]byte

const hidden = "[secret]"

func (Secret) String() string { return hidden }

// GoString keeps %#v quiet.
func (Secret) GoString() string { return hidden }

// Format keeps every other verb quiet: of an array, most of them would print its bytes.
func (Secret) Format(state fmt.State, _ rune) { _, _ = state.Write([]byte(hidden)) }

// MarshalText keeps JSON quiet.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// LogValue keeps slog quiet.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// Reveal gives the secret as a device sends it to another, in unpadded base64.
func (s Secret) Reveal() string { return base64.RawStdEncoding.EncodeToString(s[:]) }

// ErrSecret is what is no secret of this length.
var ErrSecret = errors.New("not a key of 32 bytes in unpadded base64")

// ReadSecret reads what Reveal gave.
func ReadSecret(text string) (Secret, error) {
	raw, err := base64.RawStdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != SecretSize {
		return Secret{}, ErrSecret
	}
	return Secret(raw), nil
}

// derive is HKDF-SHA-256 without a salt (RFC 5869).
func (s Secret) derive(info string, size int) []byte {
	derived, err := hkdf.Key(sha256.New, s[:], nil, info, size)
	if err != nil {
		panic(err) // only more than 255 hashes are refused
	}
	return derived
}
