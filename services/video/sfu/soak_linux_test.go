package sfu

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// soakSetting is for how many minutes, which `make sfu-soak` says.
const soakSetting = "SFU_SOAK_MINUTES"

const (
	soakCallers  = 20
	soakSpeakers = 3
	soakSettling = 5  // minutes, in which memory may grow as it likes
	soakSpan     = 10 // minutes, in which it then may grow by so much
	soakGrowth   = 1.01
	soakChange   = 20 * time.Second // somebody leaves, and somebody else comes
)

// The memory of an SFU with a room of twenty, who speak, show, come and go, does not grow.
func TestSoak(t *testing.T) {
	minutes, err := strconv.Atoi(os.Getenv(soakSetting))
	if err != nil { // the room itself is always tried
		newSoak(t, 4).run(t, 2*time.Second, time.Second)
		return
	}
	s := newSoak(t, soakCallers)
	var memory []float64 // of each minute, MB
	for minute := range minutes {
		memory = append(memory, s.run(t, time.Minute, soakChange))
		t.Logf("minute %d: %.2f MB", minute+1, memory[minute])
		fmt.Printf("minute %d of %d: %.2f MB\n", minute+1, minutes, memory[minute])
	}
	for minute := soakSettling; minute+soakSpan <= len(memory); minute++ {
		if growth := memory[minute+soakSpan-1] / memory[minute]; growth > soakGrowth {
			t.Errorf("from minute %d to minute %d its memory grew from %.2f to %.2f MB", minute+1, minute+soakSpan, memory[minute], memory[minute+soakSpan-1])
		}
	}
}

// soak is a room that people come to and go from.
type soak struct {
	server  *contestant
	g       *generator
	callers []guest
	came    int
}

// guest is somebody who may leave.
type guest struct {
	signalling
	stop chan struct{}
}

func newSoak(t *testing.T, callers int) *soak {
	t.Helper()
	s := &soak{server: ourSFU(t), g: newGenerator(t)}
	for range callers {
		s.come(t)
	}
	t.Cleanup(func() {
		var all []signalling
		for _, c := range s.callers {
			all = append(all, c)
		}
		s.g.end(all)
	})
	return s
}

// come has somebody join: all show themselves, and the first ones also speak.
func (s *soak) come(t *testing.T) {
	t.Helper()
	failed := func(err error) { t.Logf("a caller: %v", err) } // who leaves is not waited for
	caller, err := s.server.join(s.g, "room", fmt.Sprint("caller-", s.came), failed)
	fail(t, err)
	slow := load{picture: picture{150e3, time.Second / 10}}
	stop := make(chan struct{})
	fail(t, slow.send(s.g, caller, 2*s.came, stop))
	if s.came < soakSpeakers {
		fail(t, load{}.send(s.g, caller, 2*s.came+1, stop))
	}
	s.callers = append(s.callers, guest{caller, stop})
	s.came++
}

// run lets it go on, and gives the server's resident memory in the middle, in MB.
func (s *soak) run(t *testing.T, lasts, change time.Duration) float64 {
	t.Helper()
	var samples []float64
	end, next := time.Now().Add(lasts), time.Now().Add(change)
	for time.Now().Before(end) {
		pause(time.Second)
		samples = append(samples, resident(t, s.server.pid))
		if time.Now().After(next) {
			next = next.Add(change)
			leaves := s.callers[soakSpeakers]
			s.callers = slices.Delete(s.callers, soakSpeakers, soakSpeakers+1)
			close(leaves.stop)
			leaves.close()
			s.come(t)
		}
	}
	slices.Sort(samples)
	return samples[len(samples)/2]
}

func resident(t *testing.T, pid int) float64 {
	t.Helper()
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	fail(t, err)
	pages, err := strconv.Atoi(string(bytes.Fields(statm)[1])) // proc(5)
	fail(t, err)
	return float64(pages*os.Getpagesize()) / 1e6
}
