package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"secureconnect/cmd/deploy/internal/exit"
	"secureconnect/cmd/deploy/internal/lock"
)

func (a *app) unlockCommand() *cobra.Command {
	var force bool
	command := &cobra.Command{
		Use:   "unlock",
		Short: "Show who holds the deployment's lock, and remove it if that run is dead",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			description, shell, err := a.reach(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = shell.Close() }()
			l, err := lockOf(description, shell)
			if err != nil {
				return err
			}
			state, err := l.Show(cmd.Context())
			if err != nil {
				return unreachable(err)
			}
			if !state.Held {
				a.print("The lock on %s is free.\n", description.LockHost)
				return nil
			}
			alive, why := state.Owner.Alive()
			a.print("The lock on %s is held by %s: %s.\n", description.LockHost, ownerLine(state.Owner), why)
			if alive && !force {
				return exit.With(exit.Locked, fmt.Errorf("that run may still be at work; --force removes its lock all the same"))
			}
			// By its name, so that a lock somebody took a moment ago stays.
			if state.Owner.RunID == "" {
				state, err = l.Break(cmd.Context())
			} else {
				state, err = l.Release(cmd.Context(), state.Owner.RunID)
			}
			if err != nil {
				return unreachable(err)
			}
			if state.Held {
				return exit.With(exit.Locked, fmt.Errorf("now %s holds it", ownerLine(state.Owner)))
			}
			a.print("It is removed.\n")
			return nil
		},
	}
	command.Flags().BoolVar(&force, "force", false, "remove it although its owner seems to be alive")
	return command
}

func ownerLine(o lock.Owner) string {
	return fmt.Sprintf("%s (pid %d, %s) since %s", o.Owner, o.PID, o.What, time.Duration(o.Age)*time.Second)
}
