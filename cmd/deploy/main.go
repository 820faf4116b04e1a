// Command deploy is the operator's tool: it carries out the guide, proves the result, and shows
// and changes what runs. It drives Ansible and never replaces it: `ansible-playbook site.yml`
// does the same deployment.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"secureconnect/cmd/deploy/internal/exit"
)

func main() { os.Exit(int(execute())) }

func execute() exit.Code {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	// A reader of our output that leaves (`| head`) must not kill a deployment half way. A handler,
	// unlike ignoring, is not inherited by the programs we start.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	err := newCommand(&app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}).ExecuteContext(ctx)
	if err == nil {
		return exit.OK
	}
	if told := new(exit.Error); !errors.As(err, &told) || !told.Told {
		_, _ = fmt.Fprintln(os.Stderr, "deploy:", err)
	}
	if ctx.Err() != nil {
		return exit.Cancelled
	}
	return exit.Of(err)
}
