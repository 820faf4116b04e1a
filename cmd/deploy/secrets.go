package main

import (
	"github.com/spf13/cobra"

	"secureconnect/cmd/deploy/internal/secrets"
)

func (a *app) secretsCommand() *cobra.Command {
	var passwordFile string
	command := &cobra.Command{
		Use:   "secrets",
		Short: "Tell where the deployment's secrets are and which there are, never what they are",
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
