package e2ee

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"secureconnect/services/internal/wire"
)

// Reasons why a device is given no key.
var (
	ErrNoDevice  = errors.New("the key directory shows no such device")
	ErrNoChannel = errors.New("the device has left no key to write to it with")
)

// Peer is one device of a user.
type Peer struct {
	User   wire.UserID
	Device wire.DeviceID
}

// callKeyType is the type of the event inside Olm.
var callKeyType = event.Type{Type: wire.CallKeyEvent, Class: event.ToDeviceEventType}

// SendCallKey gives a key to devices, each as long as its owner has signed it and has the identity that is known. It tells whom it was not
// given and why: ErrNoDevice, ErrUnsigned, ErrNoChannel or an IdentityChangedError. Who is in the call, and may be, is its caller's to know.
func (m *Machine) SendCallKey(ctx context.Context, key wire.CallKey, to []Peer) (refused map[Peer]error, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	messages, refused, err := m.addressed(ctx, key, to)
	if err != nil || len(messages) == 0 {
		return refused, err
	}
	encrypted, err := m.olm.EncryptToDevices(ctx, callKeyType, &mautrix.ReqSendToDevice{Messages: messages})
	if err != nil {
		return refused, fmt.Errorf("encrypt call key: %w", err)
	}
	for user, devices := range messages {
		for device := range devices {
			if encrypted.Messages[user][device] == nil {
				refused[peerOf(user, device)] = ErrNoChannel
			}
		}
	}
	if _, err := m.olm.Client.SendToDevice(ctx, event.ToDeviceEncrypted, encrypted); err != nil {
		return refused, fmt.Errorf("send call key: %w", err)
	}
	return refused, nil
}

// addressed is what each device is to get that may have it. What looks wrong is looked up once more: a device may have been signed, or may
// have come, since.
func (m *Machine) addressed(ctx context.Context, key wire.CallKey, to []Peer) (map[id.UserID]map[id.DeviceID]*event.Content, map[Peer]error, error) {
	refused := m.untrusted(ctx, to)
	if len(refused) > 0 {
		var users []id.UserID
		for peer := range refused {
			if user := matrixUser(peer.User); !slices.Contains(users, user) {
				users = append(users, user)
			}
		}
		if _, err := m.olm.FetchKeys(ctx, users, true); err != nil {
			return nil, refused, fmt.Errorf("read keys: %w", err)
		}
		refused = m.untrusted(ctx, to)
	}
	messages := map[id.UserID]map[id.DeviceID]*event.Content{}
	for _, peer := range to {
		if refused[peer] != nil {
			continue
		}
		user := matrixUser(peer.User)
		if messages[user] == nil {
			messages[user] = map[id.DeviceID]*event.Content{}
		}
		messages[user][id.DeviceID(peer.Device)] = &event.Content{Parsed: key}
	}
	return messages, refused, nil
}

func (m *Machine) untrusted(ctx context.Context, peers []Peer) map[Peer]error {
	refused := map[Peer]error{}
	for _, peer := range peers {
		device, err := m.olm.CryptoStore.GetDevice(ctx, matrixUser(peer.User), id.DeviceID(peer.Device))
		if err == nil && device == nil {
			err = ErrNoDevice
		}
		if err == nil {
			err = m.trusted(ctx, device)
		}
		if err != nil {
			refused[peer] = err
		}
	}
	return refused
}

// trusted fails for a device that its owner has not signed, and for all of an owner whose identity is not the one that is known.
func (m *Machine) trusted(ctx context.Context, device *id.Device) error {
	if err := m.approved(ctx, peerOf(device.UserID, device.DeviceID).User); err != nil {
		return err
	}
	trust, err := m.olm.ResolveTrustContext(ctx, device)
	if err != nil {
		return fmt.Errorf("read signatures: %w", err)
	}
	if trust < m.olm.SendKeysMinTrust {
		return ErrUnsigned
	}
	return nil
}

// CallKeys hands the keys of a call that other devices send to take, in the order of their coming and with the device that sent each, as
// Olm and its owner's signature prove it, until stop. take must not call the machine. Whether the device is in the call is its to know.
func (m *Machine) CallKeys(call wire.CallID, take func(from Peer, key wire.CallKey)) (stop func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := &taker{call, take}
	m.takers = append(slices.Clone(m.takers), t)
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.takers = slices.DeleteFunc(slices.Clone(m.takers), func(one *taker) bool { return one == t })
	}
}

// taker takes the keys of one call.
type taker struct {
	call wire.CallID
	take func(Peer, wire.CallKey)
}

// sentKey is a key that has come, and from where.
type sentKey struct {
	from Peer
	key  wire.CallKey
}

// deliver is called without the lock.
func deliver(takers []*taker, sent []sentKey) {
	for _, one := range sent {
		for _, t := range takers {
			if t.call == one.key.CallID {
				t.take(one.from, one.key)
			}
		}
	}
}

// process has the library read a page, and gives the call keys among what it does not know.
func (m *Machine) process(ctx context.Context, page *mautrix.RespSync) (sent []sentKey) {
	m.olm.HandleDeviceLists(ctx, &page.DeviceLists, m.since)
	for _, e := range page.ToDevice.Events {
		e.Type.Class = event.ToDeviceEventType
		if e.Content.ParseRaw(e.Type) != nil {
			continue // of a type that nobody here sends
		}
		if e.Type != event.ToDeviceEncrypted {
			m.olm.HandleToDeviceEvent(ctx, e)
			continue
		}
		opened := m.olm.HandleEncryptedEvent(ctx, e)
		if opened == nil || opened.Type.Type != wire.CallKeyEvent {
			continue
		}
		if one, err := m.callKey(ctx, opened); err == nil { // what is not good enough is nothing
			sent = append(sent, one)
		}
	}
	m.olm.HandleOTKCounts(ctx, &page.DeviceOTKCount)
	m.olm.MarkOlmHashSavePoint(ctx)
	return sent
}

// callKey reads a key, and whose it is. The sender may describe their device inside the encryption, and under any name; only the directory's
// description is signed by its owner.
func (m *Machine) callKey(ctx context.Context, opened *crypto.DecryptedOlmEvent) (sentKey, error) {
	device, err := m.olm.GetOrFetchDeviceByKey(ctx, opened.Sender, opened.SenderKey)
	switch {
	case err != nil:
		return sentKey{}, fmt.Errorf("find device: %w", err)
	case device == nil || device.SigningKey != opened.Keys.Ed25519:
		return sentKey{}, ErrNoDevice
	}
	if m.trusted(ctx, device) != nil {
		// It may have been signed just now.
		if _, err := m.olm.FetchKeys(ctx, []id.UserID{device.UserID}, true); err != nil {
			return sentKey{}, fmt.Errorf("read keys: %w", err)
		}
		if err := m.trusted(ctx, device); err != nil {
			return sentKey{}, err
		}
	}
	var key wire.CallKey
	if err := json.Unmarshal(opened.Content.VeryRaw, &key); err != nil {
		return sentKey{}, fmt.Errorf("read call key: %w", err)
	}
	return sentKey{peerOf(device.UserID, device.DeviceID), key}, nil
}

func peerOf(user id.UserID, device id.DeviceID) Peer {
	of, _ := wire.ParseMatrixID(string(user)) // what is no user of ours has no name
	return Peer{of, wire.DeviceID(device)}
}
