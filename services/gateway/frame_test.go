package gateway

import (
	"strings"
	"testing"

	"secureconnect/services/internal/wire"
)

func TestParseFrame(t *testing.T) {
	for content, want := range map[string]string{
		`{"type":"auth","token":"a.b.c"}`:           "a.b.c",
		`{"type":"auth","token":"x","later":true}`:  "x",
		`{"token":"x"}`:                             "",
		`{"type":"auth"}`:                           "",
		`{"type":"auth","token":""}`:                "",
		`{"type":"auth","token":7}`:                 "",
		`{"type":"ready","token":"x"}`:              "",
		`[{"type":"auth","token":"x"}]`:             "",
		`{"type":"auth","token":"x"} {}`:            "",
		`null`:                                      "",
		``:                                          "",
		"{\"type\":\"auth\",\"token\":\"\xff\"}":    "",
		strings.Repeat("[", 5000):                   "",
		`{"type":"auth","token":"x"` + "\x00" + `}`: "",
	} {
		frame, err := parseFrame([]byte(content))
		if (err == nil) != (want != "") || frame.Token != want {
			t.Errorf("parseFrame(%.40q) = %+v, %v; want token %q", content, frame, err, want)
		}
	}
}

func FuzzParseFrame(f *testing.F) {
	for _, seed := range []string{`{"type":"auth","token":"a.b.c"}`, `{"type":"auth"}`, `[]`, "\xff", `{"type":"auth","type":"ready","token":"x"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		frame, err := parseFrame(content)
		if err == nil && (frame.Type != wire.FrameAuth || frame.Token == "") {
			t.Errorf("accepted %q as %+v", content, frame)
		}
		if err != nil && frame != (wire.AuthFrame{}) {
			t.Errorf("refused %q and gave %+v", content, frame)
		}
	})
}
