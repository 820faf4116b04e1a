package report

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// clean makes text safe to show: what a host said must not move the cursor.
func clean(text string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r) || r == utf8.RuneError:
			return -1
		}
		return r
	}, text))
}

// fit cuts a line so that the terminal does not wrap it, which would spoil the count of lines.
func fit(line string, columns int) string {
	runes := []rune(line)
	if len(runes) < columns {
		return line
	}
	return string(runes[:max(columns-2, 0)]) + "…"
}

// ink colours text; the zero value leaves it as it is.
type ink struct{ on bool }

var colours = ink{on: true}

func (i ink) paint(code, text string) string {
	if !i.on {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (i ink) bold(text string) string  { return i.paint("1", text) }
func (i ink) dim(text string) string   { return i.paint("2", text) }
func (i ink) red(text string) string   { return i.paint("31", text) }
func (i ink) green(text string) string { return i.paint("32", text) }
