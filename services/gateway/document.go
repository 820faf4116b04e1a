package gateway

import (
	_ "embed"
	"net/http"

	"github.com/labstack/echo/v5"
)

// document is the public interface: the routes of the gateway and of all services behind it (OpenAPI 3.0).
//
//go:embed openapi.yaml
var document []byte

// documentPath is where programs read it; its media type is that of RFC 9512.
const documentPath = "/v1/openapi.yaml"

func serveDocument(c *echo.Context) error {
	return c.Blob(http.StatusOK, "application/yaml", document)
}
