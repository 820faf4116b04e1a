package gateway

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-multierror"

	"secureconnect/services/internal/config"
)

func settings(changes map[string]string) *config.Reader {
	environment := map[string]string{
		"AUTH_URL": "http://auth:8081", "CHAT_URL": "http://chat:8082", "VIDEO_URL": "http://192.0.2.11:8083", "APP_HOST": "app-01", "PUBLIC_DOMAIN": domain, "EDGE_TLS": "off",
		"REDIS_HOST": "db-01", "REDIS_PASSWORD": "secret", "TRUSTED_PROXIES": "192.0.2.10,172.29.0.0/16",
	}
	for name, value := range changes {
		environment[name] = value
	}
	return config.From(func(name string) (string, bool) {
		value, set := environment[name]
		return value, set
	})
}

func TestReadConfig(t *testing.T) {
	c, err := readConfig(settings(nil))
	if err != nil {
		t.Fatal(err)
	}
	if c.Auth.Host != "auth:8081" || c.Chat.Host != "chat:8082" || c.Video.Host != "192.0.2.11:8083" || c.Host != "app-01" || c.EdgeTLS != "off" || c.Redis.Address != "db-01:6379" || len(c.Web.Proxies) != 2 {
		t.Errorf("read %+v", c)
	}
	if c.Client != "/web" {
		t.Errorf("the web client is read from %q", c.Client)
	}
	if c.Web.Listen != ":8080" || c.Web.MetricsListen != "127.0.0.1:9090" || c.Web.BodyLimit != bodyLimit {
		t.Errorf("listens at %+v", c.Web)
	}
}

func TestConfigProblemsAreShownTogether(t *testing.T) {
	_, err := readConfig(settings(map[string]string{
		"AUTH_URL": "auth:8081", "CHAT_URL": "chat", "VIDEO_URL": "", "APP_HOST": "", "PUBLIC_DOMAIN": "", "EDGE_TLS": "sometimes", "REDIS_HOST": "", "TRUSTED_PROXIES": "lb",
	}))
	var all *multierror.Error
	if !errors.As(err, &all) {
		t.Fatalf("got %v", err)
	}
	var named []string
	for _, problem := range all.Errors {
		name, _, _ := strings.Cut(problem.Error(), " ")
		named = append(named, name)
	}
	slices.Sort(named)
	if want := []string{"APP_HOST", "AUTH_URL", "CHAT_URL", "EDGE_TLS", "PUBLIC_DOMAIN", "REDIS_HOST", "TRUSTED_PROXIES", "VIDEO_URL"}; !slices.Equal(named, want) {
		t.Errorf("named %q, want %q", named, want)
	}
}
