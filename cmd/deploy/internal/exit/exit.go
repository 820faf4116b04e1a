// Package exit gives every way a verb can end its number, so that a script can act on it.
// It decides nothing: whoever knows what happened wraps the error with With.
package exit

import "errors"

// Code is the exit status of deploy.
type Code int

// The codes are part of the command line's promise and only ever get company.
const (
	OK          Code = 0
	Failed      Code = 1
	Unreachable Code = 2
	Preflight   Code = 3
	Verify      Code = 4
	Locked      Code = 5
	Cancelled   Code = 130
)

// Error is an error with the status the process ends with.
type Error struct {
	Code Code
	Err  error
	Told bool // the person has read about it already
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// With gives err a code; nil stays nil, and a code that was given nearer to the cause stays.
func With(code Code, err error) error {
	if err == nil {
		return nil
	}
	if known := new(Error); errors.As(err, &known) {
		return err
	}
	return &Error{Code: code, Err: err}
}

// Told gives err a code, too, and says that nothing more needs to be printed about it.
func Told(code Code, err error) error {
	if err == nil {
		return nil
	}
	if known := new(Error); errors.As(err, &known) {
		code = known.Code
	}
	return &Error{Code: code, Err: err, Told: true}
}

// Of is the status for err: Failed unless somebody knew better.
func Of(err error) Code {
	if err == nil {
		return OK
	}
	if known := new(Error); errors.As(err, &known) {
		return known.Code
	}
	return Failed
}
