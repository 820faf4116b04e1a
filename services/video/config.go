package video

import (
	"net/netip"
	"net/url"
	"time"

	"secureconnect/services/internal/config"
	"secureconnect/services/internal/cqlstore"
	"secureconnect/services/internal/redisstore"
	"secureconnect/services/internal/sqlstore"
	"secureconnect/services/internal/web"
)

// Config is video's environment.
type Config struct {
	Web     web.Config
	SQL     sqlstore.Config
	CQL     cqlstore.Config
	Redis   redisstore.Config
	Auth    *url.URL // where auth listens
	Chat    *url.URL
	AppHost string

	Address   netip.Addr // of this host among the app hosts: media come to it, and the other hosts' relayed sockets
	CallsPort int        // where the other hosts reach our sockets
	MediaPort int        // the one UDP port of media

	TURN        TURN
	TURNAddress netip.Addr // where we reach the TURN server
	TURNPublic  netip.Addr // what its relays must advertise

	Faults bool
}

// Gateways and the other app hosts reach video, over private networks.
const privateNetworks = "127.0.0.0/8,::1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7"

// ReadConfig reads the environment and reports all that is wrong with it.
func ReadConfig(r *config.Reader) (Config, error) {
	c := Config{
		Web:         web.ReadConfig(r, ":8083", "127.0.0.1:9093", privateNetworks),
		SQL:         sqlstore.ReadConfig(r),
		CQL:         cqlstore.ReadConfig(r),
		Redis:       redisstore.ReadConfig(r),
		Auth:        r.URL("AUTH_URL"),
		Chat:        r.URL("CHAT_URL"),
		AppHost:     r.Required("APP_HOST"),
		Address:     r.Address("APP_ADDRESS"),
		CallsPort:   r.Port("CALLS_PORT", 8083),
		MediaPort:   r.Port("MEDIA_PORT", 10000),
		TURNAddress: r.Address("TURN_ADDRESS"),
		TURNPublic:  r.Address("TURN_PUBLIC_ADDRESS"),
		TURN: TURN{
			Host:    r.Required("TURN_HOST"),
			Port:    r.Port("TURN_PORT", 3478),
			TLSPort: r.Port("TURN_TLS_PORT", 5349),
			Secret:  r.ChangingSecret("TURN_SECRET"), // rotated in its file, while calls go on
			Life:    r.Duration("TURN_LIFE", 10*time.Minute),
		},
		Faults: r.OneOf("CALL_FAULTS", "off", "off", "on") == "on",
	}
	return c, r.Err()
}

// allowed are the addresses that media come from: the TURN server's. Everybody else's packets are not looked at.
func (c Config) allowed(address netip.Addr) bool {
	address = address.Unmap()
	return address == c.TURNAddress || address == c.TURNPublic
}
