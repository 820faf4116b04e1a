package main

import (
	"errors"

	"secureconnect/cmd/deploy/internal/exit"
	"secureconnect/cmd/deploy/internal/remote"
)

// unreachable gives an error of a host its exit code.
func unreachable(err error) error {
	if away := new(remote.Error); errors.As(err, &away) && away.Unreachable {
		return exit.With(exit.Unreachable, err)
	}
	return err
}
