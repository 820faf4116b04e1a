package secrets

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"secureconnect/cmd/deploy/internal/ansibletest"
)

const canary = "canary-5d0f"

func TestRead(t *testing.T) {
	root, dir := ansibletest.Root(t), t.TempDir()
	path := filepath.Join(dir, "secrets.yml")
	// As deployment/plugins/action/secrets.py makes them.
	want := []Entry{
		{"redis_password", "146cf83dc2fb4904279c1235"},
		{"sql_password", "5df90173c12da089819a89fc"},
	}
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	if _, err := Read(t.Context(), root, path, ""); err == nil {
		t.Error("a file that does not exist was read")
	}

	write("# comment\nsql_password: " + canary + "\nredis_password: abc\nsql_password_before: 146cf83d 5df90173\n")
	if got, err := Read(t.Context(), root, path, ""); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}

	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("open sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(root, ".venv", "bin", "ansible-vault")
	if _, err := os.Stat(program); err != nil {
		program = "ansible-vault"
	}
	if out, err := exec.Command(program, "encrypt", "--vault-password-file", password, path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got, err := Read(t.Context(), root, path, password); err != nil || !slices.Equal(got, want) {
		t.Errorf("encrypted: got %+v, %v", got, err)
	}
	t.Setenv("ANSIBLE_VAULT_PASSWORD_FILE", "")
	if _, err := Read(t.Context(), root, path, ""); err == nil {
		t.Error("an encrypted file was read without its password")
	}

	write("sql_password: [" + canary + "\n")
	if _, err := Read(t.Context(), root, path, ""); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("a broken file: %v", err)
	}
}
