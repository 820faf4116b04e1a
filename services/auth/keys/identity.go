package keys

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/config"
	"secureconnect/services/internal/wire"
)

// What a key of an identity is for (Matrix C-S specification, "Cross-signing").
const (
	usageMaster      = "master"
	usageSelfSigning = "self_signing"
	usageUserSigning = "user_signing"
)

// identity is a user's cross-signing keys by usage.
type identity map[string]identityKey

type identityKey struct {
	signed
	usage  string
	public string
	body   string
}

func (k identityKey) key() ed25519.PublicKey {
	key, err := decodeKey(k.public)
	if err != nil {
		return nil // verifies nothing
	}
	return key
}

// PublishIdentity publishes the caller's cross-signing keys (Matrix C-S specification, POST
// /keys/device_signing/upload). The first ones are free and the same ones again are fine; to replace a key is to become
// another person to everybody else, so it needs the password once more: Unauthenticated without it.
func (s *Service) PublishIdentity(ctx context.Context, caller wire.Session, body wire.IdentityUpload) error {
	const op = "keys.PublishIdentity"
	uploaded, err := parseIdentity(body, caller.UserID)
	if err != nil {
		return err
	}
	changed, err := s.store.putIdentity(ctx, caller, uploaded, false)
	if errors.Is(err, errReplaces) {
		if err := s.confirm(ctx, caller, body.Auth); err != nil {
			return err
		}
		changed, err = s.store.putIdentity(ctx, caller, uploaded, true)
	}
	if err != nil {
		return apperr.OrUnavailable(op, err)
	}
	if changed {
		s.changed(ctx, caller.UserID)
	}
	return nil
}

var errReplaces = errors.New("another identity is there")

func (s *Service) confirm(ctx context.Context, caller wire.Session, shown *wire.PasswordAuth) error {
	const op = "keys.confirm"
	if shown == nil || shown.Type != wire.AuthPassword {
		return apperr.E(op, apperr.Unauthenticated, "Give your password once more to replace your identity: auth of type m.login.password.",
			nil, apperr.Code("reauthentication_required"))
	}
	return s.passwords.ConfirmPassword(ctx, caller, config.NewSecret(shown.Password))
}

func parseIdentity(body wire.IdentityUpload, caller wire.UserID) (identity, error) {
	uploaded := identity{}
	for usage, raw := range map[string]json.RawMessage{
		usageMaster: body.MasterKey, usageSelfSigning: body.SelfSigningKey, usageUserSigning: body.UserSigningKey,
	} {
		if !given(raw) {
			continue
		}
		key, err := parseIdentityKey(raw, usage, caller)
		if err != nil {
			return nil, err
		}
		uploaded[usage] = key
	}
	if len(uploaded) == 0 {
		return nil, invalidKeys("keys.parseIdentity", "There is no key in the upload.", nil)
	}
	return uploaded, nil
}

func parseIdentityKey(raw json.RawMessage, usage string, caller wire.UserID) (identityKey, error) {
	const op = "keys.parseIdentityKey"
	s, err := parseSigned(raw)
	if err != nil {
		return identityKey{}, invalidKeys(op, "A cross-signing key is not a signed JSON object.", err)
	}
	if s.field("user_id") != caller.MatrixID() {
		return identityKey{}, apperr.E(op, apperr.Forbidden, "You publish your own keys only.", nil, apperr.Code("not_your_identity"))
	}
	if usages, _ := s.fields["usage"].([]any); len(usages) != 1 || usages[0] != usage {
		return identityKey{}, invalidKeys(op, "A cross-signing key is not for what it is uploaded as.", nil)
	}
	public, err := s.onlyKey()
	if err != nil {
		return identityKey{}, invalidKeys(op, "A cross-signing object has one Ed25519 key, named by itself.", err)
	}
	body, err := s.text()
	if err != nil {
		return identityKey{}, invalidKeys(op, "A cross-signing key cannot be written as canonical JSON.", err)
	}
	return identityKey{signed: s, usage: usage, public: public, body: body}, nil
}

// onlyKey is the one key of a cross-signing object: "ed25519:<key>": "<key>".
func (s signed) onlyKey() (string, error) {
	keys, _ := s.fields["keys"].(object)
	for name, value := range keys {
		public, _ := value.(string)
		if _, err := decodeKey(public); err != nil || len(keys) != 1 || name != ed25519Prefix+public {
			break
		}
		return public, nil
	}
	return "", errKeyEncoding
}

// replacement is what an upload does to the identity that is there.
type replacement struct {
	put      []identityKey
	removed  []identityKey // replaced, or signed by a master key that is
	replaces bool
}

// replace judges an upload. devices are the caller's, which may have signed the master key.
func (there identity) replace(uploaded identity, caller wire.UserID, devices map[place]signed) (replacement, error) {
	var r replacement
	newMaster := false // what the old one signed is to be signed anew
	for _, usage := range []string{usageMaster, usageSelfSigning, usageUserSigning} {
		old, known := there[usage]
		key, given := uploaded[usage]
		switch {
		case given && known && old.core == key.core && !newMaster:
		case given:
			r.put = append(r.put, key)
			if known {
				r.removed, r.replaces = append(r.removed, old), true
			}
			newMaster = newMaster || usage == usageMaster
		case known && newMaster:
			r.removed = append(r.removed, old)
		}
	}
	master, known := uploaded[usageMaster]
	if !known {
		master = there[usageMaster]
	}
	for _, key := range r.put {
		if err := key.checkSignatures(master, caller, devices); err != nil {
			return r, err
		}
	}
	return r, nil
}

// checkSignatures wants the master key's signature on the other two. What devices signed must be right as well.
func (k identityKey) checkSignatures(master identityKey, caller wire.UserID, devices map[place]signed) error {
	const op = "keys.PublishIdentity"
	if k.usage != usageMaster {
		if err := k.signedBy(caller.MatrixID(), master.public, master.key()); err != nil {
			return badSignature(op, "A cross-signing key is not signed by your master key.", err)
		}
	}
	for p, device := range devices {
		all, err := k.signatures()
		if err != nil {
			return err
		}
		text, claimed := all[caller.MatrixID()][ed25519Prefix+string(p.device)]
		if !claimed {
			continue
		}
		key, err := signingKey(device, p.device)
		if err == nil {
			err = k.verify(text, key)
		}
		if err != nil {
			return badSignature(op, "A cross-signing key has a wrong signature of your device.", err)
		}
	}
	return nil
}
