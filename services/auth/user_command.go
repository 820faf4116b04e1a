package auth

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"secureconnect/services/internal/config"
)

// UserCommand is `secureconnect user`: what an operator does about accounts, from an app host.
func UserCommand() *cobra.Command {
	by := "console"
	command := &cobra.Command{
		Use:   "user",
		Short: "Add, invite, disable, list and remove users",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	command.PersistentFlags().StringVar(&by, "by", by, "who does this, for the audit")
	command.AddCommand(
		addCommand(&by), inviteCommand(&by), resetCommand(&by), listCommand(&by),
		nameCommand(&by, "disable", "End a user's sessions and let nobody log in to the account", "is disabled; all sessions have ended.", Operator.Disable),
		nameCommand(&by, "enable", "Let a disabled user log in again", "can log in again.", Operator.Enable),
		nameCommand(&by, "remove", "Delete a user with all sessions", "is removed.", Operator.Remove),
	)
	return command
}

// withOperator runs work with the stores of the environment. Log lines go to stderr: stdout is for answers.
func withOperator(cmd *cobra.Command, by string, work func(ctx context.Context, o Operator) error) error {
	settings, err := ReadConfig(config.FromEnvironment())
	if err != nil {
		return err
	}
	settings.SQL.MaxConns = 2
	log := slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), nil)).With("service", "auth", "app_host", settings.AppHost)
	service, done, err := open(cmd.Context(), log, settings)
	if err != nil {
		return err
	}
	defer done()
	return work(cmd.Context(), Operator{Service: service, By: by})
}

func addCommand(by *string) *cobra.Command {
	var displayName string
	var expires time.Duration
	command := &cobra.Command{
		Use:   "add NAME",
		Short: "Add a user; the password is one line on stdin",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			password, err := readPassword(cmd.InOrStdin())
			if err != nil {
				return err
			}
			return withOperator(cmd, *by, func(ctx context.Context, o Operator) error {
				user, err := o.Add(ctx, args[0], displayName, password, expires)
				if err != nil {
					return err
				}
				return say(cmd, user.Username, "can log in.")
			})
		},
	}
	command.Flags().StringVar(&displayName, "display-name", "", "the name others see (default NAME)")
	command.Flags().DurationVar(&expires, "expires", 0, "remove the account after this time, such as 1h (default never)")
	return command
}

func inviteCommand(by *string) *cobra.Command {
	uses, expires := 1, 7*24*time.Hour
	command := &cobra.Command{
		Use:   "invite",
		Short: "Print a code with which people can register",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withOperator(cmd, *by, func(ctx context.Context, o Operator) error {
				code, err := o.Invite(ctx, uses, expires)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), code.Reveal())
				return err
			})
		},
	}
	command.Flags().IntVar(&uses, "uses", uses, "how many accounts it is good for")
	command.Flags().DurationVar(&expires, "expires", expires, "how long it is good")
	return command
}

func resetCommand(by *string) *cobra.Command {
	return &cobra.Command{
		Use:   "reset-password NAME",
		Short: "Set a user's password and end the user's sessions; the password is one line on stdin",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			password, err := readPassword(cmd.InOrStdin())
			if err != nil {
				return err
			}
			return withOperator(cmd, *by, func(ctx context.Context, o Operator) error {
				if err := o.ResetPassword(ctx, args[0], password); err != nil {
					return err
				}
				return say(cmd, args[0], "has a new password; all sessions have ended.")
			})
		},
	}
}

func nameCommand(by *string, verb, short, done string, do func(Operator, context.Context, string) error) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " NAME",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withOperator(cmd, *by, func(ctx context.Context, o Operator) error {
				if err := do(o, ctx, args[0]); err != nil {
					return err
				}
				return say(cmd, args[0], done)
			})
		},
	}
}

// say tells an operator what became of name.
func say(cmd *cobra.Command, name, what string) error {
	_, err := fmt.Fprintln(cmd.OutOrStdout(), name, what)
	return err
}

func listCommand(by *string) *cobra.Command {
	asJSON := false
	command := &cobra.Command{
		Use:   "list",
		Short: "List the users",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withOperator(cmd, *by, func(ctx context.Context, o Operator) error {
				users, err := o.List(ctx)
				if err != nil {
					return err
				}
				if asJSON {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(users)
				}
				return printUsers(cmd.OutOrStdout(), users)
			})
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return command
}

func printUsers(out io.Writer, users []Listed) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "USERNAME\tDISPLAY NAME\tCREATED\tEXPIRES\tSTATE\tSESSIONS")
	for _, user := range users {
		expires, state := "never", "active"
		if user.ExpiresAt != nil {
			expires = user.ExpiresAt.UTC().Format(time.RFC3339)
		}
		if user.Disabled {
			state = "disabled"
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\n", user.Username, user.DisplayName,
			user.CreatedAt.UTC().Format(time.DateOnly), expires, state, user.Sessions)
	}
	return table.Flush()
}

var errNoPassword = errors.New("no password on stdin: send it as one line")

const maxPasswordLine = 4096

// readPassword takes the first line. A terminal would show what is typed, so it must be sent.
func readPassword(in io.Reader) (config.Secret, error) {
	if file, isFile := in.(*os.File); isFile && isTerminal(file) {
		return config.Secret{}, errNoPassword
	}
	line, err := bufio.NewReader(io.LimitReader(in, maxPasswordLine)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return config.Secret{}, fmt.Errorf("read the password: %w", err)
	}
	password := config.NewSecret(strings.TrimRight(line, "\r\n"))
	if password.Empty() {
		return config.Secret{}, errNoPassword
	}
	return password, nil
}

func isTerminal(file *os.File) bool {
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
