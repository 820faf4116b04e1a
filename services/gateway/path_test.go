package gateway

import (
	"net/url"
	"path"
	"strings"
	"testing"
)

func TestPlainPath(t *testing.T) {
	for escaped, want := range map[string]bool{
		"/": true, "/v1/auth/login": true, "/v1/users/@me:x.y": true, "/v1/a%20b": true, "/v1/%C3%A9": true, "/a..b": true,
		"": false, "*": false, "v1": false, "//": false, "/v1/": false, "/v1//auth": false, "/.": false, "/..": false, "/%2e": false,
		"/%2E%2e/x": false, "/a%2fb": false, "/a%5Cb": false, "/a;b": false, "/a%3bb": false, "/a%25b": false, "/a%00": false, "/%7f": false,
		"/a%": false, "/%ff": false,
	} {
		if got := plainPath(escaped); got != want {
			t.Errorf("plainPath(%q) = %v, want %v", escaped, got, want)
		}
	}
}

// However a path is read, once or twice decoded, cleaned or not, a plain one stays what it is.
func FuzzPlainPath(f *testing.F) {
	for _, seed := range []string{"/v1/auth/login", "/v1/auth/%2e%2e/internal", "/v1/auth/..%2finternal", "/%252e", "/a;b", "//", "/é", "/%ff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, escaped string) {
		if !plainPath(escaped) {
			return
		}
		once, err := url.PathUnescape(escaped)
		if err != nil {
			t.Fatalf("%q cannot be decoded", escaped)
		}
		if twice, err := url.PathUnescape(once); err != nil || twice != once {
			t.Errorf("%q decodes twice, to %q", escaped, twice)
		}
		if path.Clean(once) != once || strings.ContainsAny(once, `\;`) || strings.Count(once, "/") != strings.Count(escaped, "/") {
			t.Errorf("%q has another reading: %q", escaped, once)
		}
	})
}
