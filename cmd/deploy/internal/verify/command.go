package verify

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"secureconnect/cmd/deploy/internal/exit"
	"secureconnect/cmd/deploy/internal/inventory"
)

const long = `Prove a deployment from outside, as its users and its attackers would meet it.

The ladder has these rungs:
%s
Each check says in words what it proved. A failure names the cause it found and the variable, file or
command to look at. Accounts that it makes are removed.`

// Command is the verb `deploy verify`. It expects the root's persistent flag --inventory.
func Command() *cobra.Command {
	var opt Options
	var asJSON bool
	var junit string
	var numbers []string
	command := &cobra.Command{
		Use:   "verify",
		Short: "Prove the deployment: edges, closed ports, login, authorization, chat, call, blind",
		Long:  fmt.Sprintf(long, rungLines()),
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			desc, err := described(cmd)
			if err != nil {
				return err
			}
			if !asJSON {
				opt.Out = cmd.OutOrStdout()
			}
			opt.Only = append(opt.Only, numbers...)
			report, err := Run(cmd.Context(), desc, opt)
			if err != nil {
				return err
			}
			return publish(cmd, report, asJSON, junit)
		},
	}
	flags := command.Flags()
	flags.StringSliceVar(&opt.Only, "only", nil, "climb only these rungs, by name: edges,ports,login,authorization,chat,call,blind")
	flags.StringSliceVar(&numbers, "rung", nil, "climb only these rungs, by number: 1,2,3,4,5,7,8")
	flags.BoolVar(&asJSON, "json", false, "print the report as JSON when it is complete")
	flags.StringVar(&junit, "junit", "", "also write the report to this file, as JUnit XML")
	flags.DurationVar(&opt.Timeout, "timeout", time.Minute, "give up after this time")
	flags.StringVar(&opt.VaultPasswordFile, "vault-password-file", "", "file with the password of an encrypted secrets file")
	return command
}

func rungLines() string {
	lines := ""
	for _, r := range ladder {
		lines += fmt.Sprintf("  %d %-13s %s\n", r.number, r.name, r.promise)
	}
	return lines
}

func described(cmd *cobra.Command) (*inventory.Description, error) {
	name, err := cmd.Flags().GetString("inventory")
	if err != nil {
		return nil, err
	}
	root, err := inventory.Root()
	if err != nil {
		return nil, err
	}
	desc, err := inventory.Load(cmd.Context(), root, name)
	return desc, exit.With(exit.Preflight, err)
}

// publish hands the report to whoever reads it. What failed has been told, so the error only ends the run.
func publish(cmd *cobra.Command, report Report, asJSON bool, junit string) error {
	if asJSON {
		if err := report.WriteJSON(cmd.OutOrStdout()); err != nil {
			return fmt.Errorf("print the report: %w", err)
		}
	}
	if junit != "" {
		if err := writeJUnit(junit, report); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	if !report.Passed {
		return exit.Told(exit.Verify, errors.New("verify found what does not work"))
	}
	return nil
}

func writeJUnit(path string, report Report) error {
	file, err := os.Create(path) // #nosec G304 -- named by the operator
	if err != nil {
		return err
	}
	if err := report.WriteJUnit(file); err != nil {
		_ = file.Close() // the first error is the one to tell
		return err
	}
	return file.Close()
}
