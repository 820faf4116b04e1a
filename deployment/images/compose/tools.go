//go:build tools

// Package compose keeps Docker Compose among the requirements of this module.
package compose

import _ "github.com/docker/compose/v2/cmd"
