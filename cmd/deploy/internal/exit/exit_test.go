package exit

import (
	"errors"
	"fmt"
	"testing"
)

func TestCodes(t *testing.T) {
	cause := errors.New("cause")
	for name, c := range map[string]struct {
		err  error
		code Code
	}{
		"nothing":                            {nil, OK},
		"an error without a code":            {cause, Failed},
		"with a code":                        {With(Locked, cause), Locked},
		"wrapped on its way up":              {fmt.Errorf("apply: %w", With(Locked, cause)), Locked},
		"the code nearest to the cause wins": {With(Verify, fmt.Errorf("verify: %w", With(Unreachable, cause))), Unreachable},
		"told keeps a known code":            {Told(Failed, With(Preflight, cause)), Preflight},
		"no error never gets a code":         {With(Failed, nil), OK},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Of(c.err); got != c.code {
				t.Errorf("got %d, want %d", got, c.code)
			}
			if c.err != nil && !errors.Is(c.err, cause) {
				t.Errorf("the cause is lost in %v", c.err)
			}
		})
	}
}
