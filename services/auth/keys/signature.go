package keys

import (
	"context"
	"crypto/ed25519"
	"maps"
	"slices"
	"strings"

	"secureconnect/services/internal/apperr"
	"secureconnect/services/internal/wire"
)

// maxSignedObjects bounds one upload of signatures.
const maxSignedObjects = 256

// PublishSignatures adds signatures to devices and master keys that are there (Matrix C-S specification, POST
// /keys/signatures/upload): on the caller's devices by the caller's self-signing key or the device itself, on the
// caller's master key by one of the caller's devices, on others' master keys by the caller's user-signing key. What is
// not such a signature, or does not fit, is among the failures; the rest is taken.
func (s *Service) PublishSignatures(ctx context.Context, caller wire.Session, body wire.SignaturesUpload) (wire.SignaturesUploaded, error) {
	const op = "keys.PublishSignatures"
	uploads, failures, err := parseSignatures(body)
	if err != nil {
		return wire.SignaturesUploaded{}, err
	}
	result, err := s.store.putSignatures(ctx, caller, uploads)
	if err != nil {
		return wire.SignaturesUploaded{}, apperr.OrUnavailable(op, err)
	}
	for upload, why := range result.failures {
		failures.add(upload.userName, upload.target, why)
	}
	s.changed(ctx, result.changed...)
	return wire.SignaturesUploaded{Failures: failures}, nil
}

// signatureUpload is one signed object and what it says it is.
type signatureUpload struct {
	userName string // as the request has it
	user     wire.UserID
	target   string // a device id or a public key
	object   signed
}

// failures are by user and target.
type failures map[string]map[string]wire.SignatureFailure

func (f failures) add(user, target string, why wire.SignatureFailure) {
	if f[user] == nil {
		f[user] = map[string]wire.SignatureFailure{}
	}
	f[user][target] = why
}

// Why a signature is not taken, in the specification's codes.
var (
	failedShape     = wire.SignatureFailure{Code: "M_INVALID_PARAM", Text: "Not a signed object of one of our users."}
	failedUnknown   = wire.SignatureFailure{Code: "M_NOT_FOUND", Text: "There is no such device or key."}
	failedDiffers   = wire.SignatureFailure{Code: "M_INVALID_SIGNATURE", Text: "The signed object is not the one that is stored."}
	failedSignature = wire.SignatureFailure{Code: "M_INVALID_SIGNATURE", Text: "There is no good signature of a key of yours that may sign this."}
)

func parseSignatures(body wire.SignaturesUpload) ([]*signatureUpload, failures, error) {
	var uploads []*signatureUpload
	failed, given := failures{}, 0
	for _, name := range slices.Sorted(maps.Keys(body)) {
		if given += len(body[name]); given > maxSignedObjects {
			return nil, nil, tooManyAsked("keys.PublishSignatures")
		}
		user, userErr := wire.ParseMatrixID(name)
		for _, target := range slices.Sorted(maps.Keys(body[name])) {
			object, err := parseSigned(body[name][target])
			if userErr != nil || err != nil {
				failed.add(name, target, failedShape)
				continue
			}
			uploads = append(uploads, &signatureUpload{userName: name, user: user, target: target, object: object})
		}
	}
	return uploads, failed, nil
}

// judged is what of an upload of signatures is good.
type judged struct {
	good     []signature
	failures map[*signatureUpload]wire.SignatureFailure
}

func (d directory) judge(caller wire.UserID, uploads []*signatureUpload) judged {
	j := judged{failures: map[*signatureUpload]wire.SignatureFailure{}}
	for _, upload := range uploads {
		good, why := d.judgeOne(caller, upload)
		if len(good) == 0 {
			j.failures[upload] = why
		}
		j.good = append(j.good, good...)
	}
	return j
}

// judgeOne gives the good signatures of one object, or why there is none. One that is the signer's and wrong spoils
// the object: it was made by a program that is mistaken about a key.
func (d directory) judgeOne(caller wire.UserID, upload *signatureUpload) ([]signature, wire.SignatureFailure) {
	stored, target, known := d.find(upload)
	if !known {
		return nil, failedUnknown
	}
	if stored.core != upload.object.core {
		return nil, failedDiffers
	}
	all, err := upload.object.signatures()
	if err != nil {
		return nil, failedShape
	}
	var good []signature
	for keyID, text := range all[caller.MatrixID()] {
		if stored.verify(text, d.signer(caller, upload, keyID)) != nil {
			return nil, failedSignature
		}
		good = append(good, signature{user: upload.user, target: target, signer: caller, key: keyID, text: text})
	}
	return good, failedSignature
}

// find is the device or master key that an object says it is.
func (d directory) find(upload *signatureUpload) (stored signed, target string, known bool) {
	device := wire.DeviceID(upload.target)
	if stored, known := d.devices[place{upload.user, device}]; known {
		return stored, deviceTarget(device), true
	}
	master, known := d.identities[upload.user][usageMaster]
	return master.signed, keyTarget(master.public), known && master.public == upload.target
}

// signer is the key of caller's called keyID, if it may sign that object, or nil.
func (d directory) signer(caller wire.UserID, upload *signatureUpload, keyID string) ed25519.PublicKey {
	name, _ := strings.CutPrefix(keyID, ed25519Prefix)
	me := d.identities[caller]
	_, isDevice := d.devices[place{upload.user, wire.DeviceID(upload.target)}]
	switch {
	case upload.user != caller:
		return me.keyNamed(usageUserSigning, name, !isDevice)
	case isDevice && name != upload.target:
		return me.keyNamed(usageSelfSigning, name, true)
	}
	device, known := d.devices[place{caller, wire.DeviceID(name)}]
	if !known {
		return nil
	}
	key, err := signingKey(device, wire.DeviceID(name))
	if err != nil {
		return nil
	}
	return key
}

// keyNamed is the key of that usage, if it is called so and may be used.
func (there identity) keyNamed(usage, name string, allowed bool) ed25519.PublicKey {
	if key, known := there[usage]; known && allowed && key.public == name {
		return key.key()
	}
	return nil
}
