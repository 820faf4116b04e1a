package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/google/uuid"
	"github.com/labstack/echo/v5"
	"github.com/redis/go-redis/v9"

	"secureconnect/services/auth"
	"secureconnect/services/auth/contacts"
	"secureconnect/services/auth/keys"
	"secureconnect/services/chat"
	"secureconnect/services/client"
	"secureconnect/services/gateway"
	"secureconnect/services/internal/config"
	"secureconnect/services/internal/cqlstore"
	"secureconnect/services/internal/redisstore"
	"secureconnect/services/internal/session"
	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/testkit"
	"secureconnect/services/internal/token"
	"secureconnect/services/internal/web"
	"secureconnect/services/internal/wire"
	"secureconnect/services/video"
	"secureconnect/services/video/sfu"
)

const documentFile = "../gateway/openapi.yaml"

func documented(t *testing.T) *openapi3.T {
	t.Helper()
	document, err := openapi3.NewLoader().LoadFromFile(documentFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := document.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	document.Servers = nil // the test's own address serves
	return document
}

var parameter = regexp.MustCompile(`:(\w+)`)

func TestInterfaceIsDocumented(t *testing.T) {
	var described []string
	for path, item := range documented(t).Paths.Map() {
		for method := range item.Operations() {
			described = append(described, method+" "+path)
		}
	}
	g, err := gateway.New(slog.New(slog.DiscardHandler), gateway.Config{Auth: &url.URL{Scheme: "http", Host: "auth"}, PublicDomain: "example.test"})
	if err != nil {
		t.Fatal(err)
	}
	served := g.Endpoints()
	routes := echo.New()
	auth.Routes(routes, &auth.Service{}, true)
	contacts.Routes(routes, &contacts.Service{}, nil)
	keys.Routes(routes, &keys.Service{}, nil)
	chat.Routes(routes, &chat.Service{})
	chat.SocketRoute(routes, &chat.Live{})
	video.Routes(routes, &video.Service{})
	video.SocketRoute(routes, &video.Live{})
	for _, route := range routes.Router().Routes() {
		if route.Method != echo.RouteNotFound && !strings.HasPrefix(route.Path, "/internal/") {
			served = append(served, route.Method+" "+parameter.ReplaceAllString(route.Path, "{$1}"))
		}
	}
	slices.Sort(described)
	slices.Sort(served)
	if !slices.Equal(described, served) {
		t.Errorf("%s and the routers differ.\ndescribed: %q\nserved:    %q", documentFile, described, served)
	}
}

// platform is auth and chat behind a gateway, in this process, on real stores.
type platform struct {
	url string
	sql *sqlstore.Store
	tap *tap // of what the SFU sees
}

func newPlatform(t *testing.T) *platform {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	sql := testkit.Postgres(t)
	if _, err := sql.Migrate(t.Context(), log, auth.Migrations()...); err != nil {
		t.Fatal(err)
	}
	store := testkit.RedisConfig(t)
	hints := redisstore.Open(store)
	t.Cleanup(func() { _ = hints.Close() })
	service, err := auth.New(auth.Parts{
		Log: log, SQL: sql, Redis: hints,
		TokenSecret: config.NewSecret(strings.Repeat("t", 40)), Registration: auth.RegistrationOpen,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.Close)
	loopback := web.Config{Listen: "127.0.0.1:0", MetricsListen: "127.0.0.1:0", BodyLimit: keys.BodyLimit}
	behind := web.NewServer(log, "auth", loopback)
	beside := auth.Mount(behind, service, false)
	address, err := behind.Open()
	if err != nil {
		t.Fatal(err)
	}
	keepRunning(t, behind.Run)
	keepRunning(t, beside)

	authURL := &url.URL{Scheme: "http", Host: address.String()}
	cql, sees := testkit.Cassandra(t), &tap{}
	chatURL := chatService(t, sql, cql, hints, authURL)
	edge, err := gateway.New(log, gateway.Config{
		Web: loopback, Redis: store, Auth: authURL, Chat: chatURL, Video: videoService(t, sql, cql, hints, authURL, chatURL, sees),
		Host: "app-09", PublicDomain: "example.test", EdgeTLS: "off", Client: "../gateway/testdata/web",
	})
	if err != nil {
		t.Fatal(err)
	}
	public, err := edge.Open()
	if err != nil {
		t.Fatal(err)
	}
	keepRunning(t, edge.Run)
	return &platform{"http://" + public.String(), sql, sees}
}

// chatService runs chat and tells where.
func chatService(t *testing.T, sql *sqlstore.Store, cql *cqlstore.Store, hints *redis.Client, authURL *url.URL) *url.URL {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	if _, err := chat.Schema.MigrateIn(t.Context(), log, sql, cql); err != nil {
		t.Fatal(err)
	}
	keys := token.NewRemote(authURL.JoinPath(wire.PathJWKS).String(), http.DefaultClient)
	live := chat.NewLive(chat.LiveParts{Log: log, Redis: hints, Sessions: session.NewCheck(authURL, http.DefaultClient)})
	service := chat.New(chat.Parts{Log: log, SQL: sql, CQL: cql, Relations: chat.NewRelations(authURL, http.DefaultClient), Verifier: keys, Announce: live.Announce})
	t.Cleanup(service.Close)
	live.Serve(service)
	server := web.NewServer(log, "chat", web.Config{Listen: "127.0.0.1:0", MetricsListen: "127.0.0.1:0"})
	server.OnStop(live.Stop)
	chat.Routes(server.Echo, service)
	chat.SocketRoute(server.Echo, live)
	keepRunning(t, live.Run)
	address, err := server.Open()
	if err != nil {
		t.Fatal(err)
	}
	keepRunning(t, server.Run)
	return &url.URL{Scheme: "http", Host: address.String()}
}

// videoService runs video and tells where.
func videoService(t *testing.T, sql *sqlstore.Store, cql *cqlstore.Store, hints *redis.Client, authURL, chatURL *url.URL, sees *tap) *url.URL {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	if _, err := video.Schema.MigrateIn(t.Context(), log, sql, cql); err != nil {
		t.Fatal(err)
	}
	here := netip.MustParseAddr("127.0.0.1")
	port, err := net.ListenUDP("udp", &net.UDPAddr{IP: here.AsSlice()})
	if err != nil {
		t.Fatal(err)
	}
	media, err := sfu.New(sfu.Options{Log: log, Conn: port, Address: here, Tap: sees.take})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = media.Close() })
	service := video.New(video.Parts{
		Log: log, SQL: sql, CQL: cql, Redis: hints, Callers: video.NewCallers(chatURL, http.DefaultClient),
		Verifier: token.NewRemote(authURL.JoinPath(wire.PathJWKS).String(), http.DefaultClient),
	})
	server := web.NewServer(log, "video", web.Config{Listen: "127.0.0.1:0", MetricsListen: "127.0.0.1:0"})
	address, err := server.Open()
	if err != nil {
		t.Fatal(err)
	}
	live := video.NewLive(video.LiveParts{
		Log: log, Service: service, Media: media, Sessions: session.NewCheck(authURL, http.DefaultClient), Host: "app-09", Address: address.String(),
		TURN: video.TURN{Host: "turn.example.test", Port: 3478, TLSPort: 5349, Secret: config.NewSecret("north"), Life: time.Minute},
	})
	server.OnStop(live.Stop)
	video.Routes(server.Echo, service)
	video.SocketRoute(server.Echo, live)
	keepRunning(t, live.Run)
	keepRunning(t, service.Sweep)
	keepRunning(t, server.Run)
	return &url.URL{Scheme: "http", Host: address.String()}
}

func keepRunning(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// watch puts somebody between client and platform who compares every exchange with the document.
func watch(t *testing.T, p *platform) *client.Client {
	t.Helper()
	router, err := legacy.NewRouter(documented(t))
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		ErrorLog:       log.New(io.Discard, "", 0), // a client that leaves is no news
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: func(response *http.Response) error { compare(t, router, response); return nil },
	}
	between := httptest.NewServer(proxy)
	t.Cleanup(between.Close)
	c, err := client.New(client.Options{BaseURL: between.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func compare(t *testing.T, router routers.Router, response *http.Response) {
	request := response.Request.Clone(context.Background())
	request.URL.Scheme, request.URL.Host = "", ""
	route, pathParameters, err := router.FindRoute(request)
	if err != nil {
		t.Errorf("%s %s is not documented: %v", request.Method, request.URL.Path, err)
		return
	}
	if response.StatusCode == http.StatusSwitchingProtocols {
		return
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: request, PathParams: pathParameters, Route: route},
		Status:                 response.StatusCode,
		Header:                 response.Header,
	}
	input.SetBodyBytes(readAgain(t, response))
	if err := openapi3filter.ValidateResponse(context.Background(), input); err != nil {
		t.Errorf("%s %s: %v", request.Method, request.URL.Path, err)
	}
}

// One person's whole life here, through the client library, each answer compared with the document.
func TestAccountFromStartToEnd(t *testing.T) {
	c := watch(t, newPlatform(t))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const password, next = "a long password", "another password"
	mine := client.Credentials{Username: "linh", Password: password, DeviceName: "laptop"}

	user, answer, err := c.Register(ctx, client.Registration{Username: "linh", Password: password, DisplayName: "Linh"})
	if err != nil || answer.Status != http.StatusCreated || answer.ServedBy != "app-09" || answer.RequestID == "" {
		t.Fatalf("register: %+v, %+v, %v", user, answer, err)
	}
	_, _, err = c.Register(ctx, client.Registration{Username: "linh", Password: password, DisplayName: "Somebody else"})
	wantCode(t, err, "username_taken")
	_, _, err = c.Login(ctx, client.Credentials{Username: "linh", Password: "wrong"})
	wantCode(t, err, "wrong_credentials")
	_, _, err = c.Login(ctx, client.Credentials{Username: "nobody", Password: "wrong"})
	wantCode(t, err, "wrong_credentials")

	laptop, _, err := c.Login(ctx, mine)
	if err != nil || laptop.User.ID != user.ID || laptop.RefreshToken == "" {
		t.Fatalf("login: %+v, %v", laptop, err)
	}
	phone, _, err := c.Login(ctx, client.Credentials{Username: "linh", Password: password, DeviceName: "phone"})
	if err != nil {
		t.Fatal(err)
	}
	if me, _, err := c.UpdateMe(ctx, laptop.AccessToken, "Linh Trần"); err != nil || me.DisplayName != "Linh Trần" {
		t.Errorf("rename: %+v, %v", me, err)
	}
	if me, _, err := c.Me(ctx, phone.AccessToken); err != nil || me.DisplayName != "Linh Trần" {
		t.Errorf("me: %+v, %v", me, err)
	}
	_, _, err = c.Me(ctx, "")
	wantCode(t, err, "token_missing")
	_, _, err = c.Me(ctx, laptop.RefreshToken) // never taken for an access token
	wantCode(t, err, "token_invalid")

	socket, ready, err := c.Socket(ctx, phone.AccessToken)
	if err != nil || ready.SessionID != phone.SessionID {
		t.Fatalf("socket: %+v, %v", ready, err)
	}
	defer func() { _ = socket.Close() }()
	if _, err := socket.Ping(ctx); err != nil {
		t.Error(err)
	}
	sessions, _, err := c.Sessions(ctx, laptop.AccessToken)
	if err != nil || len(sessions) != 2 {
		t.Fatalf("sessions: %+v, %v", sessions, err)
	}
	if _, err := c.RevokeSession(ctx, laptop.AccessToken, phone.SessionID); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, socket.Wait(ctx), 4502)
	_, _, err = c.Me(ctx, phone.AccessToken)
	wantCode(t, err, "session_ended")
	_, err = c.RevokeSession(ctx, laptop.AccessToken, "0192f0c0-0000-7000-8000-000000000000")
	wantCode(t, err, "no_such_session")

	second, _, err := c.Refresh(ctx, laptop.RefreshToken)
	if err != nil || second.RefreshToken == laptop.RefreshToken {
		t.Fatalf("refresh: %v", err)
	}
	if again, _, err := c.Refresh(ctx, laptop.RefreshToken); err != nil || again.RefreshToken != second.RefreshToken {
		t.Errorf("a repeated refresh got another successor: %v", err)
	}
	if _, err := c.ChangePassword(ctx, second.AccessToken, "wrong", next); client.CodeOf(err) != "wrong_password" {
		t.Errorf("a wrong password changed: %v", err)
	}
	if _, err := c.ChangePassword(ctx, second.AccessToken, password, next); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Refresh(ctx, second.RefreshToken); err != nil {
		t.Fatal(err)
	}
	_, _, err = c.Refresh(ctx, laptop.RefreshToken) // its successor was used
	wantCode(t, err, "refresh_reused")
	_, _, err = c.Me(ctx, second.AccessToken)
	wantCode(t, err, "session_ended")

	mine.Password = next
	last, _, err := c.Login(ctx, mine)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteMe(ctx, last.AccessToken, "wrong"); client.CodeOf(err) != "wrong_password" {
		t.Errorf("a wrong password removed the account: %v", err)
	}
	if _, err := c.DeleteMe(ctx, last.AccessToken, next); err != nil {
		t.Fatal(err)
	}
	_, _, err = c.Login(ctx, mine)
	wantCode(t, err, "wrong_credentials")
}

// Two people find each other, agree, part and shut each other out, each answer compared with the document.
func TestContactsFromStartToEnd(t *testing.T) {
	c := watch(t, newPlatform(t))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	linh, mai := enter(t, c, "linh"), enter(t, c, "mai")

	found, _, err := c.SearchUsers(ctx, linh.AccessToken, "MA")
	if err != nil || len(found) != 1 || found[0].ID != mai.User.ID || found[0].Relation != "none" {
		t.Fatalf("search: %+v, %v", found, err)
	}
	_, _, err = c.SearchUsers(ctx, linh.AccessToken, "m")
	wantCode(t, err, "invalid_search")
	_, _, err = c.User(ctx, linh.AccessToken, "0192f0c0-0000-7000-8000-000000000000")
	wantCode(t, err, "no_such_user")
	_, _, err = c.RequestContact(ctx, linh.AccessToken, linh.User.ID)
	wantCode(t, err, "yourself")

	if asked, _, err := c.RequestContact(ctx, linh.AccessToken, mai.User.ID); err != nil || asked.State != "outgoing" {
		t.Fatalf("ask: %+v, %v", asked, err)
	}
	if seen, _, err := c.User(ctx, mai.AccessToken, linh.User.ID); err != nil || seen.Relation != "incoming" {
		t.Errorf("look: %+v, %v", seen, err)
	}
	_, _, err = c.AcceptContact(ctx, linh.AccessToken, mai.User.ID)
	wantCode(t, err, "no_such_request")
	if accepted, _, err := c.AcceptContact(ctx, mai.AccessToken, linh.User.ID); err != nil || accepted.State != "contact" {
		t.Errorf("accept: %+v, %v", accepted, err)
	}
	page, _, err := c.Contacts(ctx, linh.AccessToken, "")
	if err != nil || len(page.Contacts) != 1 || page.Contacts[0].State != "contact" || page.Next != "" {
		t.Errorf("list: %+v, %v", page, err)
	}
	page, _, err = c.Contacts(ctx, linh.AccessToken, mai.User.ID)
	if err != nil || len(page.Contacts) != 0 {
		t.Errorf("list from behind the last: %+v, %v", page, err)
	}
	if _, err := c.RemoveContact(ctx, linh.AccessToken, mai.User.ID); err != nil {
		t.Error(err)
	}
	_, err = c.RemoveContact(ctx, linh.AccessToken, mai.User.ID)
	wantCode(t, err, "no_such_contact")

	if _, _, err := c.RequestContact(ctx, linh.AccessToken, mai.User.ID); err != nil {
		t.Error(err)
	}
	if _, err := c.RejectContact(ctx, mai.AccessToken, linh.User.ID); err != nil {
		t.Error(err)
	}
	if _, err := c.BlockUser(ctx, mai.AccessToken, linh.User.ID); err != nil {
		t.Error(err)
	}
	_, _, err = c.RequestContact(ctx, mai.AccessToken, linh.User.ID)
	wantCode(t, err, "blocked_by_you")
	_, _, err = c.User(ctx, linh.AccessToken, mai.User.ID)
	wantCode(t, err, "no_such_user")
	if _, err := c.UnblockUser(ctx, mai.AccessToken, linh.User.ID); err != nil {
		t.Error(err)
	}
	_, err = c.UnblockUser(ctx, mai.AccessToken, linh.User.ID)
	wantCode(t, err, "no_such_block")
	_, _, err = c.Contacts(ctx, "", "")
	wantCode(t, err, "token_missing")
}

// enter registers somebody and logs them in.
func enter(t *testing.T, c *client.Client, username string) client.Tokens {
	t.Helper()
	const password = "a long password"
	if _, _, err := c.Register(t.Context(), client.Registration{Username: username, Password: password, DisplayName: username}); err != nil {
		t.Fatal(err)
	}
	tokens, _, err := c.Login(t.Context(), client.Credentials{Username: username, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func TestLogoutEndsTheSession(t *testing.T) {
	c := watch(t, newPlatform(t))
	if _, _, err := c.Register(t.Context(), client.Registration{Username: "linh", Password: "a long password", DisplayName: "Linh"}); err != nil {
		t.Fatal(err)
	}
	tokens, _, err := c.Login(t.Context(), client.Credentials{Username: "linh", Password: "a long password"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Logout(t.Context(), tokens.AccessToken); err != nil {
		t.Fatal(err)
	}
	_, _, err = c.Me(t.Context(), tokens.AccessToken)
	wantCode(t, err, "session_ended")
	_, _, err = c.Refresh(t.Context(), tokens.RefreshToken)
	wantCode(t, err, "refresh_invalid")
	if _, _, err := c.Socket(t.Context(), tokens.AccessToken); err == nil {
		t.Error("a socket let a session in that was logged out")
	}
}

// A group and a pair, from their making to the last leave, each answer compared with the document.
func TestConversationFromStartToEnd(t *testing.T) {
	c := watch(t, newPlatform(t))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	linh, minh, eve := loggedIn(ctx, t, c, "linh"), loggedIn(ctx, t, c, "minh"), loggedIn(ctx, t, c, "eve")
	makeFriends(t, c, linh, minh)
	makeFriends(t, c, linh, eve)

	pair, answer, err := c.CreateConversation(ctx, linh.AccessToken, client.ConversationRequest{Kind: "direct", UserID: minh.User.ID})
	if err != nil || answer.Status != http.StatusCreated || pair.With != minh.User.ID {
		t.Fatalf("create: %+v, %+v, %v", pair, answer, err)
	}
	again, answer, err := c.CreateConversation(ctx, minh.AccessToken, client.ConversationRequest{Kind: "direct", UserID: linh.User.ID})
	if err != nil || answer.Status != http.StatusOK || again.ID != pair.ID {
		t.Errorf("the pair has another conversation: %+v, %v", again, err)
	}
	group, _, err := c.CreateConversation(ctx, linh.AccessToken, client.ConversationRequest{
		Kind: "group", ClientID: messageID(t), Name: "Lunch", Members: []client.UserID{minh.User.ID},
	})
	if err != nil || group.Role != "owner" {
		t.Fatalf("create: %+v, %v", group, err)
	}
	if page, _, err := c.Conversations(ctx, minh.AccessToken, ""); err != nil || len(page.Conversations) != 2 {
		t.Errorf("list: %+v, %v", page, err)
	}
	message := client.Message{ClientID: messageID(t), Body: "ciphertext"}
	sent, _, err := c.Send(ctx, linh.AccessToken, group.ID, message)
	if err != nil || sent.Seq != 2 {
		t.Fatalf("send: %+v, %v", sent, err)
	}
	if repeated, _, err := c.Send(ctx, linh.AccessToken, group.ID, message); err != nil || repeated != sent {
		t.Errorf("a repeat is %+v, not %+v: %v", repeated, sent, err)
	}
	message.Body = "other"
	_, _, err = c.Send(ctx, linh.AccessToken, group.ID, message)
	wantCode(t, err, "client_id_reused")
	_, _, err = c.Send(ctx, eve.AccessToken, group.ID, message)
	wantCode(t, err, "no_such_conversation")
	_, _, err = c.Messages(ctx, eve.AccessToken, group.ID, 0, 0, 0)
	wantCode(t, err, "no_such_conversation")

	if _, _, err := c.AddMembers(ctx, linh.AccessToken, group.ID, eve.User.ID); err != nil {
		t.Fatal(err)
	}
	name, life := "Dinner", 3600
	changed, _, err := c.ChangeConversation(ctx, linh.AccessToken, group.ID, client.ConversationChange{Name: &name, MessageLife: &life})
	if err != nil || changed.Name != name || changed.MessageLife != life {
		t.Errorf("change: %+v, %v", changed, err)
	}
	if _, err := c.SetRole(ctx, linh.AccessToken, group.ID, minh.User.ID, "admin"); err != nil {
		t.Error(err)
	}
	if _, _, err := c.Send(ctx, linh.AccessToken, group.ID, client.Message{ClientID: messageID(t), Body: "deletion", Clears: sent.Seq}); err != nil {
		t.Error(err)
	}
	page, _, err := c.Messages(ctx, minh.AccessToken, group.ID, 0, 0, 0)
	if err != nil || len(page.Items) != 7 || page.Through != 7 || page.More || page.Items[1].Kind != "cleared" {
		t.Errorf("read: %+v, %v", page, err)
	}
	cursors, _, err := c.MoveCursor(ctx, minh.AccessToken, group.ID, client.CursorChange{Delivered: &page.Through, Read: &sent.Seq})
	if err != nil || cursors.Delivered != 7 || cursors.Read != sent.Seq {
		t.Errorf("cursors: %+v, %v", cursors, err)
	}
	if members, _, err := c.Members(ctx, eve.AccessToken, group.ID); err != nil || len(members) != 3 || members[1].Delivered+members[0].Delivered != 7 {
		t.Errorf("members: %+v, %v", members, err)
	}
	if _, err := c.RemoveMember(ctx, minh.AccessToken, group.ID, eve.User.ID); err != nil {
		t.Error(err)
	}
	if _, err := c.RemoveMember(ctx, linh.AccessToken, group.ID, linh.User.ID); err != nil {
		t.Error(err)
	}
	if left, _, err := c.Conversation(ctx, minh.AccessToken, group.ID); err != nil || left.Role != "owner" {
		t.Errorf("nobody leads the group: %+v, %v", left, err)
	}
	_, _, err = c.Conversation(ctx, linh.AccessToken, group.ID)
	wantCode(t, err, "no_such_conversation")
}

// Two calls of two, one answered and one missed, from their ringing to the log, each answer compared with the document.
func TestCallFromStartToEnd(t *testing.T) {
	c := watch(t, newPlatform(t))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	linh, minh, eve := loggedIn(ctx, t, c, "linh"), loggedIn(ctx, t, c, "minh"), loggedIn(ctx, t, c, "eve")
	makeFriends(t, c, linh, minh)
	pair, _, err := c.CreateConversation(ctx, linh.AccessToken, client.ConversationRequest{Kind: "direct", UserID: minh.User.ID})
	if err != nil {
		t.Fatal(err)
	}
	request := client.CallRequest{ConversationID: pair.ID, ClientID: messageID(t), Media: "video"}
	call, answer, err := c.BeginCall(ctx, linh.AccessToken, request)
	if err != nil || answer.Status != http.StatusCreated || call.State != "ringing" {
		t.Fatalf("begin: %+v, %+v, %v", call, answer, err)
	}
	if crossed, answer, err := c.BeginCall(ctx, minh.AccessToken, client.CallRequest{ConversationID: pair.ID, ClientID: messageID(t), Media: "audio"}); err != nil || answer.Status != http.StatusOK || crossed.ID != call.ID {
		t.Errorf("who calls back at once has another call: %+v, %+v, %v", crossed, answer, err)
	}
	if ringing, _, err := c.OngoingCalls(ctx, minh.AccessToken); err != nil || len(ringing) != 1 || ringing[0].ID != call.ID {
		t.Errorf("ringing: %+v, %v", ringing, err)
	}
	for _, ask := range []func() error{
		func() error { _, _, err := c.FindCall(ctx, eve.AccessToken, call.ID); return err },
		func() error { _, err := c.DeclineCall(ctx, eve.AccessToken, call.ID); return err },
		func() error { _, err := c.LeaveCall(ctx, eve.AccessToken, call.ID); return err },
	} {
		wantCode(t, ask(), "no_such_call")
	}
	_, _, err = c.BeginCall(ctx, eve.AccessToken, client.CallRequest{ConversationID: pair.ID, ClientID: messageID(t), Media: "audio"})
	wantCode(t, err, "no_such_conversation")

	for _, who := range []client.Tokens{linh, minh} {
		socket, err := c.DialSocket(ctx, client.CallSocket(call.ID), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = socket.Close() }()
		if _, err := socket.Authenticate(ctx, who.AccessToken); err != nil {
			t.Fatal(err)
		}
		if err := socket.Send(ctx, map[string]string{"type": "join"}); err != nil {
			t.Fatal(err)
		}
		var joined struct {
			Type string
			Host string
		}
		if err := socket.Receive(ctx, &joined); err != nil || joined.Type != "joined" || joined.Host != "app-09" {
			t.Fatalf("joined: %+v, %v", joined, err)
		}
	}
	if found, _, err := c.FindCall(ctx, linh.AccessToken, call.ID); err != nil || found.State != "live" || found.AnsweredAt == nil {
		t.Errorf("answered: %+v, %v", found, err)
	}
	if _, err := c.LeaveCall(ctx, minh.AccessToken, call.ID); err != nil {
		t.Error(err)
	}
	request.ClientID = messageID(t)
	if call, _, err = c.BeginCall(ctx, linh.AccessToken, request); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeclineCall(ctx, minh.AccessToken, call.ID); err != nil {
		t.Error(err)
	}
	request.ClientID = messageID(t)
	if call, _, err = c.BeginCall(ctx, linh.AccessToken, request); err != nil {
		t.Fatal(err)
	}
	if _, err := c.LeaveCall(ctx, linh.AccessToken, call.ID); err != nil { // cancelled, so minh has missed it
		t.Error(err)
	}
	var log client.CallHistory
	testkit.Eventually(t, 20*time.Second, "the log of three calls", func() bool {
		log, _, err = c.CallHistory(ctx, minh.AccessToken, "", 0)
		return err == nil && len(log.Calls) == 3
	})
	if log.Missed != 1 || log.Calls[0].Outcome != "missed" || log.Calls[1].Outcome != "declined" || log.Calls[2].Outcome != "answered" {
		t.Errorf("log: %+v", log)
	}
	if _, err := c.SeeCalls(ctx, minh.AccessToken, time.Now()); err != nil {
		t.Error(err)
	}
	if log, _, err = c.CallHistory(ctx, minh.AccessToken, log.Next, 2); err != nil || log.Missed != 0 || len(log.Calls) != 2 || log.Next == "" {
		t.Errorf("seen: %+v, %v", log, err)
	}
	if test, _, err := c.BeginTestCall(ctx, eve.AccessToken); err != nil || !test.Test {
		t.Errorf("test call: %+v, %v", test, err)
	}
}

func loggedIn(ctx context.Context, t *testing.T, c *client.Client, name string) client.Tokens {
	t.Helper()
	if _, _, err := c.Register(ctx, client.Registration{Username: name, Password: "a long password", DisplayName: name}); err != nil {
		t.Fatal(err)
	}
	tokens, _, err := c.Login(ctx, client.Credentials{Username: name, Password: "a long password"})
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func messageID(t *testing.T) client.ClientID {
	t.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		t.Fatal(err)
	}
	return client.ClientID(id.String())
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if client.CodeOf(err) != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

func wantEnd(t *testing.T, err error, code int) {
	t.Helper()
	var closed *client.CloseError
	if !errors.As(err, &closed) || closed.Code != code {
		t.Errorf("the socket ended with %v, want %d", err, code)
	}
}

// readAgain reads a body and puts it back.
func readAgain(t *testing.T, response *http.Response) []byte {
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Errorf("%s: %v", response.Request.URL.Path, err)
	}
	_ = response.Body.Close()
	response.Body = io.NopCloser(bytes.NewReader(content))
	return content
}
