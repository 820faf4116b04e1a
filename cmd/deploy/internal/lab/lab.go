// Package lab turns containers on this machine into servers that a deployment cannot tell from
// real ones: systemd, sshd, an address of their own, a Docker of their own. It deploys nothing.
package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"secureconnect/cmd/deploy/internal/images"
	"secureconnect/cmd/deploy/internal/images/docker"
)

// bootPatience is how long a server may take to start; on two busy cores it takes ten seconds.
const bootPatience = 3 * time.Minute

// lab is one run of a verb on one lab.
type lab struct {
	plan
	root   string
	kernel kernel
	say    func(line string)
}

// Up makes the lab, or what is missing of it: servers that are stopped are started with the
// data they had. It can be interrupted and run again.
func Up(ctx context.Context, root string, o Options, progress func(line string)) error {
	p, err := newPlan(o)
	if err != nil {
		return err
	}
	k, err := thisKernel()
	if err != nil {
		return err
	}
	l := &lab{plan: p, root: root, kernel: k, say: whole(progress)}
	key, err := ensureKey(l.dir())
	if err != nil {
		return err
	}
	refs, err := l.nodeImages(ctx)
	if err != nil {
		return err
	}
	if err := l.ensureNetwork(ctx); err != nil {
		return err
	}
	began := time.Now()
	if err := l.startAll(ctx, refs, key); err != nil {
		return err
	}
	l.say(fmt.Sprintf("%d servers answer after %s", len(l.nodes), time.Since(began).Round(100*time.Millisecond)))
	return l.writeInventory()
}

// whole lets several goroutines print lines.
func whole(progress func(line string)) func(line string) {
	var mu sync.Mutex
	return func(line string) {
		mu.Lock()
		defer mu.Unlock()
		progress(line)
	}
}

func labDir(root, name string) string { return filepath.Join(root, ".build", "lab", name) }

func (l *lab) dir() string { return labDir(l.root, l.name) }

func (l *lab) nodeImages(ctx context.Context) (map[images.Release]string, error) {
	releases := l.releases()
	refs := make([]string, len(releases))
	work, ctx := errgroup.WithContext(ctx)
	for i, release := range releases {
		work.Go(func() (err error) {
			refs[i], err = images.Node(ctx, l.root, "node", release, l.say)
			return err
		})
	}
	if err := work.Wait(); err != nil {
		return nil, err
	}
	found := map[images.Release]string{}
	for i, release := range releases {
		found[release] = refs[i]
	}
	return found, nil
}

func (l *lab) ensureNetwork(ctx context.Context) error {
	have, err := docker.Run(ctx, nil, "network", "ls", "--quiet", "--filter", "name=^"+l.network()+"$")
	if err != nil {
		return err
	}
	if have == "" {
		_, err := docker.Run(ctx, nil, "network", "create", "--subnet", l.subnet.String(), "--gateway", l.gateway(),
			"--label", labelLab+"="+l.name, l.network())
		if err == nil {
			return nil
		}
		if holder := l.holder(ctx); holder != "" {
			return fmt.Errorf("%s is taken by the Docker network %s: if nobody needs it, `deploy lab down` of its name or `docker network rm %s` frees it: %w", l.subnet, holder, holder, err)
		}
		return err
	}
	subnet, err := docker.Run(ctx, nil, "network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", l.network())
	if err != nil {
		return err
	}
	if subnet != l.subnet.String() {
		return fmt.Errorf("lab %s is at %s: `deploy lab down --name %s` first", l.name, subnet, l.name)
	}
	return nil
}

// holder is the Docker network that has addresses of the lab's subnet.
func (l *lab) holder(ctx context.Context) string {
	ids, err := docker.Run(ctx, nil, "network", "ls", "--quiet", "--filter", "driver=bridge")
	if err != nil {
		return ""
	}
	list, err := docker.Run(ctx, nil, append([]string{"network", "inspect", "--format", "{{.Name}}{{range .IPAM.Config}} {{.Subnet}}{{end}}"}, strings.Fields(ids)...)...)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(list) {
		fields := strings.Fields(line)
		for _, text := range fields[1:] {
			if subnet, err := netip.ParsePrefix(text); err == nil && subnet.Overlaps(l.subnet) {
				return fields[0]
			}
		}
	}
	return ""
}

func (l *lab) startAll(ctx context.Context, refs map[images.Release]string, key publicKey) error {
	hostKeys := make([]string, len(l.nodes))
	work, bounded := errgroup.WithContext(ctx)
	for i, n := range l.nodes {
		work.Go(func() error {
			hostKey, err := l.start(bounded, n, refs[n.release], key)
			if err != nil {
				return fmt.Errorf("%s: %w", n.host, err)
			}
			hostKeys[i] = l.address(n.last) + " " + hostKey
			l.say(fmt.Sprintf("%-12s %-12s Debian %s", n.host, l.address(n.last), n.release))
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		return err
	}
	return writeFile(filepath.Join(l.dir(), "known_hosts"), strings.Join(hostKeys, "\n")+"\n", 0o644)
}

// start leaves a running server that lets key in, and returns its host key.
func (l *lab) start(ctx context.Context, n node, image string, key publicKey) (hostKey string, err error) {
	if err := l.ensureRunning(ctx, n, image); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, bootPatience, errors.New("not up in time: see `docker logs "+l.container(n)+"`"))
	defer cancel()
	if err := l.waitBooted(ctx, n); err != nil {
		return "", err
	}
	if _, err := docker.Run(ctx, strings.NewReader(string(key)), "exec", "-i", l.container(n), "sh", "-c", authorize); err != nil {
		return "", err
	}
	if err := waitSSH(ctx, l.address(n.last)); err != nil {
		return "", err
	}
	return docker.Run(ctx, nil, "exec", l.container(n), "cut", "-d", " ", "-f", "1-2", "/etc/ssh/ssh_host_ed25519_key.pub")
}

const authorize = `umask 077 && mkdir -p /root/.ssh && cat > /root/.ssh/authorized_keys.new &&
  mv /root/.ssh/authorized_keys.new /root/.ssh/authorized_keys`

func (l *lab) ensureRunning(ctx context.Context, n node, image string) error {
	state, err := docker.Run(ctx, nil, "container", "ls", "--all", "--filter", "name=^"+l.container(n)+"$", "--format", "{{.State}}")
	if err != nil {
		return err
	}
	switch state {
	case "running":
		return nil
	case "":
		return l.create(ctx, n, image)
	case "paused":
		_, err = docker.Run(ctx, nil, "unpause", l.container(n))
		return err
	case "created": // an interrupted first start
		if _, err := docker.Run(ctx, nil, "rm", "--force", l.container(n)); err != nil {
			return err
		}
		return l.create(ctx, n, image)
	}
	_, err = docker.Run(ctx, nil, "start", l.container(n))
	return err
}

func (l *lab) create(ctx context.Context, n node, image string) error {
	if _, err := docker.Run(ctx, nil, "volume", "create", "--label", labelLab+"="+l.name, l.volume(n)); err != nil {
		return err
	}
	_, err := docker.Run(ctx, nil, runArgs(l.plan, n, image, l.kernel)...)
	return err
}

// Down removes whatever carries the lab's label, and its folder. A lab that is not there is
// removed as well.
func Down(ctx context.Context, root, name string, progress func(line string)) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("lab name %q: small letters, digits and hyphens, please", name)
	}
	for _, kind := range []struct{ what, list, remove string }{
		{"servers", "container ls --all --quiet", "container rm --force --volumes"},
		{"volumes", "volume ls --quiet", "volume rm --force"},
		{"networks", "network ls --quiet", "network rm"},
	} {
		list := append(strings.Fields(kind.list), "--filter", "label="+labelLab+"="+name)
		found, err := docker.Run(ctx, nil, list...)
		if err != nil {
			return err
		}
		ids := strings.Fields(found)
		if len(ids) == 0 {
			continue
		}
		if _, err := docker.Run(ctx, nil, append(strings.Fields(kind.remove), ids...)...); err != nil {
			return err
		}
		progress(fmt.Sprintf("%s removed: %d", kind.what, len(ids)))
	}
	if err := os.RemoveAll(labDir(root, name)); err != nil {
		return fmt.Errorf("remove the folder of the lab: %w", err)
	}
	return nil
}
