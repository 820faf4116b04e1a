package gateway

import (
	"net/url"
	"strings"

	"github.com/labstack/echo/v5"

	"secureconnect/services/internal/apperr"
)

// refuseOddPaths lets through only paths that mean the same to everybody who reads them on the way.
func refuseOddPaths(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c *echo.Context) error {
		if !plainPath(c.Request().URL.EscapedPath()) {
			return apperr.E("gateway.path", apperr.NotFound, "There is nothing at this address.", nil, apperr.Code("no_such_route"))
		}
		return next(c)
	}
}

// plainPath reports whether a path, still encoded, has one reading: no empty, "." or ".." segment, nothing that
// decodes to a separator or to another encoding, no parameters (";"), no control characters.
func plainPath(escaped string) bool {
	if escaped == "/" {
		return true
	}
	rest, absolute := strings.CutPrefix(escaped, "/")
	if !absolute {
		return false
	}
	for segment := range strings.SplitSeq(rest, "/") {
		if !plainSegment(segment) {
			return false
		}
	}
	return true
}

func plainSegment(escaped string) bool {
	segment, err := url.PathUnescape(escaped)
	if err != nil || segment == "" || segment == "." || segment == ".." {
		return false
	}
	return !strings.ContainsFunc(segment, func(r rune) bool {
		return r < ' ' || r == 0x7f || r == '\uFFFD' || strings.ContainsRune(`/\;%`, r)
	})
}
