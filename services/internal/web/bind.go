package web

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"

	"github.com/labstack/echo/v5"

	"secureconnect/services/internal/apperr"
)

// Bind reads the body as exactly one JSON value of type T: no unknown field, nothing after it, bounded by the
// server's body limit. Every refusal is Invalid or TooLarge.
func Bind[T any](c *echo.Context) (T, error) { return bindRequired[T](c, strict) }

// BindOpen is Bind for the shapes of a standard that is not ours: fields that it knows and we do not are passed over.
func BindOpen[T any](c *echo.Context) (T, error) { return bindRequired[T](c, open) }

func bindRequired[T any](c *echo.Context, unknown fields) (T, error) {
	value, err := bind[T](c.Request(), unknown)
	if errors.Is(err, io.EOF) {
		return value, invalidBody("The request needs a JSON body.", err)
	}
	return value, err
}

// BindOptional is Bind for a body that may be absent; then it gives the zero T.
func BindOptional[T any](c *echo.Context) (T, error) {
	request := c.Request()
	if request.ContentLength == 0 || request.Body == nil || request.Body == http.NoBody {
		var zero T
		return zero, nil
	}
	value, err := bind[T](request, strict)
	if errors.Is(err, io.EOF) {
		return value, nil
	}
	return value, err
}

// fields says what an unknown one means.
type fields bool

const (
	strict fields = true
	open   fields = false
)

func bind[T any](request *http.Request, unknown fields) (T, error) {
	var value T
	// A form of a foreign site cannot send this type without asking first (Fetch standard, CORS-safelisted types).
	if media, _, err := mime.ParseMediaType(request.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return value, invalidBody("Send the body as application/json.", err)
	}
	decoder := json.NewDecoder(request.Body)
	if unknown == strict {
		decoder.DisallowUnknownFields()
	}
	if err := decoder.Decode(&value); err != nil {
		return value, bodyError(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return value, bodyError(errors.Join(errTrailing, err))
	}
	return value, nil
}

var errTrailing = errors.New("more than one JSON value")

func bodyError(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return errTooLarge(err)
	}
	if errors.Is(err, io.EOF) {
		return err
	}
	return invalidBody("The body is not the JSON this call takes.", err)
}

func invalidBody(text string, cause error) error {
	return apperr.E("web.Bind", apperr.Invalid, text, cause, apperr.Code("invalid_body"))
}
