// Package e2ee gives a device of the client library end-to-end encryption: Olm and Megolm of mautrix, over the platform's key directory.
// It believes the server nothing: keys go only to devices that their owners have signed, and nothing goes to whoever has another identity
// than before until a person has approved it. Build it with the tag goolm, which is Olm in pure Go.
package e2ee

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/crypto/goolm/account"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"secureconnect/services/client"
	"secureconnect/services/internal/wire"
)

// Errors of reading and writing. Of reading, all but ErrNoKey are final.
var (
	ErrNoKey        = errors.New("the key of this message has not come")
	ErrNotEncrypted = errors.New("not an encrypted message")
	ErrUnsigned     = errors.New("sent by a device that its owner has not signed")
	ErrRelabelled   = errors.New("a message under another name, or a second time")
)

// IdentityChangedError stops sending: User's identity is not the one this device knew, and nobody has approved it.
type IdentityChangedError struct{ User wire.UserID }

func (e *IdentityChangedError) Error() string {
	return "the identity of " + string(e.User) + " has changed: verify it before writing to them"
}

// Options say whose device it is.
type Options struct {
	User   wire.UserID
	Device wire.DeviceID
	// Token gives a fresh access token, always of the session of Device.
	Token func(ctx context.Context) (string, error)
}

// Machine is the cryptography of one device, held in memory. Its methods may be called from several goroutines.
type Machine struct {
	client  *client.Client
	options Options
	olm     *crypto.OlmMachine
	rooms   *rooms

	syncing sync.Mutex // one at a time waits for keys
	since   string

	backingUp sync.Mutex    // one at a time puts keys into the backup
	fresh     chan struct{} // has one waiting when there may be keys to put there

	mu     sync.Mutex                                      // the library's machine has one hand on it
	read   map[wire.ConversationID]map[wire.ClientID]int64 // where each message was seen
	backup keeping
	takers []*taker // of call keys; replaced, never changed
}

// New makes the keys of a device and publishes them. The device is not signed yet: Bootstrap, Join or Recover does that, and before it
// nobody writes to it.
func New(ctx context.Context, c *client.Client, options Options) (*Machine, error) {
	m, err := newMachine(ctx, c, options)
	if err != nil {
		return nil, err
	}
	if err := m.olm.ShareKeys(ctx, 0); err != nil {
		return nil, fmt.Errorf("publish keys: %w", err)
	}
	return m, m.publishFallback(ctx)
}

func newMachine(ctx context.Context, c *client.Client, options Options) (*Machine, error) {
	api, err := mautrix.NewClient("https://"+wire.ServerName, matrixUser(options.User), "unused") // the transport knows address and token
	if err != nil {
		return nil, fmt.Errorf("prepare key client: %w", err)
	}
	api.DeviceID, api.DefaultHTTPRetries = id.DeviceID(options.Device), 0
	api.Client = &http.Client{Transport: paths{c.RoundTripper(options.Token)}, Timeout: 30 * time.Second}
	m := &Machine{
		client: c, options: options, rooms: newRooms(), fresh: make(chan struct{}, 1),
		read: map[wire.ConversationID]map[wire.ClientID]int64{}, backup: newKeeping(),
	}
	m.olm = crypto.NewOlmMachine(api, nil, store{crypto.NewMemoryStore(nil)}, m.rooms)
	m.olm.SendKeysMinTrust = id.TrustStateCrossSignedTOFU
	m.olm.SessionReceived = m.received
	if err := m.olm.Load(ctx); err != nil {
		return nil, fmt.Errorf("make keys: %w", err)
	}
	return m, nil
}

// received is told of every key that comes or is made, by whoever has the library's machine in hand.
func (m *Machine) received(context.Context, id.RoomID, id.SessionID, uint32) {
	select {
	case m.fresh <- struct{}{}:
	default: // it is known that there are some
	}
}

// Close ends what the machine does by itself. Its keys are gone then.
func (m *Machine) Close() { m.olm.Destroy() }

// Identity is the secret half of a user's identity: who has it can sign devices.
type Identity = crypto.CrossSigningSeeds

// Bootstrap makes the identity of a user who has none, and signs this device with it.
func (m *Machine) Bootstrap(ctx context.Context) (Identity, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	keys, err := m.olm.GenerateCrossSigningKeys()
	if err != nil {
		return Identity{}, fmt.Errorf("make identity: %w", err)
	}
	if err := m.olm.PublishCrossSigningKeys(ctx, keys, nil); err != nil {
		return Identity{}, fmt.Errorf("publish identity: %w", err)
	}
	return keys.Seeds(), m.sign(ctx)
}

// Join signs this device with the identity that its user has already.
func (m *Machine) Join(ctx context.Context, identity Identity) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.take(ctx, identity)
}

func (m *Machine) take(ctx context.Context, identity Identity) error {
	if err := m.olm.ImportCrossSigningKeys(identity); err != nil {
		return fmt.Errorf("take identity: %w", err)
	}
	if err := m.sign(ctx); err != nil {
		m.olm.CrossSigningKeys = nil
		return err
	}
	return nil
}

// sign refuses an identity that the server does not show: others would trust another one.
func (m *Machine) sign(ctx context.Context) error {
	own := m.olm.CrossSigningKeys.PublicKeys()
	if _, err := m.olm.FetchKeys(ctx, []id.UserID{matrixUser(m.options.User)}, true); err != nil {
		return fmt.Errorf("read own keys: %w", err)
	}
	shown, err := m.olm.GetCrossSigningPublicKeys(ctx, matrixUser(m.options.User))
	if err != nil {
		return fmt.Errorf("read own identity: %w", err)
	}
	if shown == nil || *shown != *own {
		return &IdentityChangedError{m.options.User}
	}
	if err := m.olm.SignOwnDevice(ctx, m.olm.OwnIdentity()); err != nil {
		return fmt.Errorf("sign device: %w", err)
	}
	if err := m.olm.SignOwnMasterKey(ctx); err != nil {
		return fmt.Errorf("sign identity: %w", err)
	}
	return nil
}

// Fingerprint is the public identity of a user, as this device sees it now; two people who compare it know that nobody is between them.
// It is "" for whoever has none.
func (m *Machine) Fingerprint(ctx context.Context, user wire.UserID) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fingerprint(ctx, user)
}

func (m *Machine) fingerprint(ctx context.Context, user wire.UserID) (string, error) {
	if err := m.look(ctx, []wire.UserID{user}); err != nil {
		return "", err
	}
	shown, err := m.olm.GetCrossSigningPublicKeys(ctx, matrixUser(user))
	if err != nil || shown == nil {
		return "", err
	}
	return shown.MasterKey.String(), nil
}

// Verify says that a person has compared the fingerprint of user: that identity is approved, on all devices.
func (m *Machine) Verify(ctx context.Context, user wire.UserID, fingerprint string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if shown, err := m.fingerprint(ctx, user); err != nil {
		return err
	} else if shown != fingerprint {
		return &IdentityChangedError{user}
	}
	if err := m.olm.SignUser(ctx, matrixUser(user), id.Ed25519(fingerprint)); err != nil {
		return fmt.Errorf("sign identity: %w", err)
	}
	return nil
}

// Sync takes in what waits for this device at the key directory, for up to wait when nothing does. It reports whether something came.
func (m *Machine) Sync(ctx context.Context, wait time.Duration) (bool, error) {
	m.syncing.Lock()
	defer m.syncing.Unlock()
	token, err := m.options.Token(ctx)
	if err != nil {
		return false, err
	}
	page, _, err := m.client.SyncKeys(ctx, token, m.since, wait)
	if err != nil {
		return false, err
	}
	came := len(page.ToDevice.Events) > 0 || len(page.DeviceLists.Changed) > 0
	response, err := matrixSync(page)
	if err != nil {
		return false, err
	}
	sent, takers, err := m.takeIn(ctx, response, page)
	deliver(takers, sent)
	return came || err != nil, err
}

// takeIn has the library read a page, and gives what is not the library's with who waits for it.
func (m *Machine) takeIn(ctx context.Context, response *mautrix.RespSync, page wire.KeysSync) ([]sentKey, []*taker, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	sent := m.process(ctx, response)
	m.since = page.NextBatch
	if slices.Contains(page.DeviceUnusedFallbackKeys, string(id.KeyAlgorithmSignedCurve25519)) {
		return sent, m.takers, nil
	}
	return sent, m.takers, m.publishFallback(ctx)
}

// matrixSync is a page of ours as the library reads it.
func matrixSync(page wire.KeysSync) (*mautrix.RespSync, error) {
	page.ToDevice.Events = slices.DeleteFunc(page.ToDevice.Events, unasked)
	raw, err := json.Marshal(page)
	if err != nil {
		return nil, fmt.Errorf("read key sync: %w", err)
	}
	var response mautrix.RespSync
	if err := json.Unmarshal(raw, &response); err != nil {
		return nil, fmt.Errorf("read key sync: %w", err)
	}
	return &response, nil
}

// publishFallback publishes a key for when the one-time keys have run out. The library makes them and publishes none.
func (m *Machine) publishFallback(ctx context.Context) error {
	own, is := m.olm.GetAccount().Internal.(*account.Account)
	if !is {
		return errors.New("make fallback key: build with the tag goolm")
	}
	if err := own.GenFallbackKey(); err != nil {
		return fmt.Errorf("make fallback key: %w", err)
	}
	fallback := map[string]json.RawMessage{}
	for keyID, key := range own.FallbackKey() {
		body := map[string]any{"key": key, "fallback": true}
		signature, err := m.olm.GetAccount().SignJSON(body)
		if err != nil {
			return fmt.Errorf("sign fallback key: %w", err)
		}
		body["signatures"] = map[string]any{m.options.User.MatrixID(): map[string]string{"ed25519:" + string(m.options.Device): signature}}
		raw, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("write fallback key: %w", err)
		}
		fallback["signed_curve25519:"+keyID] = raw
	}
	token, err := m.options.Token(ctx)
	if err != nil {
		return err
	}
	if _, _, err := m.client.UploadKeys(ctx, token, wire.KeysUpload{FallbackKeys: fallback}); err != nil {
		return fmt.Errorf("publish fallback key: %w", err)
	}
	return nil
}

// look makes sure that the keys of users are known and followed from now on.
func (m *Machine) look(ctx context.Context, users []wire.UserID) error {
	var unknown []id.UserID
	for _, user := range users {
		devices, err := m.olm.CryptoStore.GetDevices(ctx, matrixUser(user))
		if err != nil {
			return fmt.Errorf("read devices: %w", err)
		}
		if devices == nil {
			unknown = append(unknown, matrixUser(user))
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	if _, err := m.olm.FetchKeys(ctx, unknown, true); err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	return nil
}

// approved fails for a user whose identity is another than this device saw first, unless its owner has verified it since.
func (m *Machine) approved(ctx context.Context, user wire.UserID) error {
	keys, err := m.olm.CryptoStore.GetCrossSigningKeys(ctx, matrixUser(user))
	if err != nil {
		return fmt.Errorf("read identity: %w", err)
	}
	master, there := keys[id.XSUsageMaster]
	if !there || master.Key == master.First {
		return nil
	}
	if verified, err := m.olm.IsUserTrusted(ctx, matrixUser(user)); err != nil || verified {
		return err //nolint:wrapcheck // it says itself what it could not read
	}
	return &IdentityChangedError{user}
}

// Encrypt turns content into the body of a message that the members can read, and nobody else. The members must be those of now: who has
// left since the last message reads no more, who has come since reads from here on.
func (m *Machine) Encrypt(ctx context.Context, conversation wire.ConversationID, members []wire.UserID, content Content) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	room := roomOf(conversation)
	if err := m.look(ctx, members); err != nil {
		return "", err
	}
	for _, member := range members {
		if err := m.approved(ctx, member); err != nil {
			return "", err
		}
	}
	if m.rooms.change(room, members) {
		if err := m.olm.CryptoStore.RemoveOutboundGroupSession(ctx, room); err != nil {
			return "", fmt.Errorf("end session: %w", err)
		}
	}
	users := make([]id.UserID, len(members))
	for i, member := range members {
		users[i] = matrixUser(member)
	}
	if err := m.olm.ShareGroupSession(ctx, room, users); err != nil {
		return "", fmt.Errorf("share session: %w", err)
	}
	encrypted, err := m.olm.EncryptMegolmEvent(ctx, room, messageType, content)
	if err != nil {
		return "", fmt.Errorf("encrypt message: %w", err)
	}
	body, err := json.Marshal(encrypted)
	if err != nil {
		return "", fmt.Errorf("write message: %w", err)
	}
	return string(body), nil
}

// Decrypt reads an item of a conversation. The same item may be read again; its ciphertext under any other name may not.
func (m *Machine) Decrypt(ctx context.Context, conversation wire.ConversationID, item wire.Item) (Content, error) {
	encrypted := new(event.EncryptedEventContent)
	if item.At == nil || json.Unmarshal([]byte(item.Body), encrypted) != nil || encrypted.Algorithm != id.AlgorithmMegolmV1 {
		return Content{}, ErrNotEncrypted
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	decrypted, err := m.open(ctx, &event.Event{
		ID: eventOf(item.ClientID), RoomID: roomOf(conversation), Sender: matrixUser(item.Sender), Type: event.EventEncrypted,
		Timestamp: item.At.UnixMilli(), Content: event.Content{VeryRaw: json.RawMessage(item.Body), Parsed: encrypted},
	})
	switch {
	case errors.Is(err, crypto.ErrNoSessionFound):
		return Content{}, ErrNoKey
	case errors.Is(err, crypto.ErrDuplicateMessageIndex):
		return Content{}, ErrRelabelled
	case err != nil:
		return Content{}, fmt.Errorf("decrypt message: %w", err)
	}
	restored := m.backup.restored[encrypted.SessionID]
	if trust := decrypted.Mautrix.TrustState; trust < id.TrustStateUnset || (trust < id.TrustStateCrossSignedTOFU && !restored) {
		return Content{}, ErrUnsigned
	}
	content := Content{Restored: restored}
	if err := json.Unmarshal(decrypted.Content.VeryRaw, &content); err != nil {
		return Content{}, fmt.Errorf("read message: %w", err)
	}
	if decrypted.Type.Type != messageType.Type || content.ID != item.ClientID || !m.first(conversation, item) {
		return Content{}, ErrRelabelled
	}
	return content, nil
}

// open decrypts an event. Inside the encryption may be whatever a member wrote, and the library does not bear all of it (mautrix v0.30.0
// panics at null).
func (m *Machine) open(ctx context.Context, encrypted *event.Event) (opened *event.Event, err error) {
	defer func() {
		if trouble := recover(); trouble != nil {
			opened, err = nil, fmt.Errorf("what is inside cannot be read: %v", trouble)
		}
	}()
	return m.olm.DecryptMegolmEvent(ctx, encrypted) //nolint:wrapcheck // Decrypt does
}

// first notes where a message was read, and reports false when it was read elsewhere before.
func (m *Machine) first(conversation wire.ConversationID, item wire.Item) bool {
	seen := m.read[conversation]
	if seen == nil {
		seen = map[wire.ClientID]int64{}
		m.read[conversation] = seen
	}
	if seq, again := seen[item.ClientID]; again {
		return seq == item.Seq
	}
	seen[item.ClientID] = item.Seq
	return true
}

// paths sends the library's requests to the platform's paths; bodies stay as they are.
type paths struct{ http.RoundTripper }

const matrixPrefix = "/_matrix/client/v3/"

func (p paths) RoundTrip(request *http.Request) (*http.Response, error) {
	path, found := strings.CutPrefix(request.URL.Path, matrixPrefix)
	if !found {
		return nil, fmt.Errorf("no path of the platform is meant by %s", request.URL.Path)
	}
	mapped := request.Clone(request.Context())
	mapped.URL.Path, mapped.URL.RawPath = "/v1/keys/"+strings.TrimPrefix(path, "keys/"), ""
	return p.RoundTripper.RoundTrip(mapped) //nolint:wrapcheck // a transport's errors are its caller's to explain
}
