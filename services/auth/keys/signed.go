package keys

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"maps"

	"secureconnect/services/internal/apperr"
)

const (
	ed25519Prefix    = "ed25519:"
	curve25519Prefix = "curve25519:"
	curve25519Bytes  = 32

	// maxSigned bounds one signed object in bytes; an honest one has about a tenth of that.
	maxSigned = 16 << 10
)

var (
	errSignature   = errors.New("no good signature of that key")
	errSignatures  = errors.New("signatures are not strings by user and key")
	errKeyEncoding = errors.New("not a key in unpadded base64")
)

// signed is a JSON object that may carry signatures (Matrix specification, Appendices, "Signing JSON").
type signed struct {
	fields object
	core   string // what signatures are of: all but the signatures and what is unsigned
}

func parseSigned(raw []byte) (signed, error) {
	fields, err := decode(raw, maxSigned)
	if err != nil {
		return signed{}, err
	}
	rest := maps.Clone(fields)
	delete(rest, "signatures")
	delete(rest, "unsigned")
	core, err := canonical(rest)
	if err != nil {
		return signed{}, err
	}
	s := signed{fields: fields, core: core}
	if _, err := s.signatures(); err != nil {
		return signed{}, err
	}
	return s, nil
}

// text is the whole object in canonical form.
func (s signed) text() (string, error) { return canonical(s.fields) }

func (s signed) field(name string) string {
	text, _ := s.fields[name].(string)
	return text
}

// signatures are by user id and by key id.
func (s signed) signatures() (map[string]map[string]string, error) {
	all := map[string]map[string]string{}
	if s.fields["signatures"] == nil {
		return all, nil
	}
	users, isObject := s.fields["signatures"].(object)
	if !isObject {
		return nil, errSignatures
	}
	for user, value := range users {
		byKey, isObject := value.(object)
		if !isObject {
			return nil, errSignatures
		}
		all[user] = map[string]string{}
		for key, value := range byKey {
			signature, isText := value.(string)
			if !isText {
				return nil, errSignatures
			}
			all[user][key] = signature
		}
	}
	return all, nil
}

// signedBy fails where the object has no good signature of user's key, named by its device or by itself.
func (s signed) signedBy(user, name string, key ed25519.PublicKey) error {
	all, err := s.signatures()
	if err != nil {
		return err
	}
	return s.verify(all[user][ed25519Prefix+name], key)
}

func (s signed) verify(signature string, key ed25519.PublicKey) error {
	raw, err := base64.RawStdEncoding.Strict().DecodeString(signature)
	if err != nil || len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, []byte(s.core), raw) {
		return errSignature
	}
	return nil
}

// merge adds a signature.
func (s signed) merge(user, keyID, signature string) {
	users, isObject := s.fields["signatures"].(object)
	if !isObject {
		users = object{}
		s.fields["signatures"] = users
	}
	byKey, isObject := users[user].(object)
	if !isObject {
		byKey = object{}
		users[user] = byKey
	}
	byKey[keyID] = signature
}

// decodeKey reads a public key; Ed25519 and Curve25519 have the same length.
func decodeKey(text string) ([]byte, error) {
	raw, err := base64.RawStdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != curve25519Bytes {
		return nil, errKeyEncoding
	}
	return raw, nil
}

// namedKey is the key called prefix + name in an object's "keys".
func (s signed) namedKey(prefix, name string) ([]byte, error) {
	all, _ := s.fields["keys"].(object)
	text, _ := all[prefix+name].(string)
	return decodeKey(text)
}

func invalidKeys(op, text string, cause error) error {
	return apperr.E(op, apperr.Invalid, text, cause, apperr.Code("invalid_keys"))
}

func badSignature(op, text string, cause error) error {
	return apperr.E(op, apperr.Invalid, text, cause, apperr.Code("invalid_signature"))
}
