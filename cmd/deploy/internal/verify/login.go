package verify

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"secureconnect/services/client"
)

// An account that a ladder could not remove, as it died, is removed by a later one after accountLife.
const (
	accountLife   = time.Hour
	accountPrefix = "verify-"
	accountShown  = "Deploy verify"
)

var accountPattern = regexp.MustCompile("^" + accountPrefix + "[0-9a-f]{12}$")

func climbLogin(ctx context.Context, s *site, p *proofs) {
	g := &guests{site: s}
	defer g.leave(ctx, p)
	p.prove(ctx, "form", "docker compose logs gateway on "+s.first("app"), s.showsForm)
	if s.Registration == "invite" {
		if !p.prove(ctx, "invite", "docker compose logs auth on "+s.first("app"), func(ctx context.Context) (string, error) {
			return g.invite(ctx, len(s.Groups["app"]))
		}) {
			return
		}
	}
	for _, host := range s.Groups["app"] {
		g.visit(ctx, p, host)
	}
	for _, lb := range s.lbs() {
		p.prove(ctx, "login through "+lb, "docker compose logs nginx on "+lb, func(ctx context.Context) (string, error) {
			return g.passThrough(ctx, lb)
		})
	}
}

// guests are the accounts this run makes, and how it makes them.
type guests struct {
	*site
	code string // an invite good for all of them
	made []*visitor
}

// visitor is one account and the way it goes: through a load balancer to one app host.
type visitor struct {
	*site
	lb       string
	host     string // the app host it wants, or the load balancer where it wants none
	api      *client.Client
	name     string
	password string
	tokens   client.Tokens
}

// showsForm: the guide's last step is this address in a browser.
func (s *site) showsForm(ctx context.Context) (string, error) {
	browser := s.httpClient(s.first("lb"))
	defer browser.CloseIdleConnections()
	at := s.url(s.Names.API, "/v1/auth/login")
	got, err := answer(ctx, browser, http.MethodGet, at, nil)
	if err != nil {
		return "", s.explainTLS(err, s.Names.API, s.Hosts[s.first("lb")].PublicAddress)
	}
	if got.status != http.StatusOK || !strings.HasPrefix(got.header.Get("Content-Type"), "text/html") {
		return "", fail("docker compose logs gateway on "+listing(s.Groups["app"]), "GET %s answers a browser with %d %s", at, got.status, got.header.Get("Content-Type"))
	}
	page := strings.ToLower(string(got.body))
	if !strings.Contains(page, "<form") && !strings.Contains(page, "<script") {
		return "", fail("services/gateway/web", "%s shows a browser neither a form nor a program that makes one", at)
	}
	return at + " shows a browser the login form", nil
}

// command runs a user command where the accounts are, on the first app host that can.
func (g *guests) command(ctx context.Context, stdin string, args ...string) (string, error) {
	var failed error
	for _, host := range g.Groups["app"] {
		argv := g.compose("app", append([]string{"exec", "-T", "auth", "/secureconnect", "user", "--by", "deploy verify"}, args...)...)
		out, err := g.shell.Run(ctx, host, strings.NewReader(stdin), argv...)
		if err == nil {
			return strings.TrimSpace(string(out)), nil
		}
		failed = errors.Join(failed, fmt.Errorf("user %s on %s: %w", args[0], host, err))
	}
	return "", failed
}

func (g *guests) invite(ctx context.Context, wanted int) (string, error) {
	code, err := g.command(ctx, "", "invite", "--uses", fmt.Sprint(wanted), "--expires", accountLife.String())
	if err != nil {
		return "", err
	}
	if code == "" || strings.ContainsAny(code, " \n") {
		return "", fail("docker compose exec auth /secureconnect user invite on "+g.first("app"), "user invite printed something else than one code")
	}
	g.code = code
	return fmt.Sprintf("an invite for %d accounts was made", wanted), nil
}

// welcome makes an account on each of the hosts, and logs it in there.
func (g *guests) welcome(ctx context.Context, hosts ...string) ([]*visitor, error) {
	if g.Registration == "invite" {
		if _, err := g.invite(ctx, len(hosts)); err != nil {
			return nil, err
		}
	}
	people := make([]*visitor, len(hosts))
	for i, host := range hosts {
		v, err := g.visitor(g.first("lb"), host)
		if err != nil {
			return nil, err
		}
		people[i] = v
		if _, err := g.arrive(ctx, v); err != nil {
			return nil, err
		}
		if _, err := v.login(ctx); err != nil {
			return nil, err
		}
	}
	return people, nil
}

// arrive makes an account as the deployment's registration wants it.
func (g *guests) arrive(ctx context.Context, v *visitor) (string, error) {
	g.made = append(g.made, v)
	if g.Registration == "closed" {
		_, err := g.command(ctx, v.password+"\n", "add", v.name, "--display-name", accountShown, "--expires", accountLife.String())
		return "registration is closed; deploy user add made an account", err
	}
	_, got, err := v.api.Register(ctx, client.Registration{Username: v.name, Password: v.password, DisplayName: accountShown, Invite: g.code})
	if err != nil {
		return "", v.explain("register", err)
	}
	if g.Registration == "open" {
		return "whoever comes may register", v.answeredBy(got)
	}
	return "an invited person registers", v.answeredBy(got)
}

// leave removes every account, whatever happened before: also when the run was cancelled.
func (g *guests) leave(ctx context.Context, p *proofs) {
	if len(g.made) == 0 {
		return
	}
	p.prove(context.WithoutCancel(ctx), "accounts removed", "deploy user list", func(ctx context.Context) (string, error) {
		names, err := g.leftBehind(ctx)
		for _, v := range g.made {
			v.api.Close()
			names = append(names, v.name)
		}
		return fmt.Sprintf("%d accounts are gone", len(names)), errors.Join(err, g.remove(ctx, names))
	})
}

func (g *guests) remove(ctx context.Context, names []string) error {
	var removal errgroup.Group
	removal.SetLimit(4)
	failed := make([]error, len(names))
	for i, name := range names {
		removal.Go(func() error {
			_, failed[i] = g.command(ctx, "", "remove", name)
			return nil
		})
	}
	_ = removal.Wait() // errors are told per account
	return errors.Join(failed...)
}

// leftBehind are accounts of ladders that died.
func (g *guests) leftBehind(ctx context.Context) ([]string, error) {
	out, err := g.command(ctx, "", "list", "--json")
	if err != nil {
		return nil, err
	}
	var users []client.User
	if err := json.Unmarshal([]byte(out), &users); err != nil {
		return nil, fmt.Errorf("read the list of users: %w", err)
	}
	var names []string
	for _, user := range users {
		if accountPattern.MatchString(user.Username) && user.DisplayName == accountShown && time.Since(user.CreatedAt) > accountLife {
			names = append(names, user.Username)
		}
	}
	return names, nil
}

func (g *guests) visitor(lb, host string) (*visitor, error) {
	api, err := g.client(g.Names.API, lb, host)
	if err != nil {
		return nil, err
	}
	return &visitor{site: g.site, lb: lb, host: host, api: api, name: accountPrefix + random(6), password: random(16)}, nil
}

func random(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never errs
	return hex.EncodeToString(b)
}

// visit goes through a person's whole session on one app host.
func (g *guests) visit(ctx context.Context, p *proofs, host string) {
	v, err := g.visitor(g.first("lb"), host)
	if err != nil {
		p.prove(ctx, "login on "+host, "public_domain", func(context.Context) (string, error) { return "", err })
		return
	}
	log := "docker compose logs auth gateway on " + host
	here := func(name string, proof func(context.Context) (string, error)) bool {
		return p.prove(ctx, name+" on "+host, log, proof)
	}
	if !here("register", func(ctx context.Context) (string, error) { return g.arrive(ctx, v) }) || !here("login", v.login) {
		return
	}
	here("wrong password", v.wrongPassword)
	here("token kinds", v.tokenKinds)
	if here("rotation", v.rotation) {
		here("reuse", v.reuse)
	}
	here("logout", v.logout)
}

func (v *visitor) login(ctx context.Context) (string, error) {
	tokens, got, err := v.api.Login(ctx, v.credentials())
	if err != nil {
		return "", v.explain("login", err)
	}
	v.tokens = tokens
	if err := v.answeredBy(got); err != nil {
		return "", err
	}
	me, _, err := v.api.Me(ctx, tokens.AccessToken)
	if err != nil {
		return "", v.explain("users/me after login", err)
	}
	if me.Username != v.name || me.ID != tokens.User.ID {
		return "", fail("", "login was for %s, but users/me is somebody else", v.name)
	}
	return fmt.Sprintf("a person logs in, for %d s, and is who they said", tokens.ExpiresIn), nil
}

func (v *visitor) credentials() client.Credentials {
	return client.Credentials{Username: v.name, Password: v.password, DeviceName: "deploy verify"}
}

// wrongPassword: a stranger must not learn who has an account.
func (v *visitor) wrongPassword(ctx context.Context) (string, error) {
	wrong := v.credentials()
	wrong.Password = "x" + v.password
	_, _, err := v.api.Login(ctx, wrong)
	known, err := v.refused(err, "a wrong password")
	if err != nil {
		return "", err
	}
	wrong.Username = accountPrefix + "nobody-" + random(4)
	_, _, err = v.api.Login(ctx, wrong)
	unknown, err := v.refused(err, "an unknown name")
	if err != nil {
		return "", err
	}
	if known.Code != unknown.Code || known.Title != unknown.Title || known.Detail != unknown.Detail {
		return "", fail("", "a wrong password (%s) and an unknown name (%s) are told apart", known, unknown)
	}
	return "refused with 401 " + known.Code + ", and so is an unknown name, in the same words", nil
}

// tokenKinds: a refresh token lives long and must open nothing by itself.
func (v *visitor) tokenKinds(ctx context.Context) (string, error) {
	_, _, err := v.api.Me(ctx, v.tokens.RefreshToken)
	if _, err := v.refused(err, "a refresh token used as an access token"); err != nil {
		return "", err
	}
	_, _, err = v.api.Refresh(ctx, v.tokens.AccessToken)
	if _, err := v.refused(err, "an access token used as a refresh token"); err != nil {
		return "", err
	}
	return "neither token is accepted in the other's place", nil
}

// rotation leaves v.tokens as they were, used once.
func (v *visitor) rotation(ctx context.Context) (string, error) {
	next, got, err := v.api.Refresh(ctx, v.tokens.RefreshToken)
	if err != nil {
		return "", v.explain("refresh", err)
	}
	if err := v.answeredBy(got); err != nil {
		return "", err
	}
	if next.RefreshToken == v.tokens.RefreshToken || next.RefreshToken == "" {
		return "", fail("", "a refresh token is not replaced when it is used")
	}
	repeated, _, err := v.api.Refresh(ctx, v.tokens.RefreshToken)
	if err != nil {
		return "", v.explain("repeat the refresh at once", err)
	}
	if repeated.RefreshToken != next.RefreshToken {
		return "", fail("token_secret in secrets_file (all app hosts need the same)", "the same refresh, repeated at once, gives another successor")
	}
	if _, _, err := v.api.Me(ctx, next.AccessToken); err != nil {
		return "", v.explain("users/me after refresh", err)
	}
	return "a refresh token is replaced at every use, and a repeat at once gives the same one", nil
}

// reuse uses the successor and then the token before it, as a thief and a victim would.
func (v *visitor) reuse(ctx context.Context) (string, error) {
	second, _, err := v.api.Refresh(ctx, v.tokens.RefreshToken)
	if err != nil {
		return "", v.explain("refresh", err)
	}
	third, _, err := v.api.Refresh(ctx, second.RefreshToken)
	if err != nil {
		return "", v.explain("refresh with the successor", err)
	}
	_, _, err = v.api.Refresh(ctx, v.tokens.RefreshToken)
	if _, err := v.refused(err, "a refresh token whose successor has been used"); err != nil {
		return "", err
	}
	_, _, err = v.api.Refresh(ctx, third.RefreshToken)
	if _, err := v.refused(err, "the newest token of a family that was stolen from"); err != nil {
		return "", err
	}
	if err := v.deadEverywhere(ctx, third.AccessToken); err != nil {
		return "", err
	}
	return "a used-up token ends its whole family: the session is dead on " + listing(v.Groups["app"]), nil
}

// deadEverywhere asks every app host, since a revocation that one of them missed is none.
func (v *visitor) deadEverywhere(ctx context.Context, access string) error {
	for _, host := range v.Groups["app"] {
		api, err := v.client(v.Names.API, v.first("lb"), host)
		if err != nil {
			return err
		}
		_, _, err = api.Me(ctx, access)
		api.Close()
		if _, err := v.refused(err, "an access token of an ended session, on "+host); err != nil {
			return err
		}
	}
	return nil
}

func (v *visitor) logout(ctx context.Context) (string, error) {
	tokens, _, err := v.api.Login(ctx, v.credentials())
	if err != nil {
		return "", v.explain("login again", err)
	}
	got, err := v.api.Logout(ctx, tokens.AccessToken)
	if err != nil {
		return "", v.explain("logout", err)
	}
	if err := v.answeredBy(got); err != nil {
		return "", err
	}
	if err := v.deadEverywhere(ctx, tokens.AccessToken); err != nil {
		return "", err
	}
	_, _, err = v.api.Refresh(ctx, tokens.RefreshToken)
	if _, err := v.refused(err, "a refresh token after logout"); err != nil {
		return "", err
	}
	return "after logout neither token opens anything", nil
}

// passThrough logs one of the accounts in without asking for an app host.
func (g *guests) passThrough(ctx context.Context, lb string) (string, error) {
	if len(g.made) == 0 {
		return "", fail("deploy status", "no app host made an account to log in with")
	}
	api, err := g.client(g.Names.API, lb, "")
	if err != nil {
		return "", err
	}
	defer api.Close()
	v := &visitor{site: g.site, lb: lb, host: lb, api: api, name: g.made[0].name, password: g.made[0].password}
	tokens, got, err := api.Login(ctx, v.credentials())
	if err != nil {
		return "", v.explain("login", err)
	}
	if _, err := api.Logout(ctx, tokens.AccessToken); err != nil {
		return "", v.explain("logout", err)
	}
	return fmt.Sprintf("a person who asks for no app host is served by %s", got.ServedBy), nil
}

// answeredBy holds the host that answered against the one that was asked for.
func (v *visitor) answeredBy(got client.Answer) error {
	switch got.ServedBy {
	case v.host:
		return nil
	case "":
		return fail("the gateway's APP_HOST in "+v.RemoteRoot+"/app/.env on "+v.host, "answers carry no X-Served-By")
	default:
		return fail("deploy status, and docker compose ps on "+v.host, "%s answered for %s, which takes no traffic", got.ServedBy, v.host)
	}
}

// refused wants a 401; anything else is the finding.
func (v *visitor) refused(err error, what string) (*client.Problem, error) {
	var problem *client.Problem
	switch {
	case err == nil:
		return nil, fail("", "%s is accepted", what)
	case errors.As(err, &problem) && problem.Status == http.StatusUnauthorized:
		return problem, nil
	default:
		return nil, v.explain(what, err)
	}
}

// explain names the cause of an answer that was not hoped for.
func (v *visitor) explain(what string, err error) error {
	var problem *client.Problem
	switch {
	case !errors.As(err, &problem):
		return v.explainTLS(err, v.Names.API, v.Hosts[v.lb].PublicAddress)
	case problem.Status == http.StatusTooManyRequests:
		return fail("run it again later", "%s: too many attempts from here; free again in %s", what, problem.RetryAfter.Round(time.Second))
	case problem.Status == http.StatusServiceUnavailable:
		return fail("deploy status, and docker compose logs auth on "+v.host, "%s: a store does not answer: %s (request %s)", what, problem, problem.Answer.RequestID)
	case problem.Status == http.StatusBadGateway || problem.Status == http.StatusGatewayTimeout:
		return fail("deploy status, and docker compose ps on "+listing(v.Groups["app"]), "%s: no app host answers the load balancer (%d)", what, problem.Status)
	case problem.Code == "":
		return fail("edge_waf, and docker compose logs nginx on "+v.first("lb"), "%s: answered %d by something before the service", what, problem.Status)
	default:
		return fail("", "%s: %s (request %s)", what, problem, problem.Answer.RequestID)
	}
}
