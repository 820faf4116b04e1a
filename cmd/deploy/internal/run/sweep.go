package run

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Ansible's workers and ssh's kept connections leave the process group (setsid), so signals to
// the group miss them. Whatever a run started carries the path of the run's folder of sockets: in
// this variable, or, since ssh's kept connections write their title over it, in their title.
const markerName = "SECURECONNECT_RUN="

func marker(sockets string) string { return markerName + sockets }

// How long what was left behind may take to end by itself, and how long the kernel to end it.
const (
	sweepPolitely = 2 * time.Second
	sweepAtAll    = 5 * time.Second
)

// sweep ends what a run left behind: TERM, then KILL for what has not gone, until nothing is left.
func sweep(sockets string) {
	began := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for left := marked(sockets); len(left) > 0; left = marked(sockets) {
		waited := time.Since(began)
		if waited > sweepAtAll {
			return // in the kernel's hands: uninterruptible, and beyond ours
		}
		signal := syscall.SIGTERM
		if waited > sweepPolitely {
			signal = syscall.SIGKILL
		}
		for _, pid := range left {
			_ = syscall.Kill(pid, signal) // gone meanwhile is what we want
		}
		<-tick.C
	}
}

// marked are the processes, but this one, that carry the path.
func marked(sockets string) []int {
	folders, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	var pids []int
	for _, folder := range folders {
		pid, err := strconv.Atoi(filepath.Base(folder))
		if err != nil || pid == os.Getpid() {
			continue
		}
		// What cannot be read is another user's, or gone; a zombie's are empty.
		environment, _ := os.ReadFile(filepath.Join(folder, "environ")) // #nosec G304 -- below /proc
		title, _ := os.ReadFile(filepath.Join(folder, "cmdline"))       // #nosec G304 -- below /proc
		if carries(environment, marker(sockets)) || bytes.HasPrefix(title, []byte("ssh: "+sockets+"/")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func carries(environment []byte, mark string) bool {
	for entry := range bytes.SplitSeq(environment, []byte{0}) {
		if string(entry) == mark {
			return true
		}
	}
	return false
}
