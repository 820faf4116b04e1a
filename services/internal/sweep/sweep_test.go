package sweep_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"secureconnect/services/internal/sweep"
)

func TestEveryGoesOnAfterAFailure(t *testing.T) {
	var logged bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	turns := 0
	err := sweep.Every(ctx, slog.New(slog.NewTextHandler(&logged, nil)), time.Millisecond, "crumbs", func(context.Context) error {
		if turns++; turns == 3 {
			cancel()
		}
		return errors.New("broom away")
	})
	if err != nil || turns != 3 {
		t.Errorf("%d turns, %v", turns, err)
	}
	if got := strings.Count(logged.String(), "what=crumbs error=\"broom away\""); got != 2 {
		t.Errorf("%d failures are told, want the two before the end:\n%s", got, logged.String())
	}
}
