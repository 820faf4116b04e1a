package auth

import (
	"secureconnect/services/auth/keys"
	"secureconnect/services/internal/config"
	"secureconnect/services/internal/redisstore"
	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/web"
)

// Config is auth's environment.
type Config struct {
	Web          web.Config
	SQL          sqlstore.Config
	Redis        redisstore.Config
	TokenSecret  config.Secret
	Registration string
	AppHost      string
	EdgeTLS      string
}

const (
	edgeTLSOff = "off"

	// Only the gateway beside it reaches auth, over a private network whose addresses nobody chooses by hand.
	privateNetworks = "127.0.0.0/8,::1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7"
)

// ReadConfig reads the environment and reports all that is wrong with it.
func ReadConfig(r *config.Reader) (Config, error) {
	c := Config{
		Web:          web.ReadConfig(r, ":8081", "127.0.0.1:9091", privateNetworks),
		SQL:          sqlstore.ReadConfig(r),
		Redis:        redisstore.ReadConfig(r),
		TokenSecret:  r.Secret("TOKEN_SECRET"),
		Registration: r.OneOf("REGISTRATION", RegistrationInvite, RegistrationInvite, RegistrationOpen, RegistrationClosed),
		AppHost:      r.Text("APP_HOST", ""),
		EdgeTLS:      r.OneOf("EDGE_TLS", "internal_ca", "internal_ca", "provided", "acme", edgeTLSOff),
	}
	c.Web.BodyLimit = keys.BodyLimit // auth's own routes take less
	return c, r.Err()
}
