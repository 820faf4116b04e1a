// Package ansibletest runs real Ansible on playbooks of a test, with the repository's own
// configuration and plugins. For tests only.
package ansibletest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/apenella/go-ansible/v2/pkg/playbook"
)

// Root is the repository; the test ends here if Ansible is missing.
func Root(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
	if _, err := os.Stat(filepath.Join(dir, ".venv", "bin", "ansible-playbook")); err == nil {
		return dir
	}
	if _, err := exec.LookPath("ansible-playbook"); err != nil {
		t.Fatal("ansible-playbook is neither in .venv nor in PATH: run make lab once, or pip install -r requirements.txt")
	}
	return dir
}

// Playbook is the command for a playbook in the test's testdata, on testdata/hosts.yml.
func Playbook(t *testing.T, name string, check bool, vars map[string]any) *playbook.AnsiblePlaybookCmd {
	t.Helper()
	path := func(name string) string {
		abs, err := filepath.Abs(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return abs
	}
	return playbook.NewAnsiblePlaybookCmd(
		playbook.WithPlaybooks(path(name)),
		playbook.WithPlaybookOptions(&playbook.AnsiblePlaybookOptions{
			Inventory: path("hosts.yml"),
			Check:     check,
			ExtraVars: vars,
		}),
	)
}
