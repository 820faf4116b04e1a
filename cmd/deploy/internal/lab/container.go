package lab

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"secureconnect/cmd/deploy/internal/images"
)

// labels are on everything a lab has, so that `lab down` finds it whatever went wrong before.
const (
	labelLab      = "secureconnect.lab"
	labelHost     = "secureconnect.lab.host"
	labelAddress  = "secureconnect.lab.address"
	labelRelease  = "secureconnect.lab.debian"
	labelTopology = "secureconnect.lab.topology"
)

// kernel is what of this machine decides how a server can run in a container.
type kernel struct {
	unifiedCgroups bool // cgroup v2 alone
	sysResource    bool // CAP_SYS_RESOURCE may be given away
}

func thisKernel() (kernel, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &fs); err != nil {
		return kernel{}, fmt.Errorf("look at the control groups: %w", err)
	}
	status, err := os.Open("/proc/self/status")
	if err != nil {
		return kernel{}, fmt.Errorf("look at the capabilities: %w", err)
	}
	defer func() { _ = status.Close() }() // read only
	bounding, err := boundingSet(bufio.NewScanner(status))
	if err != nil {
		return kernel{}, err
	}
	return kernel{
		unifiedCgroups: int64(fs.Type) == unix.CGROUP2_SUPER_MAGIC,
		sysResource:    bounding&(1<<unix.CAP_SYS_RESOURCE) != 0,
	}, nil
}

func boundingSet(status *bufio.Scanner) (uint64, error) {
	for status.Scan() {
		if hex, found := strings.CutPrefix(status.Text(), "CapBnd:"); found {
			return strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
		}
	}
	return 0, fmt.Errorf("look at the capabilities: no CapBnd in /proc/self/status: %w", status.Err())
}

// runArgs are the arguments of `docker run` for a server. Not --privileged: it would hand over
// this machine's devices, and fails where a capability is missing.
func runArgs(p plan, n node, image string, k kernel) []string {
	args := []string{
		"run", "--detach",
		"--name", p.container(n), "--hostname", n.host,
		"--label", labelLab + "=" + p.name,
		"--label", labelHost + "=" + n.host,
		"--label", labelAddress + "=" + p.address(n.last),
		"--label", labelRelease + "=" + string(n.release),
		"--label", labelTopology + "=" + p.topology,
		"--network", p.network(), "--ip", p.address(n.last),
		"--cap-add", "ALL",
	}
	if !k.sysResource {
		args = append(args, "--cap-drop", "SYS_RESOURCE")
	}
	args = append(args,
		"--security-opt", "seccomp=unconfined",
		"--security-opt", "apparmor=unconfined",
		"--security-opt", "systempaths=unconfined",
		"--device-cgroup-rule", "a *:* rwm",
		"--cgroupns", "private",
		"--tmpfs", "/run", "--tmpfs", "/run/lock",
		// Overlay on overlay does not work, and a volume keeps the server's containers.
		"--volume", p.volume(n)+":/var/lib/docker",
		image,
	)
	return append(args, systemdArgs(n.release, k)...)
}

// systemdArgs tell Debian 13's systemd that the machine has cgroup v1, which it has to be told.
func systemdArgs(release images.Release, k kernel) []string {
	if k.unifiedCgroups || release == images.Debian12 {
		return nil
	}
	return []string{"systemd.unified_cgroup_hierarchy=0", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"}
}
