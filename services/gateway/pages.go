package gateway

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/labstack/echo/v5"
)

//go:embed web
var webFiles embed.FS

// pagePolicy lets a page use its own files and speak to its own origin, and nothing inline (CSP 3).
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// loginPath is where people log in; programs post to it, and browsers see the form there.
const loginPath = "/v1/auth/login"

const assetsPrefix = "/assets/"

// page is one file of the web client, ready to be sent.
type page struct {
	content   []byte
	mediaType string
}

// pages are the web client. Assets lie under a name made of all their contents, so a browser may keep them for ever.
type pages struct {
	version string
	assets  map[string]page
	login   page
	https   page
}

func newPages(c Config) (*pages, error) {
	assets, version, err := readAssets()
	if err != nil {
		return nil, err
	}
	scheme := "https://"
	if c.EdgeTLS == "off" {
		scheme = "http://"
	}
	values := struct{ Assets, Login string }{
		Assets: assetsPrefix + version,
		Login:  scheme + "api." + c.PublicDomain + loginPath,
	}
	p := &pages{version: version, assets: assets}
	if p.login, err = renderPage("web/login.html", values); err != nil {
		return nil, err
	}
	p.https, err = renderPage("web/https.html", values)
	return p, err
}

func readAssets() (map[string]page, string, error) {
	assets, sum := map[string]page{}, sha256.New()
	err := fs.WalkDir(webFiles, "web/assets", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := webFiles.ReadFile(file)
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(file, "web/assets/")
		sum.Write([]byte(name))
		sum.Write(content)
		assets[name] = page{content, mime.TypeByExtension(path.Ext(name))}
		return nil
	})
	return assets, hex.EncodeToString(sum.Sum(nil)[:8]), err
}

func renderPage(file string, values any) (page, error) {
	tree, err := template.ParseFS(webFiles, file)
	if err != nil {
		return page{}, err
	}
	var content bytes.Buffer
	if err := tree.Execute(&content, values); err != nil {
		return page{}, err
	}
	return page{content.Bytes(), "text/html; charset=utf-8"}, nil
}

// servePages answers a browser that looks for a page, and leaves everything else to the services.
func (g *Gateway) servePages(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c *echo.Context) error {
		r := c.Request()
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			return next(c)
		}
		if name, found := strings.CutPrefix(r.URL.Path, assetsPrefix); found {
			return g.pages.sendAsset(c, name)
		}
		switch {
		case r.URL.Path == "/" && g.publicName(r.Host):
			c.Response().Header().Set("Cache-Control", "no-store")
			return c.Redirect(http.StatusSeeOther, loginPath)
		case r.URL.Path == loginPath && wantsPage(r):
			return g.pages.send(c, g.loginPage(r.Host))
		default:
			return next(c)
		}
	}
}

// loginPage is the form, except where a chat client would have to do without a browser's cryptography.
func (g *Gateway) loginPage(host string) page {
	if g.config.EdgeTLS == "off" && hostname(host) == g.chatName() {
		return g.pages.https
	}
	return g.pages.login
}

func (g *Gateway) publicName(host string) bool {
	name := hostname(host)
	return name == g.apiName() || name == g.chatName()
}

func hostname(host string) string {
	name, _, _ := strings.Cut(strings.ToLower(host), ":")
	return name
}

// wantsPage reports whether the client asks for HTML by name; */* is what programs send.
func wantsPage(r *http.Request) bool {
	for item := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		mediaType, parameters, err := mime.ParseMediaType(item)
		if err != nil || mediaType != "text/html" {
			continue
		}
		quality, err := strconv.ParseFloat(parameters["q"], 64)
		return err != nil || quality > 0
	}
	return false
}

func (p *pages) send(c *echo.Context, page page) error {
	header := c.Response().Header()
	header.Set("Content-Security-Policy", pagePolicy)
	header.Set("Cache-Control", "no-cache")
	header.Set("Vary", "Accept")
	return c.Blob(http.StatusOK, page.mediaType, page.content)
}

// sendAsset also answers for a version that is not ours, while two versions run side by side; that answer is not kept.
func (p *pages) sendAsset(c *echo.Context, name string) error {
	version, name, _ := strings.Cut(name, "/")
	asset, found := p.assets[name]
	if !found {
		return echo.ErrNotFound
	}
	keep := "no-store"
	if version == p.version {
		keep = "public, max-age=31536000, immutable"
	}
	c.Response().Header().Set("Cache-Control", keep)
	return c.Blob(http.StatusOK, asset.mediaType, asset.content)
}
