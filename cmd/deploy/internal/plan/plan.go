// Package plan decides what a verb will do, as data that can be printed and compared.
// It touches nothing: the steps are carried out elsewhere.
package plan

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/apenella/go-ansible/v2/pkg/playbook"

	"secureconnect/cmd/deploy/internal/remote"
)

// Kind is what carries a step out.
type Kind string

// The kinds of step.
const (
	Images   Kind = "images"
	Playbook Kind = "playbook"
	Verify   Kind = "verify"
)

// Step is one thing a verb does, in order.
type Step struct {
	Kind    Kind
	Title   string
	Command *playbook.AnsiblePlaybookCmd // of a playbook
	Plays   []string                     // of a playbook: its plays' names
}

// Options are what the operator asked for.
type Options struct {
	Inventory         string   // a path Ansible can read
	Plays             []string // of the playbook, in order
	Check             bool
	NoImages          bool
	NoVerify          bool
	VaultPasswordFile string
	Secret            string // that is rotated
	AtOnce            bool   // retire it though credentials made with it are still good
	Run               Identity
}

// Identity tells the lock whose run it is; the zero value leaves that to Ansible.
type Identity struct {
	ID   string
	PID  int
	What string
}

// Apply is the whole deployment: images, the guide's steps, the proof.
func Apply(o Options) []Step {
	var steps []Step
	if !o.NoImages {
		steps = append(steps, Step{Kind: Images, Title: "Images are built, or found as built before"})
	}
	vars := o.variables()
	// Also with --no-verify: play 6 of site.yml would verify where nobody else does.
	vars["deploy_runs_verify"] = true
	title := "The hosts are brought to the described state"
	if o.Check {
		title = "The hosts are compared with the described state; nothing is changed"
	}
	steps = append(steps, o.playbook(title, "site.yml", vars))
	if !o.NoVerify && !o.Check {
		steps = append(steps, Step{Kind: Verify, Title: "A person's use of the system is tried"})
	}
	return steps
}

// Preflight is every check of play 0 and 1 without a change.
func Preflight(o Options) []Step {
	return []Step{o.playbook("Whether a deployment could start", filepath.Join("deployment", "preflight.yml"), o.variables())}
}

// Rotate gives the secrets file a new secret, and keeps the old one beside it.
func Rotate(o Options) []Step {
	vars := o.variables()
	vars["secret"] = o.Secret
	return []Step{o.playbook("A secret is made anew", filepath.Join("deployment", "rotate.yml"), vars)}
}

// Retire takes the old one away.
func Retire(o Options) []Step {
	vars := o.variables()
	vars["secret"] = o.Secret
	if o.AtOnce {
		vars["at_once"] = true
	}
	return []Step{o.playbook("The old one of a secret goes", filepath.Join("deployment", "retire.yml"), vars)}
}

func (o Options) variables() map[string]any {
	vars := map[string]any{}
	if o.Run.ID != "" {
		vars["deploy_run_id"] = o.Run.ID
		vars["deploy_pid"] = o.Run.PID
		vars["deploy_what"] = o.Run.What
	}
	return vars
}

func (o Options) playbook(title, path string, vars map[string]any) Step {
	return Step{
		Kind:  Playbook,
		Title: title,
		Plays: o.Plays,
		Command: playbook.NewAnsiblePlaybookCmd(
			playbook.WithPlaybooks(path),
			playbook.WithPlaybookOptions(&playbook.AnsiblePlaybookOptions{
				Inventory:         o.Inventory,
				Check:             o.Check,
				Diff:              o.Check,
				ExtraVars:         vars,
				VaultPasswordFile: o.VaultPasswordFile,
			}),
		),
	}
}

// Print writes the steps for a person, with the commands as one could type them.
func Print(w io.Writer, steps []Step) error {
	for i, step := range steps {
		if _, err := fmt.Fprintf(w, "%d. %s\n", i+1, step.Title); err != nil {
			return err
		}
		for _, play := range step.Plays {
			if _, err := fmt.Fprintf(w, "     %s\n", play); err != nil {
				return err
			}
		}
		if err := printCommand(w, step.Command); err != nil {
			return err
		}
	}
	return nil
}

func printCommand(w io.Writer, command *playbook.AnsiblePlaybookCmd) error {
	if command == nil {
		return nil
	}
	argv, err := command.Command()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "   $ %s\n", remote.Readable(argv...))
	return err
}
