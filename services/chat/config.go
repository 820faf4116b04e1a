package chat

import (
	"net/url"

	"secureconnect/services/internal/config"
	"secureconnect/services/internal/cqlstore"
	"secureconnect/services/internal/redisstore"
	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/web"
)

// Config is chat's environment.
type Config struct {
	Web     web.Config
	SQL     sqlstore.Config
	CQL     cqlstore.Config
	Redis   redisstore.Config
	Auth    *url.URL // where auth listens
	AppHost string
}

// Only the gateway beside it reaches chat, over a private network whose addresses nobody chooses by hand.
const privateNetworks = "127.0.0.0/8,::1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7"

// bodyLimit is for a message of the largest size, every second character of it escaped, and what is around it.
const bodyLimit = 2*maxBody + 4<<10

// ReadConfig reads the environment and reports all that is wrong with it.
func ReadConfig(r *config.Reader) (Config, error) {
	c := Config{
		Web:     web.ReadConfig(r, ":8082", "127.0.0.1:9092", privateNetworks),
		SQL:     sqlstore.ReadConfig(r),
		CQL:     cqlstore.ReadConfig(r),
		Redis:   redisstore.ReadConfig(r),
		AppHost: r.Text("APP_HOST", ""),
	}
	c.Web.BodyLimit = bodyLimit
	c.Auth = r.URL("AUTH_URL")
	return c, r.Err()
}
