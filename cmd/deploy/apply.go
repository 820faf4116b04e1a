package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"secureconnect/cmd/deploy/internal/exit"
	"secureconnect/cmd/deploy/internal/images"
	"secureconnect/cmd/deploy/internal/inventory"
	"secureconnect/cmd/deploy/internal/plan"
	"secureconnect/cmd/deploy/internal/report"
	"secureconnect/cmd/deploy/internal/verify"
)

func (a *app) applyCommand() *cobra.Command {
	var options plan.Options
	var dryRun, asJSON bool
	command := &cobra.Command{
		Use:   "apply",
		Short: "Bring the hosts to the state the inventory describes, and verify it",
		Long: "Build the images, run the guide's steps (site.yml), and verify the result as its users would.\n" +
			"Run it as often as you like: what is right already stays untouched, and a run that was\n" +
			"interrupted is finished by the next.\n" + exitCodes,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			j, err := a.newJob("apply", "site.yml", options)
			if err != nil {
				return err
			}
			if dryRun {
				return plan.Print(a.stdout, plan.Apply(j.options))
			}
			return a.carryOut(cmd.Context(), j, plan.Apply, asJSON)
		},
	}
	flags := command.Flags()
	flags.BoolVar(&dryRun, "dry-run", false, "print the steps and do nothing")
	flags.BoolVar(&options.Check, "check", false, "compare the hosts with the description and change nothing on them")
	flags.BoolVar(&options.NoImages, "no-images", false, "use the images as they were built last")
	flags.BoolVar(&options.NoVerify, "no-verify", false, "do not verify afterwards")
	addRunFlags(command, &options, &asJSON)
	return command
}

func (a *app) preflightCommand() *cobra.Command {
	var options plan.Options
	var asJSON bool
	command := &cobra.Command{
		Use:   "preflight",
		Short: "Check whether a deployment could start; change nothing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			j, err := a.newJob("preflight", filepath.Join("deployment", "preflight.yml"), options)
			if err != nil {
				return err
			}
			return a.carryOut(cmd.Context(), j, plan.Preflight, asJSON)
		},
	}
	addRunFlags(command, &options, &asJSON)
	return command
}

func addRunFlags(command *cobra.Command, options *plan.Options, asJSON *bool) {
	command.Flags().BoolVar(asJSON, "json", false, "print one JSON object a line: the events, and the result last")
	command.Flags().StringVar(&options.VaultPasswordFile, "vault-password-file", "",
		"file with the password of an encrypted secrets file")
}

// job is one run of a verb, before it has begun.
type job struct {
	verb    string
	root    string
	name    string // of the inventory
	options plan.Options
}

func (a *app) newJob(verb, playbook string, options plan.Options) (*job, error) {
	root, err := inventory.Root()
	if err != nil {
		return nil, err
	}
	path, err := inventory.Path(root, a.inventory)
	if err != nil {
		return nil, exit.With(exit.Preflight, err)
	}
	source, err := os.ReadFile(filepath.Join(root, playbook)) // #nosec G304 -- in the repository
	if err != nil {
		return nil, err
	}
	options.Inventory = path
	if options.Plays, err = plan.Plays(source); err != nil {
		return nil, err
	}
	if options.VaultPasswordFile != "" {
		// Ansible runs in the repository's folder, the operator may not.
		if options.VaultPasswordFile, err = filepath.Abs(options.VaultPasswordFile); err != nil {
			return nil, err
		}
	}
	return &job{verb: verb, root: root, name: inventory.ShortName(path), options: options}, nil
}

// step carries one step out.
func (r *running) step(ctx context.Context, step plan.Step) error {
	r.report.Step(step.Title)
	switch step.Kind {
	case plan.Images:
		_, err := images.Build(ctx, r.job.root, r.report.Say)
		return err
	case plan.Playbook:
		return r.playbook(ctx, step)
	case plan.Verify:
		return r.verify(ctx)
	}
	return errors.New("unknown step " + string(step.Kind))
}

func (r *running) verify(ctx context.Context) error {
	deployment, err := r.deployment(ctx)
	if err != nil {
		return err
	}
	found, err := verify.Run(ctx, deployment.description, verify.Options{
		Root:              r.job.root,
		Out:               &report.Writer{Say: r.report.Say},
		Shell:             deployment.shell,
		VaultPasswordFile: r.job.options.VaultPasswordFile,
	})
	if err == nil && !found.Passed {
		err = errors.New("verify found what does not work")
	}
	return exit.With(exit.Verify, err)
}
