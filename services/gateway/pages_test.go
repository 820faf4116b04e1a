package gateway

import (
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
)

var asset = regexp.MustCompile(`(?:src|href)="(/assets/[^"]+)"`)

func TestLoginPage(t *testing.T) {
	e := newEdge(t, newAuthService(t))
	browser := map[string]string{"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "Host": "chat." + domain}
	page := e.get(t, loginPath, browser)
	if page.status != http.StatusOK || !strings.Contains(page.body, `id="login-form"`) {
		t.Fatalf("answered %d %.80s", page.status, page.body)
	}
	t.Run("nothing runs inline, and the policy forbids it", func(t *testing.T) {
		policy := page.header.Values("Content-Security-Policy")
		if len(policy) != 1 || strings.Contains(policy[0], "unsafe-inline") || strings.Contains(policy[0], "'unsafe-eval'") ||
			!strings.Contains(policy[0], "script-src 'self' 'wasm-unsafe-eval';") {
			t.Errorf("policy: %q", policy)
		}
		for _, file := range []string{"web/index.html", "web/https.html"} {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if found := regexp.MustCompile(`<style|<script(?: [^>]*)?>[^<]|\son\w+=|\sstyle=|javascript:`).FindString(string(source)); found != "" {
				t.Errorf("%s has inline: %q", file, found)
			}
		}
	})
	t.Run("it may call, and nothing else may", func(t *testing.T) {
		for _, device := range []string{"camera", "microphone", "display-capture", "autoplay"} {
			if policy := page.header.Values("Permissions-Policy"); len(policy) != 1 || !strings.Contains(policy[0], device+"=(self)") {
				t.Errorf("%s on a page: %q", device, policy)
			}
		}
		for _, path := range []string{"/assets/index-00000003.js", "/v1/auth/sessions"} {
			if policy := e.get(t, path, nil).header.Values("Permissions-Policy"); len(policy) != 1 || !strings.Contains(policy[0], "camera=()") || !strings.Contains(policy[0], "microphone=()") {
				t.Errorf("%s: %q", path, policy)
			}
		}
	})
	t.Run("its files are there and may be kept", func(t *testing.T) {
		links := asset.FindAllStringSubmatch(page.body, -1)
		if len(links) < 3 {
			t.Fatalf("the page names %d files", len(links))
		}
		for _, link := range links {
			got := e.get(t, link[1], nil)
			if got.status != http.StatusOK || !strings.Contains(got.header.Get("Cache-Control"), "immutable") || got.header.Get("Content-Type") == "" {
				t.Errorf("%s: %d %v", link[1], got.status, got.header)
			}
		}
	})
	t.Run("a worker's script carries the policy that lets it run WebAssembly", func(t *testing.T) {
		got := e.get(t, "/assets/index-00000003.js", nil)
		if policy := got.header.Get("Content-Security-Policy"); policy != pagePolicy || !strings.HasPrefix(got.header.Get("Content-Type"), "text/javascript") {
			t.Errorf("%q under %q", got.header.Get("Content-Type"), policy)
		}
	})
	t.Run("a file goes out as it was compressed, and one that is kept only so is decompressed for who wants it plain", func(t *testing.T) {
		for accept, want := range map[string]string{"gzip, deflate, br": "br", "gzip": "gzip", "br;q=0, gzip;q=0.5": "gzip", "identity": "", "br;q=0, gzip;q=0": ""} {
			got := e.get(t, "/assets/keys-00000004.wasm", map[string]string{"Accept-Encoding": accept})
			if got.status != http.StatusOK || got.header.Get("Content-Encoding") != want || got.header.Get("Content-Type") != "application/wasm" || got.header.Get("Vary") != "Accept-Encoding" {
				t.Errorf("%q: %d %v", accept, got.status, got.header)
			}
			if want == "" && got.body != "\x00asm\x01\x00\x00\x00" {
				t.Errorf("%q: sent %q", accept, got.body)
			}
		}
	})
	t.Run("nothing but its files is served", func(t *testing.T) {
		for _, path := range []string{"/assets", "/assets/", "/assets/../index.html", "/assets/none.js", "/assets/index-00000003.js.br", "/index.html"} {
			if got := e.get(t, path, browser); got.status != http.StatusNotFound {
				t.Errorf("%s answered %d", path, got.status)
			}
		}
	})
}

func TestWithoutAClient(t *testing.T) {
	e := newEdge(t, newAuthService(t), func(c *Config) { c.Client = "" })
	if got := e.get(t, "/", map[string]string{"Host": "chat." + domain}); got.status != http.StatusNotFound {
		t.Errorf("answered %d", got.status)
	}
	if _, err := New(slog.New(slog.DiscardHandler), Config{Auth: mustURL(t, "http://auth"), Client: t.TempDir()}); err == nil {
		t.Error("a gateway whose client is missing starts")
	}
}

func TestWhoGetsThePage(t *testing.T) {
	e := newEdge(t, newAuthService(t))
	for accept, html := range map[string]bool{
		"text/html": true, "application/json, text/html;q=0.5": true, "TEXT/HTML;charset=utf-8": true,
		"": false, "*/*": false, "application/json": false, "text/html;q=0, application/json": false, "text/*": false,
	} {
		got := e.get(t, loginPath, map[string]string{"Accept": accept})
		if isPage := strings.HasPrefix(got.header.Get("Content-Type"), "text/html"); isPage != html {
			t.Errorf("Accept %q: page %v", accept, isPage)
		}
	}
	if got := e.do(t, http.MethodPost, loginPath, "{}", map[string]string{"Accept": "text/html"}); got.seen(t).Method != http.MethodPost {
		t.Error("a posted login did not reach its service")
	}
}

func TestFrontDoor(t *testing.T) {
	auth := newAuthService(t)
	for _, c := range []struct {
		edgeTLS, host string
		status        int
	}{
		{"internal_ca", "chat." + domain, http.StatusOK},
		{"internal_ca", "api." + domain, http.StatusOK},
		{"internal_ca", "API." + domain + ":443", http.StatusOK},
		{"internal_ca", "files." + domain, http.StatusNotFound},
		{"internal_ca", "evil.test", http.StatusNotFound},
	} {
		e := newEdge(t, auth, func(config *Config) { config.EdgeTLS = c.edgeTLS })
		got := e.get(t, "/", map[string]string{"Host": c.host})
		if got.status != c.status || (c.status == http.StatusOK) != strings.Contains(got.body, `id="login-form"`) {
			t.Errorf("%s: %d %.80s", c.host, got.status, got.body)
		}
	}
}

func TestWithoutTLS(t *testing.T) {
	e := newEdge(t, newAuthService(t), func(c *Config) { c.EdgeTLS = "off" })
	api := e.get(t, loginPath, map[string]string{"Accept": "text/html", "Host": "api." + domain})
	if !strings.Contains(api.body, `id="login-form"`) {
		t.Error("the API's name does not show the login form, which the guide's plain URL needs")
	}
	chat := e.get(t, loginPath, map[string]string{"Accept": "text/html", "Host": "chat." + domain})
	if strings.Contains(chat.body, `id="login-form"`) || !strings.Contains(chat.body, "needs https") {
		t.Error("chat does not say why a browser needs https")
	}
	if !strings.Contains(chat.body, `href="http://api.`+domain+loginPath+`"`) {
		t.Error("chat does not lead to the login form")
	}
}
