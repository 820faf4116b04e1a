package verify

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gorilla/websocket"

	"secureconnect/services/client"
)

// edgeNames are served by the load balancers, in the order they are told.
func (s *site) edgeNames() []string { return []string{s.Names.API, s.Names.Chat, s.Names.Files} }

// minimumDays is how long a certificate must still live.
const minimumDays = 7

// closeBadFrame is the final close code for a first frame that is not an auth frame.
const closeBadFrame = 4503

func climbEdges(ctx context.Context, s *site, p *proofs) {
	p.prove(ctx, "names", "deploy hosts", s.namesResolve)
	for _, lb := range s.lbs() {
		// What follows would only repeat that nobody is there.
		if p.prove(ctx, "way in to "+lb, "public_addresses", func(ctx context.Context) (string, error) { return s.answersAt(ctx, lb) }) {
			s.climbEdge(ctx, p, lb)
		}
	}
	p.prove(ctx, "certificate of "+s.Names.Turn, "roles/coturn", s.turnCertificate)
}

func (s *site) climbEdge(ctx context.Context, p *proofs, lb string) {
	if s.secure() {
		s.climbTLS(ctx, p, lb)
	} else {
		p.prove(ctx, "plain http on "+lb, "edge_tls", func(ctx context.Context) (string, error) {
			return s.servesPlain(ctx, lb)
		})
	}
	p.prove(ctx, "socket on "+lb, s.gatewayLog(), func(ctx context.Context) (string, error) {
		return s.socketAnswers(ctx, lb)
	})
	p.prove(ctx, "origin on "+lb, "public_domain", func(ctx context.Context) (string, error) {
		return s.strangeOriginRefused(ctx, lb)
	})
}

// answersAt connects to a load balancer's public ports.
func (s *site) answersAt(ctx context.Context, lb string) (string, error) {
	ports := []int{s.port("http", 80)}
	if s.secure() {
		ports = append(ports, s.port("https", 443))
	}
	var told []string
	for _, port := range ports {
		at := net.JoinHostPort(s.Hosts[lb].PublicAddress, strconv.Itoa(port))
		dialer := net.Dialer{Timeout: 5 * time.Second}
		conn, err := dialer.DialContext(ctx, "tcp", at)
		if err != nil {
			return "", s.explainDial(err, at)
		}
		_ = conn.Close()
		told = append(told, at)
	}
	return listing(told) + " take connections", nil
}

func (s *site) climbTLS(ctx context.Context, p *proofs, lb string) {
	for _, name := range s.edgeNames() {
		p.prove(ctx, "certificate of "+name+" on "+lb, s.certificateSource(), func(ctx context.Context) (string, error) {
			return s.certificate(ctx, name, s.Hosts[lb].PublicAddress, s.port("https", 443))
		})
	}
	p.prove(ctx, "redirect on "+lb, "edge_tls", func(ctx context.Context) (string, error) {
		return s.redirects(ctx, lb)
	})
	p.prove(ctx, "hsts on "+lb, "edge_tls", func(ctx context.Context) (string, error) {
		return s.strictTransport(ctx, lb)
	})
}

// namesResolve holds this machine's view of the names against the inventory. Where only our own machines
// know them (a lab, a private authority) a miss is a note, since everything else dials the address.
func (s *site) namesResolve(ctx context.Context) (string, error) {
	var wrong []string
	for _, name := range append(s.edgeNames(), s.Names.Turn) {
		group := "lb"
		if name == s.Names.Turn {
			group = "storage"
		}
		if problem := s.resolves(ctx, name, s.publicAddresses(group)); problem != "" {
			wrong = append(wrong, problem)
		}
	}
	if len(wrong) == 0 {
		return fmt.Sprintf("api., chat., files. and turn.%s lead from this machine to %s and %s", s.PublicDomain,
			listing(s.publicAddresses("lb")), listing(s.publicAddresses("storage"))), nil
	}
	if s.trustedByAll() {
		return "", fail("the DNS records of public_domain, and public_addresses", "%s", strings.Join(wrong, "; "))
	}
	return "", noted("deploy hosts --write", "%s; the addresses are dialled directly", strings.Join(wrong, "; "))
}

// resolves says what is wrong with a name's addresses, or nothing.
func (s *site) resolves(ctx context.Context, name string, want []string) string {
	got, err := s.lookup(ctx, name)
	if err != nil {
		return name + " is unknown to this machine"
	}
	for _, address := range got {
		if !slices.Contains(want, address) {
			return fmt.Sprintf("%s leads to %s and not to %s", name, address, listing(want))
		}
	}
	return ""
}

func (s *site) publicAddresses(group string) []string {
	var addresses []string
	for _, host := range s.Groups[group] {
		addresses = append(addresses, s.Hosts[host].PublicAddress)
	}
	return addresses
}

// certificateSource is the variable that decides where the edge's certificate comes from.
func (s *site) certificateSource() string {
	if s.EdgeTLS == "provided" {
		return "edge_certificate_file"
	}
	return "edge_tls"
}

// certificate verifies the whole chain as a client does, and that it will live a while.
func (s *site) certificate(ctx context.Context, name, address string, port int) (string, error) {
	at := net.JoinHostPort(address, strconv.Itoa(port))
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: s.tlsConfig(name)}
	conn, err := dialer.DialContext(ctx, "tcp", at)
	if err != nil {
		return "", s.explainTLS(err, name, at)
	}
	defer func() { _ = conn.Close() }()
	state := conn.(*tls.Conn).ConnectionState()
	return s.lives(state.VerifiedChains[0], name, time.Now())
}

// lives judges the shortest life in a chain: it ends with its first expired link.
func (s *site) lives(chain []*x509.Certificate, name string, now time.Time) (string, error) {
	ends := chain[0].NotAfter
	for _, link := range chain {
		if link.NotAfter.Before(ends) {
			ends = link.NotAfter
		}
	}
	days := int(ends.Sub(now).Hours() / 24)
	if days < minimumDays {
		return "", fail(s.certificateSource()+" (deploy apply renews what the deployment issues itself)",
			"the certificate of %s ends in %d days, on %s; at least %d are wanted", name, days, ends.Format(time.DateOnly), minimumDays)
	}
	return fmt.Sprintf("the chain of %s verifies up to %q and lives %d more days", name, chain[len(chain)-1].Subject.CommonName, days), nil
}

// explainTLS names the cause of a handshake that came to nothing.
func (s *site) explainTLS(err error, name, at string) error {
	var unknown x509.UnknownAuthorityError
	var wrongName x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		return fail(s.certificateSource()+" (the chain must be whole), pki_dir", "the certificate of %s is signed by an authority that %s does not hold", name, s.trustStore())
	case errors.As(err, &wrongName):
		return fail("public_domain, "+s.certificateSource(), "the certificate at %s is for %s and not for %s", at, listing(wrongName.Certificate.DNSNames), name)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fail(s.certificateSource(), "the certificate of %s is out of date: %s", name, invalid.Detail)
	default:
		return s.explainDial(err, at)
	}
}

func (s *site) trustStore() string {
	if s.roots == nil {
		return "this machine"
	}
	return s.CAFile
}

// explainDial tells a closed door from a silent one.
func (s *site) explainDial(err error, at string) error {
	host := s.hostAt(at)
	var timeout interface{ Timeout() bool }
	var dialled *net.OpError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fail("deploy status, and docker compose ps on "+host, "nothing listens at %s", at)
	case errors.As(err, &timeout) && timeout.Timeout() && (!errors.As(err, &dialled) || dialled.Op != "dial"):
		return fail("deploy status, and docker compose logs on "+host, "%s takes the connection but gives no answer in time", at)
	case errors.As(err, &timeout) && timeout.Timeout():
		return fail("port_table in group_vars/all/ports.yml, and nft list table inet secureconnect on "+host, "%s does not answer: a firewall drops it, or the host is down", at)
	default:
		return fmt.Errorf("%s: %w", at, err)
	}
}

// hostAt names the host of an address with or without a port; an address of no host is its own name.
func (s *site) hostAt(at string) string {
	address, _, err := net.SplitHostPort(at)
	if err != nil {
		address = at
	}
	for _, name := range s.HostNames() {
		if h := s.Hosts[name]; h.PublicAddress == address || h.Address == address {
			return name
		}
	}
	return address
}

func (s *site) turnCertificate(ctx context.Context) (string, error) {
	return s.certificate(ctx, s.Names.Turn, s.Turn.PublicAddress, s.Turn.TLSPort)
}

// redirects proves that port 80 sends a reader to https and refuses what carries a body, which would
// otherwise have crossed the network in clear.
func (s *site) redirects(ctx context.Context, lb string) (string, error) {
	client := s.httpClient(lb)
	defer client.CloseIdleConnections()
	got, err := answer(ctx, client, http.MethodGet, s.plainURL(s.Names.API, "/v1/auth/login"), nil)
	if err != nil {
		return "", s.explainDial(err, s.Hosts[lb].PublicAddress)
	}
	if want := s.url(s.Names.API, "/v1/auth/login"); got.status != http.StatusPermanentRedirect || got.header.Get("Location") != want {
		return "", fail("edge_tls", "GET over http answers %d to %q, not 308 to %s", got.status, got.header.Get("Location"), want)
	}
	got, err = answer(ctx, client, http.MethodPost, s.plainURL(s.Names.API, "/v1/auth/login"), []byte(`{}`))
	if err != nil {
		return "", s.explainDial(err, s.Hosts[lb].PublicAddress)
	}
	if got.status != http.StatusForbidden || got.code() != "https_required" {
		return "", fail("edge_tls", "POST over http answers %d %q, not 403 \"https_required\"", got.status, got.code())
	}
	return "http sends readers to https with 308 and refuses a POST with 403 https_required", nil
}

// strictTransport: a browser must not be bound to https by an authority it will be asked to forget.
func (s *site) strictTransport(ctx context.Context, lb string) (string, error) {
	client := s.httpClient(lb)
	defer client.CloseIdleConnections()
	got, err := answer(ctx, client, http.MethodGet, s.url(s.Names.API, "/v1/auth/login"), nil)
	if err != nil {
		return "", s.explainTLS(err, s.Names.API, s.Hosts[lb].PublicAddress)
	}
	hsts := got.header.Get("Strict-Transport-Security")
	switch {
	case s.trustedByAll() && hsts == "":
		return "", fail("edge_tls", "answers carry no Strict-Transport-Security, though edge_tls is %s", s.EdgeTLS)
	case !s.trustedByAll() && hsts != "":
		return "", fail("edge_tls", "answers carry Strict-Transport-Security, though edge_tls is %s", s.EdgeTLS)
	case hsts != "":
		return "browsers are told to stay with https: " + hsts, nil
	default:
		return "no browser is bound to https by a private authority", nil
	}
}

func (s *site) servesPlain(ctx context.Context, lb string) (string, error) {
	client := s.httpClient(lb)
	defer client.CloseIdleConnections()
	at := s.plainURL(s.Names.API, "/v1/auth/login")
	got, err := answer(ctx, client, http.MethodGet, at, nil)
	if err != nil {
		return "", s.explainDial(err, s.Hosts[lb].PublicAddress)
	}
	if got.status != http.StatusOK {
		return "", fail("edge_tls", "GET %s answers %d", at, got.status)
	}
	return "the guide's plain address answers: " + at, nil
}

// socketAnswers upgrades, sends what is no auth frame and reads the final close code.
func (s *site) socketAnswers(ctx context.Context, lb string) (string, error) {
	began := time.Now()
	socket, err := s.socket(ctx, lb, s.url(s.Names.Chat, ""))
	if err != nil {
		return "", s.explainUpgrade(err, lb)
	}
	defer func() { _ = socket.Close() }()
	upgraded := time.Since(began)
	if err := socket.SendRaw(ctx, websocket.TextMessage, []byte("this is no frame")); err != nil {
		return "", err
	}
	err = socket.Wait(ctx)
	var closed *client.CloseError
	if !errors.As(err, &closed) {
		return "", fail(s.gatewayLog(), "the socket is not closed after a frame that is none: %v", err)
	}
	if closed.Code != closeBadFrame {
		return "", fail(s.gatewayLog(), "a frame that is none closes the socket with %d, not %d", closed.Code, closeBadFrame)
	}
	return fmt.Sprintf("upgrades in %d ms and closes a frame that is none with %d", upgraded.Milliseconds(), closeBadFrame), nil
}

func (s *site) strangeOriginRefused(ctx context.Context, lb string) (string, error) {
	socket, err := s.socket(ctx, lb, "https://chat.example.invalid")
	if err == nil {
		_ = socket.Close()
		return "", fail("public_domain, and PUBLIC_DOMAIN in "+s.RemoteRoot+"/app/.env", "a page of another origin was given a socket")
	}
	var refused *client.Problem
	if !errors.As(err, &refused) || refused.Status != http.StatusForbidden {
		return "", s.explainUpgrade(err, lb)
	}
	return "a page of another origin is refused the socket with 403", nil
}

// socket opens one as a page of origin would, unauthenticated.
func (s *site) socket(ctx context.Context, lb, origin string) (*client.Socket, error) {
	api, err := s.client(s.Names.Chat, lb, "")
	if err != nil {
		return nil, err
	}
	return api.DialSocket(ctx, client.PathSocket, http.Header{"Origin": {origin}})
}

func (s *site) explainUpgrade(err error, lb string) error {
	var refused *client.Problem
	if !errors.As(err, &refused) {
		return s.explainTLS(err, s.Names.Chat, s.Hosts[lb].PublicAddress)
	}
	look := "docker compose logs nginx on " + lb
	if refused.Status >= http.StatusInternalServerError {
		look = "deploy status, and docker compose ps on " + listing(s.Groups["app"])
	}
	return fail(look, "the upgrade of /v1/ws answers %d %s", refused.Status, refused.Code)
}

func (s *site) gatewayLog() string {
	return "docker compose logs gateway chat on " + listing(s.Groups["app"])
}

// reply is an HTTP answer, read whole.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// code is the stable code of a problem document.
func (r reply) code() string {
	var problem struct {
		Code string `json:"code"`
	}
	_ = json.Unmarshal(r.body, &problem) // what is no problem document has no code
	return problem.Code
}

// answer asks as a browser does.
func answer(ctx context.Context, client *http.Client, method, url string, body []byte) (reply, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	req.Header.Set("Accept", "text/html, application/json;q=0.5")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return reply{resp.StatusCode, resp.Header, text}, err
}
