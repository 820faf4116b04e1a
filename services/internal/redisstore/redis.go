// Package redisstore opens Redis for what may be lost: hints, limits, caches.
// Its time limits are short, since everybody who asks Redis can go on without an answer.
package redisstore

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"secureconnect/services/internal/config"
)

// Config says where Redis is.
type Config struct {
	Address  string
	Password config.Secret
	Database int
	PoolSize int
}

// ReadConfig reads the REDIS_* settings.
func ReadConfig(r *config.Reader) Config {
	return Config{
		Address:  net.JoinHostPort(r.Required("REDIS_HOST"), strconv.Itoa(r.Port("REDIS_PORT", 6379))),
		Password: r.Secret("REDIS_PASSWORD"),
		PoolSize: r.Int("REDIS_POOL_SIZE", 10, 1, 1000),
	}
}

// Open prepares a client; it connects when first used.
func Open(c Config) *redis.Client {
	logging.Disable() // the client's own lines have no level and no context; its errors come back to us
	return redis.NewClient(&redis.Options{
		Addr:                     c.Address,
		Password:                 c.Password.Reveal(),
		DB:                       c.Database,
		PoolSize:                 c.PoolSize,
		DialTimeout:              time.Second,
		DialerRetries:            1,
		ReadTimeout:              500 * time.Millisecond,
		WriteTimeout:             500 * time.Millisecond,
		PoolTimeout:              500 * time.Millisecond,
		MaxRetries:               1,
		DisableIdentity:          true,
		ConnMaxIdleTime:          5 * time.Minute,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// Ready asks Redis a real question.
func Ready(client *redis.Client) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := client.Ping(ctx).Err(); err != nil {
			return fmt.Errorf("ask Redis: %w", err)
		}
		return nil
	}
}
