package main

import (
	"context"
	"path/filepath"

	"github.com/spf13/cobra"

	"secureconnect/cmd/deploy/internal/plan"
	"secureconnect/cmd/deploy/internal/secrets"
)

func (a *app) secretsCommand() *cobra.Command {
	var passwordFile string
	command := &cobra.Command{
		Use:   "secrets",
		Short: "Tell where the deployment's secrets are and which there are, never what they are, and rotate them",
	}
	command.PersistentFlags().StringVar(&passwordFile, "vault-password-file", "",
		"file with the password of an encrypted secrets file")
	command.AddCommand(
		&cobra.Command{
			Use:   "path",
			Short: "Print the file's path",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				description, err := a.describe(cmd.Context())
				if err != nil {
					return err
				}
				a.print("%s\n", description.SecretsFile)
				return nil
			},
		},
		a.secretsList("list", "Print the names", &passwordFile, func(e secrets.Entry) string { return e.Name }),
		a.secretsList("fingerprint", "Print what tells each apart from another, as hosts keep it", &passwordFile,
			func(e secrets.Entry) string { return e.Fingerprint + "  " + e.Name }),
		a.rotateCommand(&passwordFile),
		a.retireCommand(&passwordFile),
	)
	return command
}

func (a *app) secretsList(use, short string, passwordFile *string, line func(secrets.Entry) string) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			description, err := a.describe(cmd.Context())
			if err != nil {
				return err
			}
			entries, err := secrets.Read(cmd.Context(), description.Root, description.SecretsFile, *passwordFile)
			if err != nil {
				return err
			}
			for _, entry := range entries {
				a.print("%s\n", line(entry))
			}
			return nil
		},
	}
}

// rotatable are the secrets of which the parts that use them accept two at a time.
var rotatable = []cobra.Completion{"turn"}

func (a *app) rotateCommand(passwordFile *string) *cobra.Command {
	return &cobra.Command{
		Use:   "rotate turn",
		Short: "Make a secret anew, and keep the old one beside it until it is retired",
		Long: "Make a secret anew in the secrets file, and keep the old one beside it. The next apply has the TURN\n" +
			"server accept both, and the services use the new one; calls go on. Ten minutes after that apply nobody\n" +
			"has credentials of the old one any more: `deploy secrets retire turn`, and apply again.\n" +
			"Whoever else deploys needs a copy of the file: an older one is refused.",
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: rotatable,
		RunE: func(cmd *cobra.Command, args []string) error {
			options := plan.Options{Secret: args[0], VaultPasswordFile: *passwordFile}
			if err := a.carryOutSecret(cmd.Context(), "rotate", options, plan.Rotate); err != nil {
				return err
			}
			a.print("Next: `deploy apply -i %[1]s`; ten minutes later `deploy secrets retire %[2]s -i %[1]s`, and apply once more.\n", a.inventory, args[0])
			return nil
		},
	}
}

func (a *app) retireCommand(passwordFile *string) *cobra.Command {
	var options plan.Options
	command := &cobra.Command{
		Use:   "retire turn",
		Short: "End a rotation: the old secret is no longer accepted",
		Long: "Take the old secret out of the secrets file; with the next apply the TURN server refuses what was made\n" +
			"with it. That is refused itself as long as a service uses the old one, or credentials made with it may\n" +
			"still be good.",
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: rotatable,
		RunE: func(cmd *cobra.Command, args []string) error {
			options.Secret, options.VaultPasswordFile = args[0], *passwordFile
			if err := a.carryOutSecret(cmd.Context(), "retire", options, plan.Retire); err != nil {
				return err
			}
			a.print("Next: `deploy apply -i %s`.\n", a.inventory)
			return nil
		},
	}
	command.Flags().BoolVar(&options.AtOnce, "at-once", false,
		"do not wait for credentials made with it to end: for a secret that became known to somebody")
	return command
}

func (a *app) carryOutSecret(ctx context.Context, verb string, options plan.Options, steps func(plan.Options) []plan.Step) error {
	j, err := a.newJob(verb, filepath.Join("deployment", verb+".yml"), options)
	if err != nil {
		return err
	}
	return a.carryOut(ctx, j, steps, false)
}
