package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"

	"secureconnect/cmd/deploy/internal/inventory"
	"secureconnect/cmd/deploy/internal/password"
	"secureconnect/cmd/deploy/internal/remote"
)

func (a *app) userCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "user",
		Short: "Add, invite, disable, enable, remove and list the people who may log in",
		Long: "Change the accounts of a running deployment, through the auth service on the first app host that runs one.\n" +
			"A password is asked for on the terminal, or read as one line from standard input.",
	}
	command.AddCommand(
		a.userVerb("add NAME", "Add a person", true, map[string]string{
			"display-name": "the name others see",
			"expires":      "remove the account after this time, as 1h",
		}),
		a.userVerb("invite", "Print a code with which somebody may register", false, map[string]string{
			"uses":    "how many may register with it",
			"expires": "how long it is good, as 48h",
		}),
		a.userVerb("disable NAME", "End a person's sessions and let them in no more", false, nil),
		a.userVerb("enable NAME", "Let a disabled person log in again", false, nil),
		a.userVerb("reset-password NAME", "Give a person a new password and end their sessions", true, nil),
		a.userVerb("remove NAME", "Remove a person and what belongs to them", false, nil),
		a.userVerb("list", "List everybody", false, nil),
	)
	return command
}

// userVerb is one verb of the service's own `user` command, with the flags it takes.
func (a *app) userVerb(use, short string, wantsPassword bool, flags map[string]string) *cobra.Command {
	verb, argument, _ := strings.Cut(use, " ")
	arguments := cobra.NoArgs
	if argument != "" {
		arguments = cobra.ExactArgs(1)
	}
	command := &cobra.Command{Use: use, Short: short, Args: arguments}
	values := make(map[string]*string, len(flags))
	for name, help := range flags {
		values[name] = command.Flags().String(name, "", help)
	}
	command.RunE = func(cmd *cobra.Command, args []string) error {
		argv := append([]string{"user", verb}, args...)
		for _, name := range []string{"display-name", "uses", "expires"} {
			if value, ok := values[name]; ok && cmd.Flags().Changed(name) {
				argv = append(argv, "--"+name, *value)
			}
		}
		return a.askService(cmd.Context(), argv, wantsPassword)
	}
	return command
}

func (a *app) askService(ctx context.Context, argv []string, wantsPassword bool) error {
	var stdin io.Reader
	if wantsPassword {
		secret, err := password.Read(ctx, a.stdin, a.stderr)
		if err != nil {
			return err
		}
		stdin = bytes.NewReader(append(secret, '\n'))
	}
	description, shell, err := a.reach(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = shell.Close() }()
	host, err := runningAuth(ctx, description, shell)
	if err != nil {
		return err
	}
	said, err := shell.Run(ctx, host, stdin, inAuth(description, argv)...)
	_, writeErr := a.stdout.Write(said)
	if refused := new(remote.Error); errors.As(err, &refused) && !refused.Unreachable && refused.Stderr != "" {
		// The service's own words; where they were said is no help here.
		return errors.New(refused.Stderr)
	}
	if err != nil {
		return unreachable(err)
	}
	if errors.Is(writeErr, os.ErrClosed) {
		return nil
	}
	return writeErr
}

// runningAuth is the first app host whose auth service runs: accounts are the deployment's, and one host may be down.
func runningAuth(ctx context.Context, description *inventory.Description, shell *remote.Remote) (string, error) {
	var failed *multierror.Error
	for _, host := range description.Groups["app"] {
		_, err := shell.Run(ctx, host, nil, inAuth(description, []string{"version"})...)
		if err == nil {
			return host, nil
		}
		failed = multierror.Append(failed, err)
	}
	if failed == nil {
		return "", errors.New("the inventory's group app has no host")
	}
	return "", unreachable(fmt.Errorf("auth runs on no app host (see deploy status): %w", failed))
}

// inAuth runs the service binary inside the auth container.
func inAuth(description *inventory.Description, argv []string) []string {
	project := path.Join(description.RemoteRoot, "app")
	return append([]string{
		"docker", "compose", "--project-directory", project, "-f", path.Join(project, "compose.yml"),
		"exec", "-T", "auth", "/secureconnect",
	}, argv...)
}
