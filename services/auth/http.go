package auth

import (
	"net/http"

	"github.com/labstack/echo/v5"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/config"
	"secureconnect/services/internal/token"
	"secureconnect/services/internal/web"
	"secureconnect/services/internal/wire"
)

// api is auth's HTTP interface. Its handlers bind, call one method of the service, and answer.
type api struct {
	service *Service
	cookie  refreshCookie
}

// Routes adds auth's interface to e. secureCookie is false only where the edge has no TLS.
func Routes(e *echo.Echo, service *Service, secureCookie bool) {
	a := &api{service: service, cookie: newRefreshCookie(secureCookie)}
	public := e.Group("/v1", web.NoStore, web.LimitBody(web.DefaultBodyLimit))
	public.POST("/auth/register", a.register)
	public.POST("/auth/login", a.login)
	public.POST("/auth/refresh", a.refresh)
	public.POST("/auth/logout", a.logout)

	private := e.Group("/v1", web.NoStore, web.LimitBody(web.DefaultBodyLimit), web.Authenticate(service.Authenticate))
	private.GET("/auth/sessions", a.sessions)
	private.DELETE("/auth/sessions/:id", a.revoke)
	private.GET("/users/me", a.me)
	private.PATCH("/users/me", a.changeMe)
	private.DELETE("/users/me", a.removeMe)
	private.POST("/users/me/password", a.changePassword)

	e.GET(wire.PathJWKS, a.keys)
	e.GET(wire.PathSession+":id", a.sessionLive)
}

func (a *api) register(c *echo.Context) error {
	body, err := web.Bind[wire.RegisterRequest](c)
	if err != nil {
		return err
	}
	user, err := a.service.Register(c.Request().Context(), Registration{
		Username:    body.Username,
		Password:    config.NewSecret(body.Password),
		DisplayName: body.DisplayName,
		Invite:      config.NewSecret(body.Invite),
		Address:     c.RealIP(),
	})
	if err != nil {
		return err
	}
	return c.JSON(http.StatusCreated, user)
}

func (a *api) login(c *echo.Context) error {
	body, err := web.Bind[wire.LoginRequest](c)
	if err != nil {
		return err
	}
	grant, err := a.service.Login(c.Request().Context(), Credentials{
		Username:   body.Username,
		Password:   config.NewSecret(body.Password),
		DeviceID:   body.DeviceID,
		DeviceName: body.DeviceName,
		Address:    c.RealIP(),
	})
	if err != nil {
		return err
	}
	return a.answer(c, grant)
}

func (a *api) refresh(c *echo.Context) error {
	presented, err := a.presented(c)
	if err != nil {
		return err
	}
	grant, err := a.service.Refresh(c.Request().Context(), presented)
	if apperr.Is(err, apperr.Unauthenticated) && fromWeb(c) {
		a.cookie.clear(c)
	}
	if err != nil {
		return err
	}
	return a.answer(c, grant)
}

// presented is the refresh token of a body or, for the browser, of its cookie.
func (a *api) presented(c *echo.Context) (config.Secret, error) {
	body, err := web.BindOptional[wire.RefreshRequest](c)
	if err != nil {
		return config.Secret{}, err
	}
	if fromWeb(c) {
		return a.cookie.read(c), nil
	}
	return config.NewSecret(body.RefreshToken), nil
}

func (a *api) answer(c *echo.Context, grant Grant) error {
	tokens := wire.Tokens{
		AccessToken: grant.AccessToken,
		TokenType:   "Bearer",
		ExpiresIn:   int(token.Lifetime.Seconds()),
		User:        grant.User,
		DeviceID:    grant.Session.DeviceID,
		SessionID:   grant.Session.SessionID,
	}
	if fromWeb(c) {
		a.cookie.set(c, grant.RefreshToken)
	} else {
		tokens.RefreshToken = grant.RefreshToken.Reveal()
	}
	return c.JSON(http.StatusOK, tokens)
}

// logout takes an access token or, once that has expired, the refresh token.
func (a *api) logout(c *echo.Context) error {
	ctx := c.Request().Context()
	presented, err := a.presented(c)
	if err != nil {
		return err
	}
	if fromWeb(c) {
		a.cookie.clear(c)
	}
	caller, err := a.service.Authenticate(ctx, web.BearerToken(c))
	switch {
	case err == nil:
		err = a.service.Logout(ctx, caller)
	case apperr.Is(err, apperr.Unauthenticated) && !presented.Empty():
		err = a.service.LogoutByRefresh(ctx, presented)
	}
	if err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

func (a *api) sessions(c *echo.Context) error {
	caller, err := web.Caller(c)
	if err != nil {
		return err
	}
	views, err := a.service.Sessions(c.Request().Context(), caller)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, wire.Sessions{Sessions: views})
}

func (a *api) revoke(c *echo.Context) error {
	caller, err := web.Caller(c)
	if err != nil {
		return err
	}
	id, err := sessionID(c)
	if err != nil {
		return err
	}
	if err := a.service.Revoke(c.Request().Context(), caller, id); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// sessionID is that of the path. What cannot be one is a session that is not there.
func sessionID(c *echo.Context) (wire.SessionID, error) {
	id, err := wire.ParseSessionID(c.Param("id"))
	if err != nil {
		return "", apperr.E("auth.sessionID", apperr.NotFound, "There is no such session.", err, apperr.Code("no_such_session"))
	}
	return id, nil
}

func (a *api) me(c *echo.Context) error {
	caller, err := web.Caller(c)
	if err != nil {
		return err
	}
	user, err := a.service.Me(c.Request().Context(), caller)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, user)
}

func (a *api) changeMe(c *echo.Context) error {
	caller, err := web.Caller(c)
	if err != nil {
		return err
	}
	change, err := web.Bind[wire.UserChange](c)
	if err != nil {
		return err
	}
	user, err := a.service.ChangeMe(c.Request().Context(), caller, change)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, user)
}

func (a *api) removeMe(c *echo.Context) error {
	caller, err := web.Caller(c)
	if err != nil {
		return err
	}
	body, err := web.Bind[wire.AccountRemoval](c)
	if err != nil {
		return err
	}
	if err := a.service.RemoveMe(c.Request().Context(), caller, config.NewSecret(body.Password)); err != nil {
		return err
	}
	if fromWeb(c) {
		a.cookie.clear(c)
	}
	return c.NoContent(http.StatusNoContent)
}

func (a *api) changePassword(c *echo.Context) error {
	caller, err := web.Caller(c)
	if err != nil {
		return err
	}
	body, err := web.Bind[wire.PasswordChange](c)
	if err != nil {
		return err
	}
	err = a.service.ChangePassword(c.Request().Context(), caller,
		config.NewSecret(body.CurrentPassword), config.NewSecret(body.NewPassword))
	if err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

func (a *api) keys(c *echo.Context) error { return c.JSON(http.StatusOK, a.service.Keys()) }

func (a *api) sessionLive(c *echo.Context) error {
	id, err := sessionID(c)
	if err != nil {
		return err
	}
	if err := a.service.SessionLive(c.Request().Context(), id); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}
