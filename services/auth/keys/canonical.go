package keys

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"
)

// object is a JSON object as decode gives it.
type object = map[string]any

const (
	// maxDepth is far above what any Matrix object has, and below where clients' parsers give up.
	maxDepth = 32

	// maxInteger is the largest that every JSON parser reads exactly (Matrix specification, Appendices, "Canonical JSON").
	maxInteger = 1<<53 - 1
)

var (
	errDepth   = errors.New("nested too deeply")
	errNumber  = errors.New("not an integer within 2^53")
	errObject  = errors.New("not a JSON object")
	errTooLong = errors.New("too long")
)

// decode reads one object of at most limit bytes. What is kept is its canonical form, never these bytes: so two
// parsers cannot read different things in it, and no reader is given what it cannot parse.
func decode(raw []byte, limit int) (object, error) {
	if len(raw) > limit {
		return nil, errTooLong
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errObject
	}
	decoded, isObject := value.(object)
	if !isObject {
		return nil, errObject
	}
	return decoded, nil
}

// canonical is the one text that is signed for value (Matrix specification, Appendices, "Canonical JSON").
func canonical(value any) (string, error) {
	text, err := appendCanonical(nil, value, maxDepth)
	return string(text), err
}

func appendCanonical(to []byte, value any, depth int) ([]byte, error) {
	if depth == 0 {
		return nil, errDepth
	}
	switch v := value.(type) {
	case nil:
		return append(to, "null"...), nil
	case bool:
		return strconv.AppendBool(to, v), nil
	case json.Number:
		return appendInteger(to, v)
	case string:
		return appendString(to, v), nil
	case []any:
		return appendArray(to, v, depth)
	case object:
		return appendObject(to, v, depth)
	default:
		return nil, fmt.Errorf("%T is not of JSON", value)
	}
}

func appendInteger(to []byte, number json.Number) ([]byte, error) {
	n, err := number.Int64()
	if err != nil || n > maxInteger || n < -maxInteger {
		return nil, errNumber
	}
	return strconv.AppendInt(to, n, 10), nil
}

func appendArray(to []byte, values []any, depth int) (_ []byte, err error) {
	to = append(to, '[')
	for i, value := range values {
		if i > 0 {
			to = append(to, ',')
		}
		if to, err = appendCanonical(to, value, depth-1); err != nil {
			return nil, err
		}
	}
	return append(to, ']'), nil
}

// Sorting by bytes is sorting by code points, in UTF-8.
func appendObject(to []byte, values object, depth int) (_ []byte, err error) {
	to = append(to, '{')
	for i, name := range slices.Sorted(maps.Keys(values)) {
		if i > 0 {
			to = append(to, ',')
		}
		to = append(appendString(to, name), ':')
		if to, err = appendCanonical(to, values[name], depth-1); err != nil {
			return nil, err
		}
	}
	return append(to, '}'), nil
}

// appendString escapes what must be escaped and nothing else, where encoding/json would escape more.
func appendString(to []byte, text string) []byte {
	const hexDigits = "0123456789abcdef"
	to = append(to, '"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			to = append(to, '\\', byte(r))
		case r >= ' ':
			to = utf8.AppendRune(to, r)
		case r == '\b':
			to = append(to, `\b`...)
		case r == '\t':
			to = append(to, `\t`...)
		case r == '\n':
			to = append(to, `\n`...)
		case r == '\f':
			to = append(to, `\f`...)
		case r == '\r':
			to = append(to, `\r`...)
		default:
			to = append(to, `\u00`...)
			to = append(to, hexDigits[r>>4], hexDigits[r&0xf])
		}
	}
	return append(to, '"')
}
