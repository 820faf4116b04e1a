package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"secureconnect/cmd/deploy/internal/exit"
	"secureconnect/cmd/deploy/internal/images/docker"
	"secureconnect/cmd/deploy/internal/inventory"
)

// Command is `deploy lab`.
func Command() *cobra.Command {
	cmd := &cobra.Command{Use: "lab", Short: "Servers on this machine to deploy to"}
	var o Options
	cmd.PersistentFlags().StringVar(&o.Name, "name", "", "`NAME` of the lab, which is also its inventory's (default lab)")
	cmd.AddCommand(upCommand(&o), downCommand(&o), statusCommand(&o), sshCommand(&o), runCommand(&o))
	return cmd
}

func upCommand(o *Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Make the servers, or start those that are stopped",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			root, err := inventory.Root()
			if err != nil {
				return err
			}
			return Up(cmd.Context(), root, *o, toLines(cmd.OutOrStdout()))
		},
	}
	cmd.Flags().StringVar(&o.Topology, "topology", "", "lab (five servers) or all-in-one (default lab, or what the name says)")
	cmd.Flags().StringVar(&o.Subnet, "subnet", "", "`CIDR` of 24 bits, for a lab of another name")
	return cmd
}

func downCommand(o *Options) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Remove the servers and everything they hold",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			root, err := inventory.Root()
			if err != nil {
				return err
			}
			return Down(cmd.Context(), root, nameOr(*o), toLines(cmd.OutOrStdout()))
		},
	}
}

func statusCommand(o *Options) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the servers of one lab, or of all",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			servers, err := Status(cmd.Context(), o.Name)
			if err != nil {
				return err
			}
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 3, ' ', 0)
			lines := []string{"LAB\tHOST\tADDRESS\tDEBIAN\tSTATE"}
			for _, s := range servers {
				lines = append(lines, strings.Join([]string{s.Lab, s.Host, s.Address, s.Debian, s.State}, "\t"))
			}
			if _, err := fmt.Fprintln(table, strings.Join(lines, "\n")); err != nil {
				return err
			}
			return table.Flush()
		},
	}
}

func sshCommand(o *Options) *cobra.Command {
	return &cobra.Command{
		Use:   "ssh HOST",
		Short: "Log in to a server",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			root, err := inventory.Root()
			if err != nil {
				return err
			}
			s, err := find(cmd.Context(), nameOr(*o), args[0])
			if err != nil {
				return err
			}
			client := exec.Command("ssh", sshArgs(labDir(root, s.Lab), s.Address)...) // #nosec G204 -- argv is built here
			return attached(client)
		},
	}
}

func sshArgs(dir, address string) []string {
	return []string{
		"-i", filepath.Join(dir, keyName), "-o", "IdentitiesOnly=yes",
		"-o", "UserKnownHostsFile=" + filepath.Join(dir, "known_hosts"), "-o", "StrictHostKeyChecking=yes",
		"root@" + address,
	}
}

func runCommand(o *Options) *cobra.Command {
	return &cobra.Command{
		Use:   "run HOST -- COMMAND [ARGUMENT…]",
		Short: "Run a command on a server, and end as it ends",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := find(cmd.Context(), nameOr(*o), args[0])
			if err != nil {
				return err
			}
			mode := "-i"
			if term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stdout.Fd())) {
				mode = "-it"
			}
			argv := append([]string{"exec", mode, "--workdir", "/root", resource(s.Lab, s.Host)}, args[1:]...)
			client := docker.Command(context.WithoutCancel(cmd.Context()), argv...)
			client.SysProcAttr = nil // the terminal's own: a Ctrl-C is the command's to hear
			return attached(client)
		},
	}
}

// attached gives cmd this process's terminal, and its status to this process.
func attached(cmd *exec.Cmd) error {
	signal.Ignore(os.Interrupt)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	if status := new(exec.ExitError); errors.As(err, &status) {
		return exit.With(exit.Code(status.ExitCode()), fmt.Errorf("%s ended with status %d", cmd.Args[0], status.ExitCode()))
	}
	return err
}

func toLines(w io.Writer) func(line string) {
	return func(line string) { _, _ = fmt.Fprintln(w, line) } // a closed terminal stops nothing
}

func nameOr(o Options) string {
	if o.Name == "" {
		return topologyFive
	}
	return o.Name
}
