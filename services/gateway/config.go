package gateway

import (
	"net/url"
	"time"

	"secureconnect/services/internal/config"
	"secureconnect/services/internal/ratelimit"
	"secureconnect/services/internal/redisstore"
	"secureconnect/services/internal/web"
)

// Config is all the gateway is told from outside.
type Config struct {
	Web          web.Config
	Redis        redisstore.Config
	Auth         *url.URL // where auth listens
	Chat         *url.URL
	Video        *url.URL
	Host         string // this app host's name, answered in X-Served-By
	PublicDomain string
	EdgeTLS      string // how the load balancer serves: off means plain http
	Client       string // folder of the built web client; none serves no pages

	Limits Limits
}

// Limits are the gateway's own figures; none given means those of defaultLimits.
type Limits struct {
	Address   ratelimit.Rule // everything from one client address
	Session   ratelimit.Rule // everything of one session
	Anonymous ratelimit.Rule // what changes something and comes from nobody we know: logins, registrations

	ServiceTimeout time.Duration // for a service to answer a request

	Sockets int // that may pass at once
}

func defaultLimits() Limits {
	return Limits{
		Address:        ratelimit.Rule{Burst: 400, Every: 10 * time.Millisecond},
		Session:        ratelimit.Rule{Burst: 200, Every: 20 * time.Millisecond},
		Anonymous:      ratelimit.Rule{Burst: 240, Every: 250 * time.Millisecond},
		ServiceTimeout: 30 * time.Second,
		Sockets:        20_000,
	}
}

// bodyLimit lets a room key for every device of a large group through in one request. Each service bounds its own
// routes more tightly.
const bodyLimit = 6 << 20

// readConfig returns every problem of the environment at once.
func readConfig(r *config.Reader) (Config, error) {
	c := Config{
		Web:          web.ReadConfig(r, ":8080", "127.0.0.1:9090", ""),
		Redis:        redisstore.ReadConfig(r),
		Host:         r.Required("APP_HOST"),
		PublicDomain: r.Required("PUBLIC_DOMAIN"),
		EdgeTLS:      r.OneOf("EDGE_TLS", "internal_ca", "internal_ca", "provided", "acme", "off"),
		Client:       r.Text("WEB_CLIENT", "/web"),
	}
	c.Web.BodyLimit = bodyLimit
	c.Auth, c.Chat, c.Video = r.URL("AUTH_URL"), r.URL("CHAT_URL"), r.URL("VIDEO_URL")
	return c, r.Err()
}
