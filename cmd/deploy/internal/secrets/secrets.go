// Package secrets tells about a deployment's secrets file without telling a secret.
package secrets

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Entry is one secret by what may be known of it.
type Entry struct {
	Name string
	// Fingerprint tells two secrets apart; hosts keep the same one (deployment/plugins/action/secrets.py).
	Fingerprint string
}

// Read lists the secrets of a file in alphabetical order. An encrypted one is opened with
// ansible-vault and the password file, and never written anywhere in the clear.
func Read(ctx context.Context, root, path, passwordFile string) ([]Entry, error) {
	source, err := os.ReadFile(path) // #nosec G304 -- named by the inventory
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s does not exist yet: the first apply makes it", path)
	}
	if err != nil {
		return nil, fmt.Errorf("read the secrets file: %w", err)
	}
	if bytes.HasPrefix(source, []byte("$ANSIBLE_VAULT;")) {
		if source, err = decrypt(ctx, root, path, passwordFile); err != nil {
			return nil, err
		}
	}
	var values map[string]string
	if err := yaml.Unmarshal(source, &values); err != nil {
		// The parser's own words may quote the line it stumbled over.
		return nil, fmt.Errorf("%s is not a list of `name: text` lines", path)
	}
	return entries(values), nil
}

func entries(values map[string]string) []Entry {
	list := make([]Entry, 0, len(values))
	for name, value := range values {
		if strings.HasSuffix(name, "_before") {
			continue // no secret, but fingerprints of what one was before it was rotated
		}
		sum := sha256.Sum256([]byte(name + ":" + value))
		list = append(list, Entry{Name: name, Fingerprint: hex.EncodeToString(sum[:])[:24]})
	}
	slices.SortFunc(list, func(a, b Entry) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return list
}

func decrypt(ctx context.Context, root, path, passwordFile string) ([]byte, error) {
	if passwordFile == "" && os.Getenv("ANSIBLE_VAULT_PASSWORD_FILE") == "" {
		return nil, fmt.Errorf("%s is encrypted: name its password with --vault-password-file", path)
	}
	program := filepath.Join(root, ".venv", "bin", "ansible-vault")
	if _, err := os.Stat(program); err != nil {
		program = "ansible-vault"
	}
	args := []string{"view"}
	if passwordFile != "" {
		args = append(args, "--vault-password-file", passwordFile)
	}
	cmd := exec.CommandContext(ctx, program, append(args, path)...) // #nosec G204 -- fixed program
	cmd.Env = append(os.Environ(), "PAGER=cat")
	var clear, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &clear, &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("open %s with ansible-vault: %w: %s", path, err, bytes.TrimSpace(said.Bytes()))
	}
	return clear.Bytes(), nil
}
