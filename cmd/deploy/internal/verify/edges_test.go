package verify

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"secureconnect/cmd/deploy/internal/inventory"
)

// edge is a load balancer that keeps every promise but the broken ones.
type edge struct {
	hsts          string
	upgrade       bool
	closeCode     int
	anyOrigin     bool
	noRedirect    bool
	redirectsPost bool
}

func soundEdge() edge { return edge{upgrade: true, closeCode: closeBadFrame} }

func (e edge) https() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/auth/login", func(w http.ResponseWriter, _ *http.Request) {
		if e.hsts != "" {
			w.Header().Set("Strict-Transport-Security", e.hsts)
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = fmt.Fprint(w, "<form>")
	})
	mux.HandleFunc("/v1/ws", e.socket)
	return mux
}

func (e edge) socket(w http.ResponseWriter, r *http.Request) {
	if !e.upgrade {
		http.Error(w, "no", http.StatusBadGateway)
		return
	}
	origin := r.Header.Get("Origin")
	upgrader := websocket.Upgrader{CheckOrigin: func(*http.Request) bool {
		return e.anyOrigin || origin == "https://"+r.Host || origin == "http://"+r.Host
	}}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	_, _, _ = conn.ReadMessage()
	_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(e.closeCode, ""), time.Now().Add(time.Second))
}

func (e edge) http(httpsPort int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.Host)
		switch {
		case e.noRedirect:
			_, _ = fmt.Fprint(w, "<form>")
		case r.Method == http.MethodGet || e.redirectsPost:
			http.Redirect(w, r, "https://"+host+":"+strconv.Itoa(httpsPort)+r.URL.Path, http.StatusPermanentRedirect)
		default:
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusForbidden)
			_, _ = fmt.Fprint(w, `{"code":"https_required"}`)
		}
	})
}

// serve starts the edge and returns the deployment it stands for.
func (e edge) serve(t *testing.T, certificate tls.Certificate) *inventory.Description {
	t.Helper()
	secure := httptest.NewUnstartedServer(e.https())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes are broken on purpose
	secure.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	secure.StartTLS()
	t.Cleanup(secure.Close)
	httpsPort := portOf(t, secure.Listener.Addr())
	plain := httptest.NewServer(e.http(httpsPort))
	t.Cleanup(plain.Close)
	desc := describedLoopback()
	desc.Ports = []inventory.Port{
		{Name: "http", Group: "lb", Proto: "tcp", Port: strconv.Itoa(portOf(t, plain.Listener.Addr())), From: []string{"everyone"}},
		{Name: "https", Group: "lb", Proto: "tcp", Port: strconv.Itoa(httpsPort), From: []string{"everyone"}},
	}
	desc.Turn.TLSPort = httpsPort
	return desc
}

func allNames() []string {
	return []string{"api." + domain, "chat." + domain, "files." + domain, "turn." + domain}
}

func TestEdges(t *testing.T) {
	authority := newAuthority(t, "test authority", nil)
	fresh := time.Now().AddDate(0, 0, 60)
	type broken struct {
		name   string
		breaks func(e *edge, desc *inventory.Description)
		check  string
		look   string
	}
	for _, b := range []broken{
		{"sound", nil, "", ""},
		{"sound with a public authority", func(e *edge, d *inventory.Description) { d.EdgeTLS, e.hsts = "provided", "max-age=63072000" }, "", ""},
		{"http is served", func(e *edge, _ *inventory.Description) { e.noRedirect = true }, "redirect on lb-01", "edge_tls"},
		{"a POST is redirected", func(e *edge, _ *inventory.Description) { e.redirectsPost = true }, "redirect on lb-01", "edge_tls"},
		{"hsts with a private authority", func(e *edge, _ *inventory.Description) { e.hsts = "max-age=1" }, "hsts on lb-01", "edge_tls"},
		{"no hsts with a public one", func(_ *edge, d *inventory.Description) { d.EdgeTLS = "provided" }, "hsts on lb-01", "edge_tls"},
		{"any origin gets a socket", func(e *edge, _ *inventory.Description) { e.anyOrigin = true }, "origin on lb-01", "public_domain"},
		{"a bad frame is borne with", func(e *edge, _ *inventory.Description) { e.closeCode = 4001 }, "socket on lb-01", "logs gateway"},
	} {
		t.Run(b.name, func(t *testing.T) {
			e, desc := soundEdge(), describedLoopback()
			if b.breaks != nil {
				b.breaks(&e, desc)
			}
			served := e.serve(t, authority.issue(t, fresh, allNames()))
			served.EdgeTLS = desc.EdgeTLS
			s := surveyed(t, served, nowhere)
			s.roots = authority.pool()
			found := climbed(t, s, climbEdges)
			if b.check == "" {
				wantPassed(t, found)
				return
			}
			wantOnly(t, found, b.check, b.look)
		})
	}
}

func TestEdges_socket_that_is_not_upgraded(t *testing.T) {
	authority := newAuthority(t, "test authority", nil)
	e := soundEdge()
	e.upgrade = false
	s := surveyed(t, e.serve(t, authority.issue(t, time.Now().AddDate(0, 0, 60), allNames())), nowhere)
	s.roots = authority.pool()
	found := climbed(t, s, climbEdges)
	if c := found["socket on lb-01"]; c.Status != Failed || c.Look != "deploy status, and docker compose ps on app-01 and app-02" {
		t.Errorf("got %+v", c)
	}
}

func TestEdges_without_tls(t *testing.T) {
	e := soundEdge()
	plain := httptest.NewServer(e.https())
	t.Cleanup(plain.Close)
	authority := newAuthority(t, "test authority", nil)
	desc := e.serve(t, authority.issue(t, time.Now().AddDate(0, 0, 60), allNames()))
	desc.EdgeTLS = "off"
	desc.Ports[0].Port = strconv.Itoa(portOf(t, plain.Listener.Addr()))
	s := surveyed(t, desc, nowhere)
	s.roots = authority.pool()
	wantPassed(t, climbed(t, s, climbEdges))
}

func TestCertificates(t *testing.T) {
	root := newAuthority(t, "root", nil)
	between := newAuthority(t, "between", root)
	fresh := time.Now().AddDate(0, 0, 60)
	const check = "certificate of api." + domain + " on lb-01"
	for name, c := range map[string]struct {
		tls    string
		served tls.Certificate
		look   string
	}{
		"whole chain":               {"provided", between.issue(t, fresh, allNames(), between), ""},
		"chain without its middle":  {"provided", between.issue(t, fresh, allNames()), "edge_certificate_file"},
		"unknown authority":         {"internal_ca", newAuthority(t, "other", nil).issue(t, fresh, allNames()), "pki_dir"},
		"for another name":          {"internal_ca", root.issue(t, fresh, []string{"else.test"}), "public_domain"},
		"out of date":               {"provided", root.issue(t, time.Now().Add(-time.Hour), allNames()), "edge_certificate_file"},
		"out of date in three days": {"internal_ca", root.issue(t, time.Now().AddDate(0, 0, 3), allNames()), "edge_tls"},
	} {
		t.Run(name, func(t *testing.T) {
			desc := soundEdge().serve(t, c.served)
			desc.EdgeTLS = c.tls
			s := surveyed(t, desc, nowhere)
			s.roots = root.pool()
			got := climbed(t, s, climbEdges)[check]
			if c.look == "" {
				wantPassed(t, map[string]Check{check: got})
				return
			}
			wantOnly(t, map[string]Check{check: got, "": {Status: Passed}}, check, c.look)
		})
	}
}

func TestCertificates_nobody_listens(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := portOf(t, listener.Addr())
	_ = listener.Close()
	s := surveyed(t, describedLoopback(), nowhere)
	_, err = s.certificate(t.Context(), "turn."+domain, "127.0.0.1", port)
	c := verdict("turn", "", "", err, 0)[0]
	if c.Status != Failed || c.Look != "deploy status, and docker compose ps on app-01" {
		t.Errorf("got %+v", c)
	}
}

func TestNames(t *testing.T) {
	for name, c := range map[string]struct {
		tls  string
		got  string
		want Status
		look string
	}{
		"right":                             {"provided", "127.0.0.1", Passed, ""},
		"a wrong record is a failure":       {"provided", "192.0.2.7", Failed, "the DNS records of public_domain, and public_addresses"},
		"a missing hosts line is a note":    {"internal_ca", "", Noted, "deploy hosts --write"},
		"a wrong hosts line is a note, too": {"off", "192.0.2.7", Noted, "deploy hosts --write"},
	} {
		t.Run(name, func(t *testing.T) {
			desc := describedLoopback()
			desc.EdgeTLS = c.tls
			s := surveyed(t, desc, nowhere)
			s.lookup = func(context.Context, string) ([]string, error) {
				if c.got == "" {
					return nil, &net.DNSError{IsNotFound: true}
				}
				return []string{c.got}, nil
			}
			proved, err := s.namesResolve(t.Context())
			if got := verdict("names", "", proved, err, 0)[0]; got.Status != c.want || got.Look != c.look {
				t.Errorf("got %+v", got)
			}
		})
	}
}
