package lab

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
)

const keyName = "id_ed25519"

// publicKey is a line of authorized_keys.
type publicKey string

// ensureKey keeps the lab's key, or makes one. The public half is derived, so it cannot differ.
func ensureKey(dir string) (publicKey, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the folder of the lab: %w", err)
	}
	path := filepath.Join(dir, keyName)
	text, err := os.ReadFile(path) // #nosec G304 -- a file of ours
	if errors.Is(err, os.ErrNotExist) {
		text, err = makeKey(path)
	}
	if err != nil {
		return "", fmt.Errorf("key of the lab: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return "", fmt.Errorf("key of the lab: %w", err)
	}
	return publicKey(ssh.MarshalAuthorizedKey(signer.PublicKey())), nil
}

func makeKey(path string) ([]byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "secureconnect lab")
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(block)
	return text, writeFile(path, string(text), 0o600)
}

// writeFile never leaves half a file.
func writeFile(path, content string, mode os.FileMode) error {
	partial := path + ".partial"
	if err := os.WriteFile(partial, []byte(content), mode); err != nil { // #nosec G703 -- a path this package makes
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	if err := os.Rename(partial, path); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}
