//go:build lab

package e2e

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"secureconnect/services/client"
	"secureconnect/services/internal/wire"
)

// person is somebody with an account, who comes in through the load balancer.
type person struct {
	name, password string
	client         *client.Client
}

// newPerson makes an account as an operator would, by `deploy user add`, and removes it when the test ends.
// prefer names the app host the load balancer is asked for; empty leaves the choice to it.
func (s *system) newPerson(t *testing.T, prefer string) *person {
	t.Helper()
	p := &person{name: "e2e-" + strings.ToLower(rand.Text()[:10]), password: rand.Text()}
	if r := s.run(t, strings.NewReader(p.password+"\n"), filepath.Join(s.root, "bin/deploy"), "user", "add", p.name, "--expires", "1h", "-i", s.name); r.code != 0 {
		t.Fatalf("deploy user add: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	t.Cleanup(func() { s.mustDeploy(t, "user", "remove", p.name, "-i", s.name) })

	var err error
	p.client, err = client.New(client.Options{
		BaseURL:    "https://api.secureconnect.com",
		Dial:       client.DialTo(s.prefix + ".10"),
		RootCAs:    s.roots(t),
		PreferHost: prefer,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.client.Close)
	return p
}

// login opens a session and says which app host served it.
func (p *person) login(t *testing.T) (servedBy string) {
	t.Helper()
	_, answer, err := p.client.Login(t.Context(), client.Credentials{Username: p.name, Password: p.password})
	if err != nil {
		t.Fatalf("login of %s: %v", p.name, err)
	}
	return answer.ServedBy
}

// talk writes text as people do: the name of a group, and a message in it.
func (p *person) talk(t *testing.T, text string) error {
	t.Helper()
	tokens, _, err := p.client.Login(t.Context(), client.Credentials{Username: p.name, Password: p.password})
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	token := string(tokens.AccessToken)
	made, _, err := p.client.CreateConversation(t.Context(), token, client.ConversationRequest{Kind: wire.KindGroup, Name: text, ClientID: newClientID(t)})
	if err != nil {
		return fmt.Errorf("make a group of that name: %w", err)
	}
	m := client.Message{ClientID: newClientID(t), Body: text}
	if _, _, err := p.client.Send(t.Context(), token, made.ID, m); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

func newClientID(t *testing.T) client.ClientID {
	t.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		t.Fatal(err)
	}
	return client.ClientID(id.String())
}

// rename writes text into the display name, as a free text that people send, and answers the status.
func (p *person) rename(t *testing.T, edge *http.Client, text string) int {
	t.Helper()
	tokens, _, err := p.client.Login(t.Context(), client.Credentials{Username: p.name, Password: p.password})
	if err != nil {
		t.Fatalf("login of %s: %v", p.name, err)
	}
	body, err := json.Marshal(map[string]string{"display_name": text})
	if err != nil {
		t.Fatal(err)
	}
	return status(t, edge, http.MethodPatch, "https://api.secureconnect.com/v1/users/me", string(tokens.AccessToken), string(body))
}
