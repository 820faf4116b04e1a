package sfu

import (
	"fmt"
	"slices"
	"testing"

	"secureconnect/services/internal/wire"
)

// Of more people than there are slots, those who speak are heard: one who begins takes over the slot of one who is still, and nobody
// else loses theirs. Who speaks is told, the loudest first, and not again and again.
func TestSpeakers(t *testing.T) {
	t.Parallel()
	r := begin(t).Room(false)
	listener := join(t, r, "listener")
	const n = audioSlots + 3
	var names []wire.ParticipantID
	var voices []*voice
	for i := range n {
		c := enter(t, r, fmt.Sprint("peer-", i))
		v := c.speak(wire.SourceMicrophone)
		v.level.Store(silence)
		c.talk(v)
		names, voices = append(names, c.name), append(voices, v)
	}
	listener.await("all slots taken", func() bool { return len(heardBy(listener, voices)) == audioSlots })
	before := heardBy(listener, voices)
	still := slices.IndexFunc(voices, func(v *voice) bool { return !slices.Contains(before, v) })
	voices[still].level.Store(20)
	listener.await("who begins to speak", func() bool { return slices.Contains(heardBy(listener, voices), voices[still]) })
	kept := 0
	for _, v := range heardBy(listener, voices) {
		if slices.Contains(before, v) {
			kept++
		}
	}
	if kept != audioSlots-1 {
		t.Errorf("%d of %d kept their slots", kept, audioSlots)
	}
	listener.await("that they speak", func() bool { return listener.onlySpeaker() == names[still] })

	louder := (still + 1) % n
	voices[louder].level.Store(5)
	listener.await("the louder one first", func() bool { return slices.Equal(listener.who(), []wire.ParticipantID{names[louder], names[still]}) })
	told := listener.toldOf()
	sent := len(voices[0].all())
	listener.await("a second of the same", func() bool { return len(voices[0].all()) > sent+50 })
	if now := listener.toldOf(); now != told {
		t.Errorf("the same speakers were told %d times", now-told)
	}
	voices[still].level.Store(silence)
	voices[louder].level.Store(silence)
	listener.await("silence", func() bool { return len(listener.who()) == 0 })
}

// heardBy are those whose voices a slot carries.
func heardBy(c *peer, voices []*voice) (all []*voice) {
	for _, v := range voices {
		if c.slotOf(v.id) != "" {
			all = append(all, v)
		}
	}
	return all
}

func (c *peer) who() (names []wire.ParticipantID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.speakers {
		names = append(names, s.ParticipantID)
	}
	return names
}

func (c *peer) onlySpeaker() wire.ParticipantID {
	if who := c.who(); len(who) == 1 {
		return who[0]
	}
	return ""
}

func (c *peer) toldOf() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.told
}
