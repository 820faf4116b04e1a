//go:build tools

// Package yardstick keeps LiveKit among the requirements of this module.
package yardstick

import _ "github.com/livekit/livekit-server/cmd/server"
