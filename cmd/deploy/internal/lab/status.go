package lab

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"secureconnect/cmd/deploy/internal/images/docker"
)

// Server is one of a lab as the engine knows it.
type Server struct{ Lab, Host, Address, Debian, State string }

// Status is what there is of the lab called name, or of all labs where name is empty.
func Status(ctx context.Context, name string) ([]Server, error) {
	filter := "label=" + labelLab
	if name != "" {
		filter += "=" + name
	}
	out, err := docker.Run(ctx, nil, "container", "ls", "--all", "--filter", filter, "--format", statusFormat())
	if err != nil {
		return nil, err
	}
	return parseStatus(out), nil
}

func statusFormat() string {
	var fields []string
	for _, label := range []string{labelLab, labelHost, labelAddress, labelRelease} {
		fields = append(fields, `{{.Label "`+label+`"}}`)
	}
	return strings.Join(append(fields, "{{.Status}}"), "|")
}

func parseStatus(out string) []Server {
	var servers []Server
	for line := range strings.Lines(out) {
		if f := strings.SplitN(strings.TrimSpace(line), "|", 5); len(f) == 5 {
			servers = append(servers, Server{Lab: f[0], Host: f[1], Address: f[2], Debian: f[3], State: f[4]})
		}
	}
	slices.SortFunc(servers, func(a, b Server) int {
		return cmp.Or(cmp.Compare(a.Lab, b.Lab), cmp.Compare(a.Address, b.Address))
	})
	return servers
}

func find(ctx context.Context, name, host string) (Server, error) {
	servers, err := Status(ctx, name)
	if err != nil {
		return Server{}, err
	}
	var hosts []string
	for _, s := range servers {
		if s.Host == host {
			return s, nil
		}
		hosts = append(hosts, s.Host)
	}
	if len(hosts) == 0 {
		return Server{}, fmt.Errorf("no lab %s: run `deploy lab up --name %s`", name, name)
	}
	return Server{}, fmt.Errorf("no host %s in lab %s: there are %s", host, name, strings.Join(hosts, ", "))
}
