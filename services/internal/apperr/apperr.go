// Package apperr gives an error the kind a caller acts on and the sentence a user may read.
// The cause stays inside: it is for the log and never reaches a client.
package apperr

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what a caller can do about an error. Values are only ever appended.
type Kind uint8

// The kinds. An error without one is Internal.
const (
	Invalid Kind = iota + 1
	Unauthenticated
	Forbidden
	NotFound
	Conflict
	TooMany
	Unavailable
	Internal
	TooLarge
)

var kindCodes = map[Kind]string{
	Invalid:         "invalid",
	Unauthenticated: "unauthenticated",
	Forbidden:       "forbidden",
	NotFound:        "not_found",
	Conflict:        "conflict",
	TooMany:         "too_many_requests",
	Unavailable:     "unavailable",
	Internal:        "internal",
	TooLarge:        "too_large",
}

func (k Kind) String() string {
	if code, known := kindCodes[k]; known {
		return code
	}
	return kindCodes[Internal]
}

// Error is an error with a kind. Build it with E.
type Error struct {
	op         string
	kind       Kind
	text       string
	code       string
	retryAfter time.Duration
	cause      error
}

// Option adds what few errors have.
type Option func(*Error)

// Code names the case for programs; it is stable, part of the interface, and defaults to the kind's name.
func Code(code string) Option { return func(e *Error) { e.code = code } }

// RetryAfter tells when trying again makes sense.
func RetryAfter(d time.Duration) Option { return func(e *Error) { e.retryAfter = d } }

// E builds an error: where it happened, what callers test, what the user may read, what the log gets.
func E(op string, kind Kind, text string, cause error, options ...Option) error {
	e := &Error{op: op, kind: kind, text: text, code: kind.String(), cause: cause}
	for _, apply := range options {
		apply(e)
	}
	return e
}

// OrUnavailable keeps the kind an error has, and gives a store's or a network's own error its kind: it may pass.
func OrUnavailable(op string, err error) error {
	if _, known := find(err); err == nil || known {
		return err
	}
	return E(op, Unavailable, "The system cannot answer right now. Try again.", err, RetryAfter(2*time.Second))
}

// Overrun says that somebody asks too often, and when to ask again: not before a second has passed.
func Overrun(op string, wait time.Duration) error {
	return E(op, TooMany, "Too many requests. Wait a moment.", nil, RetryAfter(max(wait, time.Second)))
}

// Error is the log's view: it holds the cause and must not be sent to a client.
func (e *Error) Error() string {
	if e.cause == nil {
		return fmt.Sprintf("%s: %s (%s)", e.op, e.text, e.code)
	}
	return fmt.Sprintf("%s: %s (%s): %v", e.op, e.text, e.code, e.cause)
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.cause }

// KindOf is the kind of the outermost Error in err's chain, or Internal.
func KindOf(err error) Kind {
	if e, found := find(err); found {
		return e.kind
	}
	return Internal
}

// Is reports whether err is of the kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }

// CodeOf is the stable code of err.
func CodeOf(err error) string {
	if e, found := find(err); found {
		return e.code
	}
	return Internal.String()
}

// TextOf is what the user may read. An error without a kind says nothing about itself.
func TextOf(err error) string {
	if e, found := find(err); found {
		return e.text
	}
	return "Something went wrong on our side."
}

// RetryAfterOf is how long to wait before trying again, or 0.
func RetryAfterOf(err error) time.Duration {
	if e, found := find(err); found {
		return e.retryAfter
	}
	return 0
}

func find(err error) (*Error, bool) {
	var e *Error
	found := errors.As(err, &e)
	return e, found
}
