package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// settings are what of coturn's configuration a client has to know, and its certificate's file.
type settings struct {
	address     string // UDP and TCP
	tlsAddress  string
	certificate string // a file
	secret      string // the one that new credentials are made with
}

// readConfig takes them from turnserver.conf and from the secrets beside it.
func readConfig(path string) (settings, error) {
	said := map[string]string{"listening-ip": "127.0.0.1", "listening-port": "3478", "tls-listening-port": "5349"}
	lines, err := linesOf(path)
	if err != nil {
		return settings{}, err
	}
	seen := map[string]bool{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, "=")
		if !seen[name] { // coturn listens on several addresses; any will do
			said[name], seen[name] = value, true
		}
	}
	secrets, err := linesOf(filepath.Join(filepath.Dir(path), "secrets"))
	if err != nil {
		return settings{}, err
	}
	if len(secrets) == 0 {
		return settings{}, fmt.Errorf("no secret beside %s", path)
	}
	return settings{
		address:     net.JoinHostPort(said["listening-ip"], said["listening-port"]),
		tlsAddress:  net.JoinHostPort(said["listening-ip"], said["tls-listening-port"]),
		certificate: said["cert"],
		secret:      secrets[0],
	}, nil
}

func linesOf(path string) ([]string, error) {
	file, err := os.Open(path) // #nosec G304 -- a file coturn reads
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer func() { _ = file.Close() }() // read only
	var found []string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" {
			found = append(found, line)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return found, nil
}
