package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"secureconnect/cmd/deploy/internal/exit"
	"secureconnect/cmd/deploy/internal/images"
	"secureconnect/cmd/deploy/internal/inventory"
	"secureconnect/cmd/deploy/internal/lab"
	"secureconnect/cmd/deploy/internal/lock"
	"secureconnect/cmd/deploy/internal/remote"
	"secureconnect/cmd/deploy/internal/verify"
)

// app is what every verb needs of the process.
type app struct {
	stdin          *os.File
	stdout, stderr *os.File
	inventory      string // what the operator wrote after -i
}

const exitCodes = `
Exit codes: 0 ok, 1 failed, 2 a host cannot be reached, 3 preflight refused, 4 verify failed,
5 another run holds the lock, 130 cancelled.`

func newCommand(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:           "deploy",
		Short:         "Deploy SecureConnect and prove that it works",
		Long:          "Deploy SecureConnect onto the hosts of an inventory, and prove that it works.\n" + exitCodes,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVarP(&a.inventory, "inventory", "i", "lab",
		"inventory: a name below inventories/, the name of a lab, or a path")
	root.AddCommand(
		a.applyCommand(),
		coded(verify.Command(), exit.Verify),
		a.statusCommand(),
		a.preflightCommand(),
		a.hostsCommand(),
		a.secretsCommand(),
		a.userCommand(),
		a.unlockCommand(),
		images.Command(),
		lab.Command(),
	)
	return root
}

// coded gives the failures of a command a code of their own.
func coded(command *cobra.Command, code exit.Code) *cobra.Command {
	work := command.RunE
	command.RunE = func(cmd *cobra.Command, args []string) error {
		return exit.With(code, work(cmd, args))
	}
	return command
}

// describe reads the inventory. One that cannot be read is a deployment that could not start.
func (a *app) describe(ctx context.Context) (*inventory.Description, error) {
	root, err := inventory.Root()
	if err != nil {
		return nil, err
	}
	description, err := inventory.Load(ctx, root, a.inventory)
	return description, exit.With(exit.Preflight, err)
}

// reach prepares the way to the hosts; the caller closes it.
func (a *app) reach(ctx context.Context) (*inventory.Description, *remote.Remote, error) {
	description, err := a.describe(ctx)
	if err != nil {
		return nil, nil, err
	}
	shell, err := remote.New(description)
	return description, shell, err
}

// lockOf is the lock of a deployment.
func lockOf(description *inventory.Description, shell lock.Shell) (*lock.Lock, error) {
	return lock.New(description.Root, shell, description.LockHost)
}

func (a *app) print(format string, args ...any) {
	_, _ = fmt.Fprintf(a.stdout, format, args...) // a reader that left needs no answer
}
