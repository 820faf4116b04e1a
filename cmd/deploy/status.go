package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"secureconnect/cmd/deploy/internal/exit"
	"secureconnect/cmd/deploy/internal/images"
	"secureconnect/cmd/deploy/internal/inventory"
	"secureconnect/cmd/deploy/internal/lock"
	"secureconnect/cmd/deploy/internal/remote"
	"secureconnect/cmd/deploy/internal/status"
)

func (a *app) statusCommand() *cobra.Command {
	var asJSON bool
	command := &cobra.Command{
		Use:   "status",
		Short: "Show what runs on every host, who changed it last, and the lock",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			description, shell, err := a.reach(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = shell.Close() }()
			hosts := status.Look(cmd.Context(), shell, groupsOf(description), builtImages(description.Root))
			held, lockErr := lockState(cmd.Context(), description, shell)
			if asJSON {
				err = json.NewEncoder(a.stdout).Encode(map[string]any{"hosts": hosts, "lock": held})
			} else {
				err = status.Print(a.stdout, hosts)
				a.printLock(held, lockErr)
			}
			return errors.Join(err, judge(hosts))
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return command
}

func groupsOf(description *inventory.Description) map[string][]string {
	groups := make(map[string][]string, len(description.Hosts))
	for name, host := range description.Hosts {
		groups[name] = host.Groups
	}
	return groups
}

// builtImages are the references of the last build; where nothing was built, none is current.
func builtImages(root string) []string {
	manifest, err := images.ReadManifest(root)
	if err != nil {
		return nil
	}
	refs := make([]string, 0, len(manifest.Images))
	for _, image := range manifest.Images {
		refs = append(refs, image.Ref)
	}
	return refs
}

func lockState(ctx context.Context, description *inventory.Description, shell lock.Shell) (lock.State, error) {
	l, err := lockOf(description, shell)
	if err != nil {
		return lock.State{}, err
	}
	return l.Show(ctx)
}

func (a *app) printLock(held lock.State, err error) {
	switch {
	case err != nil:
		a.print("lock: unknown\n")
	case held.Held:
		_, why := held.Owner.Alive()
		a.print("lock: held by %s: %s\n", ownerLine(held.Owner), why)
	default:
		a.print("lock: free\n")
	}
}

// judge turns what was seen into the exit code.
func judge(hosts []status.Host) error {
	var away, sick []string
	for _, host := range hosts {
		if gone := new(remote.Error); errors.As(host.Err, &gone) && gone.Unreachable {
			away = append(away, host.Name)
			continue
		}
		if host.Err != nil {
			sick = append(sick, host.Name)
		}
		for _, container := range host.Containers {
			if !container.Well() {
				sick = append(sick, container.Name+" on "+host.Name)
			}
		}
	}
	if len(away) > 0 {
		return exit.With(exit.Unreachable, fmt.Errorf("cannot be reached: %s", strings.Join(away, ", ")))
	}
	if len(sick) > 0 {
		return exit.With(exit.Failed, fmt.Errorf("not well: %s", strings.Join(sick, ", ")))
	}
	return nil
}
