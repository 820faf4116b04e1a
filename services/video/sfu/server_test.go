package sfu

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"secureconnect/services/internal/wire"
)

// serverSetting has the tests' program be an SFU, in a process whose costs can be told from the callers'.
const serverSetting = "SFU_SERVER"

// order is what a caller and the server say to each other, a line of JSON each.
type order struct {
	Room    string   `json:",omitempty"` // joins it
	Name    string   `json:",omitempty"`
	Offer   string   `json:",omitempty"`
	Answer  string   `json:",omitempty"`
	Version int      `json:",omitempty"`
	Tracks  []Source `json:",omitempty"`
}

// serve is the server. It says its address, and ends with its standard input.
func serve() error {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: localhost.AsSlice()})
	if err != nil {
		return err
	}
	s, err := New(Options{Conn: conn, Address: localhost})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	rooms := &rooms{s: s, all: map[string]*Room{}}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go rooms.attend(conn)
		}
	}()
	fmt.Println(listener.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin) // its end is what counts
	return errors.Join(listener.Close(), s.Close())
}

type rooms struct {
	s   *SFU
	mu  sync.Mutex
	all map[string]*Room
}

func (r *rooms) room(name string) *Room {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all[name] == nil {
		r.all[name] = r.s.Room(false)
	}
	return r.all[name]
}

// attend does what one caller wants, until they go.
func (r *rooms) attend(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	in, out := json.NewDecoder(conn), make(chan order, 16)
	defer close(out)
	go func() {
		encoder := json.NewEncoder(conn)
		for o := range out {
			_ = encoder.Encode(o) // gone, which is noticed where it is read
		}
	}()
	var p *Participant
	defer func() {
		if p != nil {
			p.Close()
		}
	}()
	for {
		var o order
		if in.Decode(&o) != nil {
			return
		}
		var err error
		switch {
		case o.Room != "":
			p, err = r.room(o.Room).Join(wire.ParticipantID(o.Name), mostSlots, Hooks{Offer: func(version int, sdp string) { out <- order{Offer: sdp, Version: version} }})
		case o.Offer != "":
			var answer string
			answer, _, err = p.Offer(o.Offer, o.Tracks)
			out <- order{Answer: answer}
		case o.Answer != "":
			err = p.Answer(o.Version, o.Answer)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return
		}
	}
}
