package video

import (
	"net/http"
	"strconv"

	"github.com/labstack/echo/v5"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/web"
	"secureconnect/services/internal/wire"
)

// api is video's HTTP interface. Its handlers bind, call one method of the service, and answer.
type api struct {
	service *Service
}

// Routes adds video's interface to e, but for the socket.
func Routes(e *echo.Echo, service *Service) {
	a := &api{service: service}
	private := e.Group("/v1/calls", web.NoStore, web.Authenticate(service.Authenticate))
	private.POST("", a.begin)
	private.GET("", a.calls)
	private.POST("/test", a.test)
	private.GET("/history", a.history)
	private.PUT("/history/seen", a.seen)
	private.GET("/:id", a.call)
	private.POST("/:id/decline", a.decline)
	private.POST("/:id/leave", a.leave)
}

// placeOf is who asks, and about which call. What cannot be one is a call that is not there.
func placeOf(c *echo.Context) (caller wire.Session, id wire.CallID, err error) {
	if caller, err = web.Caller(c); err != nil {
		return wire.Session{}, "", err
	}
	if id, err = wire.ParseCallID(c.Param("id")); err != nil {
		return wire.Session{}, "", noCall("video.http")
	}
	return caller, id, nil
}

func (a *api) begin(c *echo.Context) error {
	caller, err := web.Caller(c)
	if err != nil {
		return err
	}
	body, err := web.Bind[wire.CallRequest](c)
	if err != nil {
		return err
	}
	begun, isNew, err := a.service.Begin(c.Request().Context(), caller, body)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if isNew {
		status = http.StatusCreated
	}
	return c.JSON(status, begun)
}

func (a *api) calls(c *echo.Context) error {
	caller, err := web.Caller(c)
	if err != nil {
		return err
	}
	found, err := a.service.Calls(c.Request().Context(), caller)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, found)
}

func (a *api) test(c *echo.Context) error {
	caller, err := web.Caller(c)
	if err != nil {
		return err
	}
	begun, err := a.service.Test(c.Request().Context(), caller)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusCreated, begun)
}

func (a *api) call(c *echo.Context) error {
	caller, id, err := placeOf(c)
	if err != nil {
		return err
	}
	found, err := a.service.Call(c.Request().Context(), caller, id)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, found)
}

func (a *api) decline(c *echo.Context) error {
	caller, id, err := placeOf(c)
	if err != nil {
		return err
	}
	if err := a.service.Decline(c.Request().Context(), caller, id); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

func (a *api) leave(c *echo.Context) error {
	caller, id, err := placeOf(c)
	if err != nil {
		return err
	}
	if err := a.service.Leave(c.Request().Context(), caller, id); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

func (a *api) history(c *echo.Context) error {
	caller, err := web.Caller(c)
	if err != nil {
		return err
	}
	limit := 0
	if text := c.QueryParam("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 {
			return apperr.E("video.history", apperr.Invalid, "A limit is a whole number from 1.", err, apperr.Code("invalid_range"))
		}
	}
	page, err := a.service.History(c.Request().Context(), caller, c.QueryParam("before"), limit)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, page)
}

func (a *api) seen(c *echo.Context) error {
	caller, err := web.Caller(c)
	if err != nil {
		return err
	}
	body, err := web.Bind[wire.CallsSeen](c)
	if err != nil {
		return err
	}
	if err := a.service.Seen(c.Request().Context(), caller, body.At); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}
