package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"secureconnect/cmd/deploy/internal/ansibletest"
	"secureconnect/cmd/deploy/internal/exit"
	"secureconnect/cmd/deploy/internal/report"
)

// repository is a repository with a site.yml of the test's own, beside the real configuration.
func repository(t *testing.T, site string) string {
	t.Helper()
	root, real := t.TempDir(), ansibletest.Root(t)
	for _, name := range []string{"ansible.cfg", "deployment", ".venv"} {
		if err := os.Symlink(filepath.Join(real, name), filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for path, text := range map[string]string{
		"site.yml":                   site,
		"inventories/here/hosts.yml": "secureconnect:\n  hosts:\n    here:\n      ansible_connection: local\n",
	} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(root)
	return root
}

// deploy runs the command and gives back what it printed.
func deploy(ctx context.Context, t *testing.T, args ...string) (string, error) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	command := newCommand(&app{stdin: os.Stdin, stdout: out, stderr: out})
	command.SetArgs(args)
	result := command.ExecuteContext(ctx)
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	printed, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(printed), result
}

func recorded(t *testing.T, root string) report.Result {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, ".build", "runs", "*-apply-here", "result.json"))
	if err != nil || len(found) != 1 {
		t.Fatalf("results: %v, %v", found, err)
	}
	raw, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	var result report.Result
	if err := json.Unmarshal(raw, &result); err != nil {
		t.Fatal(err)
	}
	return result
}

var applyOnly = []string{"apply", "-i", "here", "--no-images", "--no-verify"}

func TestApply(t *testing.T) {
	t.Run("success", func(t *testing.T) {
		root := repository(t, `
- name: "1. A step"
  hosts: secureconnect
  gather_facts: false
  tasks:
    - name: This run is known by its name
      ansible.builtin.command: test -d .build/runs/{{ deploy_run_id }}
      args: {chdir: "{{ playbook_dir }}"}
      changed_when: true
`)
		printed, err := deploy(t.Context(), t, applyOnly...)
		if err != nil || !strings.Contains(printed, "Done: apply of here") {
			t.Errorf("%v, printed\n%s", err, printed)
		}
		if result := recorded(t, root); result.Code != exit.OK || len(result.Hosts) != 1 || result.Hosts[0].Changed != 1 {
			t.Errorf("%+v", result)
		}
	})

	t.Run("failure", func(t *testing.T) {
		root := repository(t, `
- name: "1. A step"
  hosts: secureconnect
  gather_facts: false
  tasks:
    - name: It is refused
      ansible.builtin.fail:
        msg: "PREFLIGHT: no"
`)
		printed, err := deploy(t.Context(), t, append(applyOnly, "--json")...)
		if exit.Of(err) != exit.Preflight {
			t.Errorf("code %d: %v", exit.Of(err), err)
		}
		lines := strings.Split(strings.TrimSpace(printed), "\n")
		var last report.Result
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.Code != exit.Preflight {
			t.Errorf("%v, the last line is %s", err, lines[len(lines)-1])
		}
		if result := recorded(t, root); len(result.Failures) != 1 || result.Failures[0].Msg != "PREFLIGHT: no" {
			t.Errorf("%+v", result)
		}
	})

	t.Run("cancel", func(t *testing.T) {
		root := repository(t, `
- name: "1. A step"
  hosts: secureconnect
  gather_facts: false
  tasks:
    - name: It takes long
      ansible.builtin.shell: echo > started && exec sleep 600
      args: {chdir: "{{ playbook_dir }}"}
      changed_when: true
`)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			defer cancel()
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for {
				if _, err := os.Stat(filepath.Join(root, "started")); err == nil || ctx.Err() != nil {
					return
				}
				<-tick.C
			}
		}()
		if _, err := deploy(ctx, t, applyOnly...); exit.Of(err) != exit.Cancelled {
			t.Errorf("code %d: %v", exit.Of(err), err)
		}
		if result := recorded(t, root); result.Code != exit.Cancelled {
			t.Errorf("%+v", result)
		}
	})

	t.Run("a dry run leaves nothing", func(t *testing.T) {
		root := repository(t, "- name: \"1. A step\"\n  hosts: secureconnect\n")
		printed, err := deploy(t.Context(), t, append(applyOnly, "--dry-run")...)
		if err != nil || !strings.Contains(printed, "1. A step") {
			t.Errorf("%v, printed\n%s", err, printed)
		}
		if _, err := os.Stat(filepath.Join(root, ".build")); err == nil {
			t.Error("it made a folder")
		}
	})

	t.Run("an inventory that does not exist", func(t *testing.T) {
		repository(t, "[]")
		if _, err := deploy(t.Context(), t, "apply", "-i", "nowhere"); exit.Of(err) != exit.Preflight {
			t.Errorf("code %d: %v", exit.Of(err), err)
		}
	})
}
