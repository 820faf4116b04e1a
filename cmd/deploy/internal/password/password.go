// Package password takes a new password from a person or a pipe; it never appears in an argument.
package password

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// Read asks twice on a terminal, and reads one line from anything else.
func Read(ctx context.Context, in *os.File, prompts io.Writer) ([]byte, error) {
	if !term.IsTerminal(int(in.Fd())) { // #nosec G115 -- a descriptor is a small number
		return fromPipe(in)
	}
	first, err := ask(ctx, in, prompts, "Password: ")
	if err != nil {
		return nil, err
	}
	second, err := ask(ctx, in, prompts, "Once more: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, errors.New("the two passwords differ")
	}
	return first, nil
}

const longest = 4096

func fromPipe(in io.Reader) ([]byte, error) {
	line, err := bufio.NewReader(io.LimitReader(in, longest)).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the password: %w", err)
	}
	line = bytes.TrimRight(line, "\r\n")
	if len(line) == 0 {
		return nil, errors.New("no password on standard input")
	}
	return line, nil
}

// ask reads without an echo. A person who gives up gets the terminal back as it was.
func ask(ctx context.Context, in *os.File, prompts io.Writer, prompt string) ([]byte, error) {
	terminal := int(in.Fd()) // #nosec G115 -- a descriptor is a small number
	before, err := term.GetState(terminal)
	if err != nil {
		return nil, fmt.Errorf("read the password: %w", err)
	}
	_, _ = fmt.Fprint(prompts, prompt)
	type answer struct {
		secret []byte
		err    error
	}
	answered := make(chan answer, 1)
	go func() {
		// Nothing can wake a read of the terminal: after a cancel it ends with the process.
		secret, err := term.ReadPassword(terminal)
		answered <- answer{secret, err}
	}()
	defer func() { _, _ = fmt.Fprintln(prompts) }()
	select {
	case got := <-answered:
		if got.err == nil && len(got.secret) == 0 {
			return nil, errors.New("the password is empty")
		}
		return got.secret, got.err
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), term.Restore(terminal, before))
	}
}
