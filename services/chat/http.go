package chat

import (
	"net/http"
	"strconv"

	"github.com/labstack/echo/v5"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/web"
	"secureconnect/services/internal/wire"
)

// api is chat's HTTP interface. Its handlers bind, call one method of the service, and answer.
type api struct {
	service *Service
}

// Routes adds chat's interface to e.
func Routes(e *echo.Echo, service *Service) {
	a := &api{service: service}
	private := e.Group("/v1/conversations", web.NoStore, web.Authenticate(service.Authenticate))
	private.POST("", a.create)
	private.GET("", a.conversations)
	private.GET("/:id", a.conversation)
	private.PATCH("/:id", a.change)
	private.GET("/:id/members", a.members)
	private.POST("/:id/members", a.add)
	private.PATCH("/:id/members/:user_id", a.setRole)
	private.DELETE("/:id/members/:user_id", a.remove)
	private.GET("/:id/messages", a.messages)
	private.POST("/:id/messages", a.send)
	private.PUT("/:id/cursor", a.moveCursor)

	e.GET(wire.PathCallers+":id/:user_id", a.callers)
}

// place is who asks, and about which conversation. What cannot be one is a conversation that is not there.
func place(c *echo.Context) (caller wire.Session, id wire.ConversationID, err error) {
	if caller, err = web.Caller(c); err != nil {
		return wire.Session{}, "", err
	}
	if id, err = wire.ParseConversationID(c.Param("id")); err != nil {
		return wire.Session{}, "", noConversation("chat.place")
	}
	return caller, id, nil
}

func memberOf(c *echo.Context) (wire.UserID, error) {
	user, err := wire.ParseUserID(c.Param("user_id"))
	if err != nil {
		return "", noMember("chat.memberOf")
	}
	return user, nil
}

// numberIn is a whole number of the query, 0 where it is absent.
func numberIn(c *echo.Context, name string) (int64, error) {
	text := c.QueryParam(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, apperr.E("chat.numberIn", apperr.Invalid, "Numbers and limits are whole and not negative.", err, apperr.Code("invalid_range"))
	}
	return n, nil
}

func (a *api) create(c *echo.Context) error {
	caller, err := web.Caller(c)
	if err != nil {
		return err
	}
	body, err := web.Bind[wire.ConversationRequest](c)
	if err != nil {
		return err
	}
	made, isNew, err := a.service.Create(c.Request().Context(), caller, body)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if isNew {
		status = http.StatusCreated
	}
	return c.JSON(status, made)
}

func (a *api) conversations(c *echo.Context) error {
	caller, err := web.Caller(c)
	if err != nil {
		return err
	}
	limit, err := numberIn(c, "limit")
	if err != nil {
		return err
	}
	page, err := a.service.Conversations(c.Request().Context(), caller, wire.ConversationID(c.QueryParam("from")), int(min(limit, maxListPage)))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, page)
}

func (a *api) conversation(c *echo.Context) error {
	caller, id, err := place(c)
	if err != nil {
		return err
	}
	found, err := a.service.Conversation(c.Request().Context(), caller, id)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, found)
}

func (a *api) change(c *echo.Context) error {
	caller, id, err := place(c)
	if err != nil {
		return err
	}
	body, err := web.Bind[wire.ConversationChange](c)
	if err != nil {
		return err
	}
	changed, err := a.service.Change(c.Request().Context(), caller, id, body)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, changed)
}

func (a *api) members(c *echo.Context) error {
	caller, id, err := place(c)
	if err != nil {
		return err
	}
	members, err := a.service.Members(c.Request().Context(), caller, id)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, members)
}

func (a *api) add(c *echo.Context) error {
	caller, id, err := place(c)
	if err != nil {
		return err
	}
	body, err := web.Bind[wire.MembersRequest](c)
	if err != nil {
		return err
	}
	members, err := a.service.Add(c.Request().Context(), caller, id, body.UserIDs)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, members)
}

func (a *api) setRole(c *echo.Context) error {
	caller, id, err := place(c)
	if err != nil {
		return err
	}
	user, err := memberOf(c)
	if err != nil {
		return err
	}
	body, err := web.Bind[wire.RoleChange](c)
	if err != nil {
		return err
	}
	if err := a.service.SetRole(c.Request().Context(), caller, id, user, body.Role); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

func (a *api) remove(c *echo.Context) error {
	caller, id, err := place(c)
	if err != nil {
		return err
	}
	user, err := memberOf(c)
	if err != nil {
		return err
	}
	if err := a.service.Remove(c.Request().Context(), caller, id, user); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

func (a *api) callers(c *echo.Context) error {
	id, err := wire.ParseConversationID(c.Param("id"))
	if err != nil {
		return noConversation("chat.callers")
	}
	user, err := memberOf(c)
	if err != nil {
		return err
	}
	callers, err := a.service.Callers(c.Request().Context(), id, user)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, callers)
}

func (a *api) messages(c *echo.Context) error {
	caller, id, err := place(c)
	if err != nil {
		return err
	}
	var asked Range
	if asked.After, err = numberIn(c, "after"); err != nil {
		return err
	}
	if asked.UpTo, err = numberIn(c, "up_to"); err != nil {
		return err
	}
	limit, err := numberIn(c, "limit")
	if err != nil {
		return err
	}
	asked.Limit = int(min(limit, maxPage))
	page, err := a.service.Messages(c.Request().Context(), caller, id, asked)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, page)
}

func (a *api) send(c *echo.Context) error {
	caller, id, err := place(c)
	if err != nil {
		return err
	}
	body, err := web.Bind[wire.SendRequest](c)
	if err != nil {
		return err
	}
	sent, err := a.service.Send(c.Request().Context(), caller, id, body)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, sent)
}

func (a *api) moveCursor(c *echo.Context) error {
	caller, id, err := place(c)
	if err != nil {
		return err
	}
	body, err := web.Bind[wire.CursorChange](c)
	if err != nil {
		return err
	}
	moved, err := a.service.MoveCursor(c.Request().Context(), caller, id, body)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, moved)
}
