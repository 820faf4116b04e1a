package gateway

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v5"
)

// pagePolicy lets a page use its own files, run its own WebAssembly, speak to its own origin, and nothing inline (CSP 3).
// It holds for a worker as well, whose policy is that of its script. What a page may load as a script by its URL goes
// through one named place (Trusted Types).
const pagePolicy = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; " +
	"img-src 'self' blob: data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'; trusted-types core"

// pagePermissions lets our own pages, and no frame in them, use what a call needs (Permissions Policy). Over plain http a browser gives
// a page no camera, whatever is said here.
const pagePermissions = "autoplay=(self), camera=(self), display-capture=(self), geolocation=(), microphone=(self), payment=()"

// loginPath is where people log in; programs post to it, and browsers see the form there.
const loginPath = "/v1/auth/login"

const assetsPrefix = "/assets/"

// encodings of a file that was compressed when the client was built, the smallest first.
var encodings = []struct{ name, suffix string }{{"br", ".br"}, {"gzip", gzipped}}

const gzipped = ".gz"

// pages are the built web client. The names of its assets are made of their contents, so a browser may keep them for ever.
type pages struct {
	folder fs.FS
	assets map[string]bool
	client []byte
	https  []byte
}

// newPages reads the client's folder, or none: then no pages are served.
func newPages(c Config) (*pages, error) {
	p := &pages{assets: map[string]bool{}}
	if c.Client == "" {
		return p, nil
	}
	p.folder = os.DirFS(c.Client)
	files, err := fs.ReadDir(p.folder, "assets")
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		p.assets[file.Name()] = file.Type().IsRegular()
	}
	if p.client, err = fs.ReadFile(p.folder, "index.html"); err != nil {
		return nil, err
	}
	p.https, err = p.render("https.html", struct{ Login string }{"http://api." + c.PublicDomain + loginPath})
	return p, err
}

func (p *pages) render(file string, values any) ([]byte, error) {
	tree, err := template.ParseFS(p.folder, file)
	if err != nil {
		return nil, err
	}
	var content bytes.Buffer
	err = tree.Execute(&content, values)
	return content.Bytes(), err
}

// servePages answers a browser that looks for a page, and leaves everything else to the services.
func (g *Gateway) servePages(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c *echo.Context) error {
		r := c.Request()
		if r.Method != http.MethodGet && r.Method != http.MethodHead || g.pages.client == nil {
			return next(c)
		}
		if name, found := strings.CutPrefix(r.URL.Path, assetsPrefix); found {
			return g.pages.sendAsset(c, name)
		}
		if r.URL.Path == "/" && g.publicName(r.Host) || r.URL.Path == loginPath && wantsPage(r) {
			return send(c, g.page(r.Host))
		}
		return next(c)
	}
}

// page is the client, except where it would have to do without a browser's cryptography.
func (g *Gateway) page(host string) []byte {
	if g.config.EdgeTLS == "off" && hostname(host) == g.chatName() {
		return g.pages.https
	}
	return g.pages.client
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
func wantsPage(r *http.Request) bool { return accepts(r.Header.Values("Accept"), "text/html") }

// accepts reports whether a header names a value and does not refuse it by q=0 (RFC 9110 §12.4.2).
func accepts(header []string, wanted string) bool {
	for item := range strings.SplitSeq(strings.Join(header, ","), ",") {
		value, parameters, err := mime.ParseMediaType(item)
		if err != nil || value != wanted {
			continue
		}
		quality, err := strconv.ParseFloat(parameters["q"], 64)
		return err != nil || quality > 0
	}
	return false
}

func send(c *echo.Context, page []byte) error {
	header := c.Response().Header()
	header.Set("Content-Security-Policy", pagePolicy)
	header.Set("Permissions-Policy", pagePermissions)
	header.Set("Cache-Control", "no-cache")
	header.Set("Vary", "Accept")
	return c.Blob(http.StatusOK, "text/html; charset=utf-8", page)
}

// sendAsset sends one file as it was compressed when it was built, never compressing by itself. What is kept compressed only is
// decompressed for who takes nothing else.
func (p *pages) sendAsset(c *echo.Context, name string) error {
	mediaType := mime.TypeByExtension(path.Ext(name))
	if !p.assets[name] && !p.assets[name+gzipped] || mediaType == "" || isCompressed(name) {
		return echo.ErrNotFound
	}
	header := c.Response().Header()
	header.Set("Content-Security-Policy", pagePolicy)
	header.Set("Cache-Control", "public, max-age=31536000, immutable")
	header.Set("Content-Type", mediaType)
	header.Add("Vary", "Accept-Encoding")
	for _, encoding := range encodings {
		if p.assets[name+encoding.suffix] && accepts(c.Request().Header.Values("Accept-Encoding"), encoding.name) {
			header.Set("Content-Encoding", encoding.name)
			return p.sendFile(c, name+encoding.suffix)
		}
	}
	if p.assets[name] {
		return p.sendFile(c, name)
	}
	return p.decompress(c, name+gzipped)
}

func (p *pages) sendFile(c *echo.Context, name string) error {
	file, err := p.folder.Open("assets/" + name)
	if err != nil {
		return fmt.Errorf("open asset: %w", err)
	}
	defer func() { _ = file.Close() }() // read only
	content, seeks := file.(io.ReadSeeker)
	if !seeks {
		return fmt.Errorf("open asset: %s cannot be read from any place", name)
	}
	http.ServeContent(c.Response(), c.Request(), "", time.Time{}, content)
	return nil
}

func (p *pages) decompress(c *echo.Context, name string) error {
	file, err := p.folder.Open("assets/" + name)
	if err != nil {
		return fmt.Errorf("open asset: %w", err)
	}
	defer func() { _ = file.Close() }() // read only
	content, err := gzip.NewReader(file)
	if err != nil {
		return fmt.Errorf("decompress %s: %w", name, err)
	}
	if c.Request().Method == http.MethodHead {
		return c.NoContent(http.StatusOK)
	}
	return c.Stream(http.StatusOK, c.Response().Header().Get("Content-Type"), content)
}

func isCompressed(name string) bool {
	for _, encoding := range encodings {
		if strings.HasSuffix(name, encoding.suffix) {
			return true
		}
	}
	return false
}
