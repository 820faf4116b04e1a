package lock

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Alive says whether the owner must be taken for alive, and why, by the same rule as the playbook's
// lock plugin: on this machine the process is looked for, elsewhere silence counts.
func (o Owner) Alive() (bool, string) {
	if here, err := controller(); err == nil && here == o.Controller {
		if birth := bornAt(o.PID); birth != 0 && birth == o.Birth {
			return true, fmt.Sprintf("process %d is running on this machine", o.PID)
		}
		return false, fmt.Sprintf("process %d on this machine is gone", o.PID)
	}
	silent := time.Duration(o.Silent) * time.Second
	if o.Silent > o.Patience {
		return false, fmt.Sprintf("no sign of life for %s", silent)
	}
	return true, fmt.Sprintf("last sign of life %s ago", silent)
}

// controller is this machine since its start, as one process tree: what a pid means something in.
func controller() (string, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	tree, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(boot)) + "/" + tree, nil
}

// bornAt is when the process started, in the kernel's ticks; 0 if it is gone or a zombie.
func bornAt(pid int) int64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // #nosec G304 -- below /proc
	if err != nil {
		return 0
	}
	// After the name in brackets, which may hold anything: state is field 1, start is field 20.
	_, rest, ok := strings.Cut(string(raw[strings.LastIndexByte(string(raw), ')')+1:]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return 0
	}
	birth, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil {
		return 0
	}
	return birth
}
