package contacts

import (
	"context"
	"net/http"

	"github.com/labstack/echo/v5"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/web"
	"secureconnect/services/internal/wire"
)

// api is the HTTP interface of contacts. Its handlers bind, call one method of the service, and answer.
type api struct {
	service *Service
}

// Routes adds the interface to e; authenticate tells who calls.
func Routes(e *echo.Echo, service *Service, authenticate web.Authenticator) {
	a := &api{service: service}
	private := e.Group("/v1", web.NoStore, web.LimitBody(web.DefaultBodyLimit), web.Authenticate(authenticate))
	private.GET("/users", a.search)
	private.GET("/users/:id", a.profile)
	private.GET("/contacts", a.list)
	private.POST("/contacts", a.ask)
	private.POST("/contacts/:user_id/accept", a.accept)
	private.POST("/contacts/:user_id/reject", a.change(service.Reject))
	private.DELETE("/contacts/:user_id", a.change(service.Remove))
	private.PUT("/contacts/:user_id/block", a.change(service.Block))
	private.DELETE("/contacts/:user_id/block", a.change(service.Unblock))

	e.GET(wire.PathRelations+":user_id/:other_id", a.relations)
}

func (a *api) search(c *echo.Context) error {
	caller, err := web.Caller(c)
	if err != nil {
		return err
	}
	found, err := a.service.Search(c.Request().Context(), caller, c.QueryParam("search"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, wire.Profiles{Users: found})
}

func (a *api) profile(c *echo.Context) error {
	caller, err := web.Caller(c)
	if err != nil {
		return err
	}
	id, err := userID(c.Param("id"))
	if err != nil {
		return err
	}
	found, err := a.service.Profile(c.Request().Context(), caller, id)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, found)
}

// userID reads an id. What cannot be one is a user that is not there.
func userID(text string) (wire.UserID, error) {
	id, err := wire.ParseUserID(text)
	if err != nil {
		return "", noUser(err)
	}
	return id, nil
}

func (a *api) list(c *echo.Context) error {
	caller, err := web.Caller(c)
	if err != nil {
		return err
	}
	after, err := cursor(c)
	if err != nil {
		return err
	}
	page, err := a.service.List(c.Request().Context(), caller, after)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, page)
}

func cursor(c *echo.Context) (wire.UserID, error) {
	after := c.QueryParam("after")
	if after == "" {
		return first, nil
	}
	id, err := wire.ParseUserID(after)
	if err != nil {
		return "", apperr.E("contacts.cursor", apperr.Invalid, "That is no place in the list.", err, apperr.Code("invalid_cursor"))
	}
	return id, nil
}

func (a *api) ask(c *echo.Context) error {
	caller, err := web.Caller(c)
	if err != nil {
		return err
	}
	body, err := web.Bind[wire.ContactRequest](c)
	if err != nil {
		return err
	}
	other, err := userID(string(body.UserID))
	if err != nil {
		return err
	}
	contact, err := a.service.Ask(c.Request().Context(), caller, other)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, contact)
}

func (a *api) accept(c *echo.Context) error {
	caller, err := web.Caller(c)
	if err != nil {
		return err
	}
	other, err := userID(c.Param("user_id"))
	if err != nil {
		return err
	}
	contact, err := a.service.Accept(c.Request().Context(), caller, other)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, contact)
}

// change answers what one does to another and has nothing to show for.
func (a *api) change(do func(ctx context.Context, caller wire.Session, other wire.UserID) error) echo.HandlerFunc {
	return func(c *echo.Context) error {
		caller, err := web.Caller(c)
		if err != nil {
			return err
		}
		other, err := userID(c.Param("user_id"))
		if err != nil {
			return err
		}
		if err := do(c.Request().Context(), caller, other); err != nil {
			return err
		}
		return c.NoContent(http.StatusNoContent)
	}
}

func (a *api) relations(c *echo.Context) error {
	user, err := userID(c.Param("user_id"))
	if err != nil {
		return err
	}
	other, err := userID(c.Param("other_id"))
	if err != nil {
		return err
	}
	found, err := a.service.Relations(c.Request().Context(), user, other)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, found)
}
