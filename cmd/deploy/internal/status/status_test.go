package status

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

// answers are what hosts say; a host that is not in it cannot be reached.
type answers map[string]string

var errAway = errors.New("db-01 cannot be reached")

func (a answers) Run(_ context.Context, host string, _ io.Reader, _ ...string) ([]byte, error) {
	said, ok := a[host]
	if !ok {
		return nil, errAway
	}
	return []byte(said), nil
}

func TestLook(t *testing.T) {
	hosts := Look(t.Context(), answers{
		"app-01": `up 97200
audit 2026-01-02T03:04:05+0000 app-01 secureconnect[7]: deployed by ann from desk
container {"Names":"app-gateway-1","State":"running","Status":"Up 3 minutes (healthy)","Image":"secureconnect/service:new"}
container {"Names":"app-auth-1","State":"running","Status":"Up 2 seconds (health: starting)","Image":"secureconnect/service:old"}
container {"Names":"app-migrate-1","State":"exited","Status":"Exited (1) 2 hours ago","Image":"secureconnect/service:new"}
`,
		"lb-01": "up 59\n",
	}, map[string][]string{"lb-01": {"lb"}, "app-01": {"app"}, "db-01": {"db"}}, []string{"secureconnect/service:new"})

	if len(hosts) != 3 || !errors.Is(hosts[1].Err, errAway) {
		t.Fatalf("%+v", hosts)
	}
	well := map[string]bool{"app-auth-1": false, "app-gateway-1": true, "app-migrate-1": false}
	for _, container := range hosts[0].Containers {
		if container.Well() != well[container.Name] {
			t.Errorf("%s is well: %v", container.Name, container.Well())
		}
	}
	if hosts[0].Containers[0].Current || !hosts[0].Containers[1].Current {
		t.Errorf("which image is current: %+v", hosts[0].Containers)
	}

	var printed strings.Builder
	if err := Print(&printed, hosts); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		"app-gateway-1", "healthy", "not the one built last", "host up 1d3h", "deployed by ann from desk",
		"db-01   unknown", "db-01: db-01 cannot be reached",
	} {
		if !strings.Contains(printed.String(), part) {
			t.Errorf("%q is not in\n%s", part, printed.String())
		}
	}

	broken := Look(t.Context(), answers{"lb-01": "container {"}, map[string][]string{"lb-01": nil}, nil)
	if broken[0].Err == nil {
		t.Error("half an answer was taken for a whole one")
	}
}
