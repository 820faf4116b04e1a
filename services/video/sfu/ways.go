package sfu

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"net/netip"
	"slices"
	"sync"

	"github.com/pion/stun/v4"
)

const mostAddresses = 16 // of one transport; the oldest are forgotten

// credentials are those of one generation of ICE (RFC 8445 §5.3).
type credentials struct{ fragment, password string }

func newCredentials() credentials {
	var b [24]byte
	_, _ = rand.Read(b[:]) // it never fails
	text := base64.StdEncoding.EncodeToString(b[:])
	return credentials{fragment: text[:8], password: text[8:]}
}

// ways finds the transport that a packet is for: by the fragment in a check, and by the address of who has made one with the right
// password.
type ways struct {
	mu        sync.RWMutex
	fragments map[string]way
	addresses map[netip.AddrPort]*transport
}

// way is a generation of credentials of a transport.
type way struct {
	transport  *transport
	password   stun.MessageIntegrity
	generation int
}

func newWays() *ways {
	return &ways{fragments: map[string]way{}, addresses: map[netip.AddrPort]*transport{}}
}

func (w *ways) from(address netip.AddrPort) *transport {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.addresses[address]
}

func (w *ways) open(t *transport, c credentials, generation int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fragments[c.fragment] = way{t, stun.NewShortTermIntegrity(c.password), generation}
}

// keepOnly forgets all generations but one.
func (w *ways) keepOnly(t *transport, generation int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for fragment, way := range w.fragments {
		if way.transport == t && way.generation != generation {
			delete(w.fragments, fragment)
		}
	}
}

// close forgets the transport.
func (w *ways) close(t *transport) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for fragment, way := range w.fragments {
		if way.transport == t {
			delete(w.fragments, fragment)
		}
	}
	for _, address := range t.addresses {
		if w.addresses[address] == t {
			delete(w.addresses, address)
		}
	}
}

// bind answers a check of connectivity (RFC 8445 §7.3, RFC 8489 §9.1). One that does not know the password is not answered: it is not a
// client's of ours.
func (w *ways) bind(packet []byte, from netip.AddrPort) (answer []byte, ok bool) {
	m := &stun.Message{Raw: packet}
	if err := m.Decode(); err != nil || m.Type != stun.BindingRequest {
		return nil, false
	}
	name, err := m.Get(stun.AttrUsername)
	if err != nil {
		return nil, false
	}
	fragment, _, _ := bytes.Cut(name, []byte(":"))
	w.mu.RLock()
	way, known := w.fragments[string(fragment)]
	w.mu.RUnlock()
	if !known || way.password.Check(m) != nil {
		return nil, false
	}
	if m.Contains(stun.AttrICEControlled) {
		return roleConflict(m, way.password)
	}
	w.learn(way.transport, from)
	way.transport.checked(from, way.generation, m.Contains(stun.AttrUseCandidate))
	address := &stun.XORMappedAddress{IP: from.Addr().AsSlice(), Port: int(from.Port())}
	return built(stun.Build(stun.NewTransactionIDSetter(m.TransactionID), stun.BindingSuccess, address, way.password, stun.Fingerprint))
}

// roleConflict tells a client that the SFU, being lite, never controls (RFC 8445 §7.3.1.1).
func roleConflict(m *stun.Message, password stun.MessageIntegrity) ([]byte, bool) {
	code := stun.ErrorCodeAttribute{Code: stun.CodeRoleConflict, Reason: []byte("Role Conflict")}
	return built(stun.Build(stun.NewTransactionIDSetter(m.TransactionID), stun.BindingError, code, password, stun.Fingerprint))
}

func built(m *stun.Message, err error) ([]byte, bool) {
	if err != nil {
		return nil, false
	}
	return m.Raw, true
}

// learn notes that packets from an address are the transport's.
func (w *ways) learn(t *transport, from netip.AddrPort) {
	if w.from(from) == t {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if t.isDone() {
		return
	}
	w.addresses[from] = t
	t.addresses = append(slices.DeleteFunc(t.addresses, func(a netip.AddrPort) bool { return a == from }), from)
	if len(t.addresses) > mostAddresses {
		if oldest := t.addresses[0]; w.addresses[oldest] == t {
			delete(w.addresses, oldest)
		}
		t.addresses = t.addresses[1:]
	}
}
