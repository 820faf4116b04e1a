package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"secureconnect/cmd/deploy/internal/hosts"
	"secureconnect/cmd/deploy/internal/inventory"
)

func (a *app) hostsCommand() *cobra.Command {
	var wish hostsWish
	command := &cobra.Command{
		Use:   "hosts",
		Short: "Print the hosts lines of the deployment's names, or install them on this machine",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if wish.remove && (wish.write || wish.trust) {
				return errors.New("--remove takes back both; it goes with neither --write nor --trust-ca")
			}
			description, err := a.describe(cmd.Context())
			if err != nil {
				return err
			}
			lines, err := hosts.Lines(description)
			if err != nil {
				return err
			}
			return a.doHosts(cmd.Context(), description, lines, wish)
		},
	}
	flags := command.Flags()
	flags.BoolVar(&wish.write, "write", false, "write them into the hosts file (needs root)")
	flags.BoolVar(&wish.trust, "trust-ca", false, "make this machine, and Chromium, trust the deployment's authority (needs root)")
	flags.BoolVar(&wish.remove, "remove", false, "take both back (needs root)")
	flags.StringVar(&wish.file, "hosts-file", "/etc/hosts", "the hosts file")
	return command
}

type hostsWish struct {
	write, trust, remove bool
	file                 string
}

func (a *app) doHosts(ctx context.Context, d *inventory.Description, lines []string, wish hostsWish) error {
	if wish.remove {
		return a.removeHosts(ctx, d, wish)
	}
	if !wish.write && !wish.trust {
		a.print("%s\n", strings.Join(lines, "\n"))
		return nil
	}
	if wish.write {
		if err := a.writeHosts(d, lines, wish.file); err != nil {
			return err
		}
	}
	if !wish.trust {
		return nil
	}
	if d.CAFile == "" {
		return errors.New("edge_tls has no authority of its own here, so there is none to trust")
	}
	done, err := hosts.System.Add(ctx, d.PublicDomain, d.CAFile)
	a.tell(done, err, "The authority is trusted already.")
	return err
}

func (a *app) removeHosts(ctx context.Context, d *inventory.Description, wish hostsWish) error {
	if err := a.writeHosts(d, nil, wish.file); err != nil {
		return err
	}
	done, err := hosts.System.Remove(ctx, d.PublicDomain)
	a.tell(done, err, "The authority was not trusted.")
	return err
}

func (a *app) writeHosts(d *inventory.Description, lines []string, file string) error {
	changed, err := hosts.Write(file, d.PublicDomain, lines)
	switch {
	case err != nil:
		return err
	case !changed:
		a.print("%s is right already.\n", file)
	case len(lines) == 0:
		a.print("%s: the names are removed.\n", file)
	default:
		a.print("%s:\n  %s\n", file, strings.Join(lines, "\n  "))
	}
	return nil
}

func (a *app) tell(done []string, err error, nothing string) {
	for _, line := range done {
		a.print("%s.\n", line)
	}
	if len(done) == 0 && err == nil {
		a.print("%s\n", nothing)
	}
}
