package keys

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v5"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/web"
	"secureconnect/services/internal/wire"
)

// BodyLimit is what the largest request weighs: one room key for every device of the largest group, 2000 of them at
// 2.5 KB each, in one request. The server that these routes are mounted on lets that much through.
const BodyLimit = 6 << 20

const (
	// usualLimit is for all other routes.
	usualLimit = 1 << 20

	// A request above heavyBody bytes takes several times its size in memory while it is read, so few are read at once.
	// The others wait for as long as their clients do.
	heavyBody   = 256 << 10
	heavyAtOnce = 4
)

// api is the directory's HTTP interface. Its handlers bind, call one method of the service, and answer.
type api struct {
	service *Service
}

// Routes adds the directory's interface to e. Paths are ours, bodies are Matrix's.
func Routes(e *echo.Echo, service *Service, authenticate web.Authenticator) {
	a := &api{service: service}
	keys := e.Group("/v1/keys", web.NoStore, web.Authenticate(authenticate), fewHeavy())
	keys.PUT("/sendToDevice/:type/:txn", a.sendToDevice)

	keys = e.Group("/v1/keys", web.NoStore, web.LimitBody(usualLimit), web.Authenticate(authenticate))
	keys.POST("/upload", answering(service.Upload))
	keys.POST("/query", answering(service.Query))
	keys.POST("/claim", answering(service.Claim))
	keys.POST("/device_signing/upload", answering(a.publishIdentity))
	keys.POST("/signatures/upload", answering(service.PublishSignatures))
	keys.GET("/sync", a.sync)
	keys.POST("/backup/version", answering(service.NewBackup))
	keys.GET("/backup/version", a.backup)
	keys.GET("/backup/version/:version", a.backup)
	keys.DELETE("/backup/version/:version", a.removeBackup)
	keys.PUT("/backup/keys", a.storeBackup)
	keys.GET("/backup/keys", a.readBackup)
}

func fewHeavy() echo.MiddlewareFunc {
	slots := make(chan struct{}, heavyAtOnce)
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c *echo.Context) error {
			if size := c.Request().ContentLength; size >= 0 && size <= heavyBody {
				return next(c)
			}
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
				return next(c)
			case <-c.Request().Context().Done():
				return apperr.OrUnavailable("keys.fewHeavy", c.Request().Context().Err())
			}
		}
	}
}

// answering binds a body, calls ask and answers with what it gives.
func answering[Body, Answer any](ask func(context.Context, wire.Session, Body) (Answer, error)) echo.HandlerFunc {
	return func(c *echo.Context) error {
		caller, err := web.Caller(c)
		if err != nil {
			return err
		}
		body, err := web.BindOpen[Body](c)
		if err != nil {
			return err
		}
		answer, err := ask(c.Request().Context(), caller, body)
		if err != nil {
			return err
		}
		return c.JSON(http.StatusOK, answer)
	}
}

// nothing is the answer of calls that Matrix answers with an empty object.
type nothing struct{}

func (a *api) publishIdentity(ctx context.Context, caller wire.Session, body wire.IdentityUpload) (nothing, error) {
	return nothing{}, a.service.PublishIdentity(ctx, caller, body)
}

func (a *api) sendToDevice(c *echo.Context) error {
	return answering(func(ctx context.Context, caller wire.Session, body wire.ToDevice) (wire.ToDeviceSent, error) {
		return a.service.SendToDevice(ctx, caller, c.Param("type"), c.Param("txn"), body)
	})(c)
}

func (a *api) sync(c *echo.Context) error {
	caller, err := web.Caller(c)
	if err != nil {
		return err
	}
	wait, err := waitOf(c.QueryParam("timeout"))
	if err != nil {
		return err
	}
	page, err := a.service.Sync(c.Request().Context(), caller, c.QueryParam("since"), wait)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, page)
}

// waitOf reads milliseconds; none is no wait.
func waitOf(timeout string) (time.Duration, error) {
	if timeout == "" {
		return 0, nil
	}
	milliseconds, err := strconv.ParseUint(timeout, 10, 31)
	if err != nil {
		return 0, apperr.E("keys.waitOf", apperr.Invalid, "The timeout is a number of milliseconds.", err, apperr.Code("invalid_timeout"))
	}
	return time.Duration(milliseconds) * time.Millisecond, nil
}

func (a *api) backup(c *echo.Context) error {
	caller, err := web.Caller(c)
	if err != nil {
		return err
	}
	state, err := a.service.Backup(c.Request().Context(), caller, c.Param("version"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, state)
}

func (a *api) removeBackup(c *echo.Context) error {
	caller, err := web.Caller(c)
	if err != nil {
		return err
	}
	if err := a.service.RemoveBackup(c.Request().Context(), caller, c.Param("version")); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, nothing{})
}

func (a *api) storeBackup(c *echo.Context) error {
	return answering(func(ctx context.Context, caller wire.Session, body wire.BackupKeys) (wire.BackupStored, error) {
		return a.service.StoreBackup(ctx, caller, c.QueryParam("version"), body)
	})(c)
}

// readBackup writes keys as they are read: all of them together may be more than a request should hold.
func (a *api) readBackup(c *echo.Context) error {
	caller, err := web.Caller(c)
	if err != nil {
		return err
	}
	w := &backupWriter{c: c}
	err = a.service.ReadBackup(c.Request().Context(), caller, c.QueryParam("version"), c.QueryParam("room_id"), c.QueryParam("session_id"), w.add)
	if err != nil && w.begun {
		panic(http.ErrAbortHandler) // the client must not take what it has for all
	}
	if err != nil {
		return err
	}
	return w.end()
}

// backupWriter writes a wire.BackupKeys piece by piece.
type backupWriter struct {
	c     *echo.Context
	begun bool
	room  string
}

func (w *backupWriter) add(row backupRow) error {
	before := `,`
	switch {
	case !w.begun:
		before = w.begin() + w.openRoom(row.room)
	case w.room != row.room:
		before = `}},` + w.openRoom(row.room)
	}
	key, err := json.Marshal(row.key)
	if err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return w.write(before + quoted(row.session) + `:` + string(key))
}

func (w *backupWriter) begin() string {
	w.begun = true
	w.c.Response().Header().Set("Content-Type", "application/json")
	return `{"rooms":{`
}

func (w *backupWriter) openRoom(room string) string {
	w.room = room
	return quoted(room) + `:{"sessions":{`
}

func (w *backupWriter) end() error {
	if !w.begun {
		return w.write(w.begin() + `}}`)
	}
	return w.write(`}}}}`)
}

func (w *backupWriter) write(text string) error {
	if _, err := w.c.Response().Write([]byte(text)); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return nil
}

func quoted(text string) string { return string(appendString(nil, text)) }
