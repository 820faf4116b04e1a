// Package status looks at what runs on the hosts. It changes nothing and judges little: a container
// should run and be healthy, and be of the image that was built last.
package status

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// Shell runs a command on a host of the inventory.
type Shell interface {
	Run(ctx context.Context, host string, stdin io.Reader, argv ...string) ([]byte, error)
}

// Host is what runs on one server.
type Host struct {
	Name       string      `json:"host"`
	Groups     []string    `json:"groups"`
	UpSeconds  int64       `json:"up_seconds"`
	Audit      string      `json:"audit,omitempty"` // the last change, by whom and when
	Containers []Container `json:"containers"`
	Err        error       `json:"-"`
	Error      string      `json:"error,omitempty"`
}

// Container is one of a compose project.
type Container struct {
	Name    string `json:"name"`
	State   string `json:"state"`  // running, exited, restarting …
	Health  string `json:"health"` // healthy, unhealthy, starting; empty without a check
	Status  string `json:"status"` // Docker's words, with the time
	Image   string `json:"image"`
	Current bool   `json:"current"` // the image is the one built last
}

// Well says whether the container does its work.
func (c Container) Well() bool {
	return c.State == "running" && (c.Health == "healthy" || c.Health == "")
}

// One round trip a host: a word says what each line is.
const look = `
read up rest </proc/uptime && echo "up ${up%%.*}"
audit=$(journalctl -q -t secureconnect -n 1 -o short-iso --no-pager 2>/dev/null) && [ -n "$audit" ] && echo "audit $audit"
command -v docker >/dev/null || exit 0
docker ps -a --no-trunc --filter label=com.docker.compose.project --format 'container {{json .}}'
`

// Look asks all hosts at once. Every host is in the answer; one that could not be asked has Err.
func Look(ctx context.Context, shell Shell, hosts map[string][]string, refs []string) []Host {
	found := make([]Host, 0, len(hosts))
	for name, groups := range hosts {
		found = append(found, Host{Name: name, Groups: groups, Containers: []Container{}})
	}
	slices.SortFunc(found, func(a, b Host) int { return strings.Compare(a.Name, b.Name) })
	var asking errgroup.Group
	for i := range found {
		asking.Go(func() error {
			host := &found[i]
			if host.Err = host.ask(ctx, shell, refs); host.Err != nil {
				host.Error = host.Err.Error()
			}
			return nil
		})
	}
	_ = asking.Wait() // every error is in its host
	return found
}

func (h *Host) ask(ctx context.Context, shell Shell, refs []string) error {
	ctx, stop := context.WithTimeout(ctx, 20*time.Second)
	defer stop()
	said, err := shell.Run(ctx, h.Name, nil, "sh", "-c", look)
	if readErr := h.read(said, refs); err == nil {
		err = readErr
	}
	return err
}

func (h *Host) read(said []byte, refs []string) error {
	lines := bufio.NewScanner(bytes.NewReader(said))
	lines.Buffer(nil, 1<<20) // labels make a container's line long
	for lines.Scan() {
		kind, rest, _ := strings.Cut(lines.Text(), " ")
		switch kind {
		case "up":
			h.UpSeconds, _ = strconv.ParseInt(rest, 10, 64) // the kernel's own number
		case "audit":
			h.Audit = rest
		case "container":
			container, err := read(rest, refs)
			if err != nil {
				return err
			}
			h.Containers = append(h.Containers, container)
		}
	}
	slices.SortFunc(h.Containers, func(a, b Container) int { return strings.Compare(a.Name, b.Name) })
	return lines.Err()
}

func read(line string, refs []string) (Container, error) {
	var docker struct{ Names, State, Status, Image string }
	if err := json.Unmarshal([]byte(line), &docker); err != nil {
		return Container{}, fmt.Errorf("read what docker ps said: %w", err)
	}
	return Container{
		Name:    docker.Names,
		State:   docker.State,
		Health:  health(docker.Status),
		Status:  docker.Status,
		Image:   docker.Image,
		Current: slices.Contains(refs, docker.Image),
	}, nil
}

// health reads "Up 3 minutes (healthy)" and "Up 2 seconds (health: starting)".
func health(status string) string {
	_, word, ok := strings.Cut(status, "(")
	if !ok {
		return ""
	}
	word = strings.TrimSuffix(word, ")")
	word = strings.TrimPrefix(word, "health: ")
	switch word {
	case "healthy", "unhealthy", "starting":
		return word
	}
	return "" // "Exited (0) …" has a number there
}
