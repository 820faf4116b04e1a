package inventory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/apenella/go-ansible/v2/pkg/playbook"

	"secureconnect/cmd/deploy/internal/run"
)

// Load asks Ansible for the effective description of an inventory. It contacts no host.
func Load(ctx context.Context, root, name string) (*Description, error) {
	path, err := Path(root, name)
	if err != nil {
		return nil, err
	}
	raw, err := describe(ctx, root, path)
	if err != nil {
		return nil, fmt.Errorf("read the inventory %s: %w", name, err)
	}
	description := &Description{}
	if err := json.Unmarshal(raw, description); err != nil {
		return nil, fmt.Errorf("read the description of %s: %w", name, err)
	}
	description.Root, description.Name = root, ShortName(path)
	return description, nil
}

func describe(ctx context.Context, root, path string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "deploy-describe-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	log, err := os.Create(filepath.Join(dir, "ansible.log")) // #nosec G304 -- in a folder made above
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()

	out := filepath.Join(dir, "description.json")
	runner := run.Playbook{
		Root: root,
		Log:  log,
		Command: playbook.NewAnsiblePlaybookCmd(
			playbook.WithPlaybooks(filepath.Join("deployment", "describe.yml")),
			playbook.WithPlaybookOptions(&playbook.AnsiblePlaybookOptions{
				Inventory: path,
				ExtraVars: map[string]any{"describe_to": out},
			}),
		),
	}
	if err := runner.Execute(ctx); err != nil {
		// The log lies in a folder that is about to go.
		return nil, fmt.Errorf("%w\n%s", err, run.Tail(log.Name()))
	}
	raw, err := os.ReadFile(out) // #nosec G304 -- in a folder made above
	if errors.Is(err, os.ErrNotExist) {
		return nil, errors.New("it has no host in the group secureconnect")
	}
	return raw, err
}
