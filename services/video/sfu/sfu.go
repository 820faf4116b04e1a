// Package sfu forwards the media of calls: it takes each participant's tracks on one connection and gives everybody the others' on
// another, packet by packet, without a key to any of it. It knows no users, sockets or stores; services/video/PROTOCOL.md says what its
// connections look like from outside.
package sfu

import (
	"secureconnect/services/internal/wire"
)

// Source is what a participant said of one media section of their offer.
type Source = wire.OfferedTrack

// Hooks are what the SFU tells the owner of a participant. They are called by goroutines of the SFU, for one participant one after the
// other, and must not block or call back into the SFU.
type Hooks struct {
	// Offer is a new description of the connection down; only the newest version is to be answered.
	Offer func(version int, sdp string)
	// Slots are the slots whose track has changed.
	Slots func([]wire.Slot)
	// Layers are the simulcast layers of one of the participant's tracks that anybody wants.
	Layers func(mid string, active []string)
	// Quality is how well both connections work, one of wire.Quality….
	Quality func(up, down string)
	// Speakers are who speaks in the room, the loudest first.
	Speakers func([]wire.Speaker)
}
