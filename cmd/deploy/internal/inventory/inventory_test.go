package inventory

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"secureconnect/cmd/deploy/internal/ansibletest"
	"secureconnect/cmd/deploy/internal/run"
)

func TestPath(t *testing.T) {
	root := t.TempDir()
	for _, folder := range []string{"inventories/lab", "inventories/production", ".build/lab/test/inventory", ".build/lab/lab/inventory"} {
		if err := os.MkdirAll(filepath.Join(root, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]struct{ path, short string }{
		"lab":                     {"inventories/lab", "lab"}, // the operator's own wins over a generated one
		"test":                    {".build/lab/test/inventory", "test"},
		root + "/inventories/lab": {"inventories/lab", "lab"},
	} {
		got, err := Path(root, name)
		if err != nil || got != filepath.Join(root, want.path) || ShortName(got) != want.short {
			t.Errorf("%s: %s (%s), %v", name, got, ShortName(got), err)
		}
	}
	if _, err := Path(root, "staging"); err == nil {
		t.Error("an inventory that does not exist was found")
	}
}

func TestRoot(t *testing.T) {
	root := t.TempDir()
	below := filepath.Join(root, "roles", "sql")
	if err := os.MkdirAll(below, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "site.yml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(below)
	got, err := Root()
	if want, _ := filepath.EvalSymlinks(root); err != nil || got != want && got != root {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestLoad(t *testing.T) {
	root := ansibletest.Root(t)
	for name, want := range map[string]struct {
		hosts []string
		lb    string
	}{
		"lab":        {[]string{"app-01", "app-02", "db-01", "lb-01", "storage-01"}, "lb-01"},
		"all-in-one": {[]string{"node-01"}, "node-01"},
	} {
		d, err := Load(t.Context(), root, name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		lb, err := d.First("lb")
		if err != nil || !slices.Equal(d.HostNames(), want.hosts) || lb != want.lb || d.Name != name {
			t.Errorf("%s: hosts %v, lb %s, %v", name, d.HostNames(), lb, err)
		}
		host := d.Hosts[lb]
		if host.Address == "" || host.User == "" || host.Port == 0 || d.LockHost != lb || len(d.Ports) == 0 ||
			d.Names.API == "" || d.SecretsFile == "" || d.RemoteRoot == "" || d.Turn.RelayMax == 0 {
			t.Errorf("%s: a hole in %+v", name, d)
		}
	}
	if _, err := (&Description{}).First("lb"); err == nil {
		t.Error("an empty group has a first host")
	}
}

func TestLoadExplainsWhatAnsibleSaid(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hosts.yml"), []byte("secureconnect:\n  children: {lb: {hosts: {lb-01: }}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(t.Context(), ansibletest.Root(t), dir)
	if ended := new(run.ExitError); !errors.As(err, &ended) {
		t.Errorf("got %v", err)
	}
}
