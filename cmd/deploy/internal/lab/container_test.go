package lab

import (
	"bufio"
	"slices"
	"strings"
	"testing"

	"secureconnect/cmd/deploy/internal/images"
)

func fivePlan(t *testing.T) plan {
	t.Helper()
	p, err := newPlan(Options{Name: "test", Topology: "lab", Subnet: "10.91.0.0/24"})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRunArgs(t *testing.T) {
	p := fivePlan(t)
	flags := "run --detach --name secureconnect-lab-test-%[1] --hostname %[1]" +
		" --label secureconnect.lab=test --label secureconnect.lab.host=%[1]" +
		" --label secureconnect.lab.address=%[2] --label secureconnect.lab.debian=%[3] --label secureconnect.lab.topology=lab" +
		" --network secureconnect-lab-test --ip %[2] --cap-add ALL%[4]" +
		" --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined" +
		" --device-cgroup-rule a_*:*_rwm --cgroupns private --tmpfs /run --tmpfs /run/lock" +
		" --volume secureconnect-lab-test-%[1]-docker:/var/lib/docker IMAGE%[5]"
	const legacy = " systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"
	const drop = " --cap-drop SYS_RESOURCE"
	for name, c := range map[string]struct {
		host, address, release, drop, systemd string
		kernel                                kernel
	}{
		"cgroup v1, Debian 13":                   {"db-01", "10.91.0.13", "13", drop, legacy, kernel{}},
		"cgroup v1, Debian 12":                   {"app-02", "10.91.0.12", "12", drop, "", kernel{}},
		"cgroup v2":                              {"db-01", "10.91.0.13", "13", drop, "", kernel{unifiedCgroups: true}},
		"cgroup v2, every capability to give":    {"db-01", "10.91.0.13", "13", "", "", kernel{unifiedCgroups: true, sysResource: true}},
		"cgroup v1, the stranger, everything on": {"stranger", "10.91.0.99", "13", "", legacy, kernel{sysResource: true}},
	} {
		t.Run(name, func(t *testing.T) {
			i := slices.IndexFunc(p.nodes, func(n node) bool { return n.host == c.host })
			want := strings.NewReplacer("%[1]", c.host, "%[2]", c.address, "%[3]", c.release, "%[4]", c.drop, "%[5]", c.systemd).Replace(flags)
			got := runArgs(p, p.nodes[i], "IMAGE", c.kernel)
			for i, arg := range got {
				got[i] = strings.ReplaceAll(arg, " ", "_")
			}
			if strings.Join(got, " ") != want {
				t.Errorf("got  %s\nwant %s", strings.Join(got, " "), want)
			}
		})
	}
}

func TestBoundingSet(t *testing.T) {
	got, err := boundingSet(bufio.NewScanner(strings.NewReader("Name:\tx\nCapBnd:\t000001fffeffffff\n")))
	if err != nil || got != 0x1fffeffffff {
		t.Errorf("bounding set %x, error %v", got, err)
	}
	if _, err := boundingSet(bufio.NewScanner(strings.NewReader("Name:\tx\n"))); err == nil {
		t.Error("no error without the line")
	}
}

func TestReleasesNamesEachOnce(t *testing.T) {
	got := fivePlan(t).releases()
	if !slices.Equal(got, []images.Release{images.Debian13, images.Debian12}) {
		t.Errorf("releases %v", got)
	}
}
