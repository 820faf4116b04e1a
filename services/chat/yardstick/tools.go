//go:build tools

// Package yardstick keeps Centrifugo among the requirements of this module.
package yardstick

import _ "github.com/centrifugal/centrifugo/v5"
