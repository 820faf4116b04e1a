package apperr_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"secureconnect/services/internal/apperr"
)

func TestError(t *testing.T) {
	cause := errors.New("disk on fire")
	err := fmt.Errorf("outer: %w", apperr.E("drive.Put", apperr.Unavailable, "Try again.", cause,
		apperr.Code("store_away"), apperr.RetryAfter(time.Second)))

	if !apperr.Is(err, apperr.Unavailable) || apperr.Is(err, apperr.Internal) {
		t.Errorf("kind is %s", apperr.KindOf(err))
	}
	if apperr.CodeOf(err) != "store_away" || apperr.TextOf(err) != "Try again." || apperr.RetryAfterOf(err) != time.Second {
		t.Errorf("got %s, %q, %s", apperr.CodeOf(err), apperr.TextOf(err), apperr.RetryAfterOf(err))
	}
	if !errors.Is(err, cause) {
		t.Error("the cause is lost to the log")
	}
}

func TestKindOf(t *testing.T) {
	inner := apperr.E("a", apperr.NotFound, "Not there.", nil)
	for name, c := range map[string]struct {
		err  error
		want apperr.Kind
	}{
		"plain_error_is_internal": {errors.New("x"), apperr.Internal},
		"outermost_kind_wins":     {apperr.E("b", apperr.Forbidden, "No.", inner), apperr.Forbidden},
		"kind_shows_through_wrap": {fmt.Errorf("w: %w", inner), apperr.NotFound},
	} {
		t.Run(name, func(t *testing.T) {
			if got := apperr.KindOf(c.err); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
	if apperr.Is(nil, apperr.Internal) {
		t.Error("no error is of a kind")
	}
}

func TestPlainErrorTellsTheUserNothing(t *testing.T) {
	if got := apperr.TextOf(errors.New("password is hunter2")); got != "Something went wrong on our side." {
		t.Errorf("the user reads %q", got)
	}
}
