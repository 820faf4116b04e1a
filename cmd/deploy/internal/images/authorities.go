package images

import (
	"context"
	"fmt"
	"os"
)

// systemAuthorities is where Debian and Ubuntu keep what they trust.
const systemAuthorities = "/etc/ssl/certs/ca-certificates.crt"

// authorities are the certificate authorities this machine trusts, for a stage that downloads: behind an inspecting proxy
// only they make a connection good. What is downloaded is checked by checksums of ours, and nothing of them remains in the
// image, so they are no part of its tag.
func authorities(name string) source {
	return func(*builder, context.Context) ([]ingredient, error) {
		path := systemAuthorities
		if named := os.Getenv("SSL_CERT_FILE"); named != "" {
			path = named
		}
		return []ingredient{{name: name, mode: 0o644, file: func() (string, error) {
			if _, err := os.Stat(path); err != nil { //nolint:gosec // the operator names it on their own machine
				return "", fmt.Errorf("read the authorities this machine trusts (SSL_CERT_FILE names another file): %w", err)
			}
			return path, nil
		}}}, nil
	}
}
