package sfu

import (
	"slices"
	"sync"
	"time"

	"secureconnect/services/internal/wire"
)

const (
	silence      = 127 // −dBov (RFC 6464 §3)
	audible      = 45  // what is louder is taken for speech
	onset        = 3   // audible packets in the last steps, for somebody to speak
	stillFor     = time.Second
	loudStep     = 100 * time.Millisecond
	loudSteps    = 5
	overtake     = 6 // dB, and somebody who speaks louder takes another's slot
	mostSpeakers = 8
	speakersTold = 350 * time.Millisecond
)

// loudness is how loud an audio track has been of late, from what its sender says of each packet.
type loudness struct {
	mu    sync.Mutex
	steps [loudSteps]struct{ packets, audible, sum int }
	at    int64
	spoke time.Time // when last somebody was heard to speak
}

// hear takes a packet's level. It says whether somebody begins to speak.
func (l *loudness) hear(level uint8, now time.Time) (begins bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn(now)
	step := &l.steps[l.at%loudSteps]
	step.packets++
	if level <= audible {
		step.audible++
		step.sum += int(level)
	}
	if packets, _ := l.audible(); packets < onset {
		return false
	}
	begins = now.Sub(l.spoke) > stillFor
	l.spoke = now
	return begins
}

func (l *loudness) turn(now time.Time) {
	at := now.UnixNano() / int64(loudStep)
	for i := max(l.at+1, at-loudSteps+1); i <= at; i++ {
		l.steps[i%loudSteps] = struct{ packets, audible, sum int }{}
	}
	l.at = max(l.at, at)
}

// audible is how many packets were, and their mean level.
func (l *loudness) audible() (packets, level int) {
	sum := 0
	for _, step := range l.steps {
		packets, sum = packets+step.audible, sum+step.sum
	}
	if packets == 0 {
		return 0, silence
	}
	return packets, sum / packets
}

// level is how loud it is while somebody speaks, and silence else.
func (l *loudness) level(now time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn(now)
	if now.Sub(l.spoke) > stillFor {
		return silence
	}
	if _, level := l.audible(); level < silence {
		return level
	}
	return audible
}

func (l *loudness) lastSpoke() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.spoke
}

// speakers are who speaks, the loudest first.
func speakers(members []*Participant, now time.Time) []wire.Speaker {
	var all []wire.Speaker
	for _, p := range members {
		for _, t := range p.tracks {
			if t.source != wire.SourceMicrophone || t.muted.Load() {
				continue
			}
			if level := t.loudness.level(now); level < silence {
				all = append(all, wire.Speaker{ParticipantID: p.id, Level: level})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b wire.Speaker) int { return a.Level - b.Level })
	return all[:min(len(all), mostSpeakers)]
}

// sameSpeakers ignores levels, which change all the time.
func sameSpeakers(a, b []wire.Speaker) bool {
	return slices.EqualFunc(a, b, func(a, b wire.Speaker) bool { return a.ParticipantID == b.ParticipantID })
}
