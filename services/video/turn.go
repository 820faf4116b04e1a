package video

import (
	"crypto/hmac"
	"crypto/sha1" // #nosec G505 -- what TURN's REST credentials are defined with; HMAC does not need collision resistance
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"secureconnect/services/internal/config"
	"secureconnect/services/internal/wire"
)

// TURN says where the TURN server is, and what it shares with us.
type TURN struct {
	Host    string // its public name
	Port    int    // UDP and TCP
	TLSPort int
	Secret  config.Secret
	Life    time.Duration // of a credential
}

// turnName is what the TURN server counts allocations by: one device in one call, however often it joins. It means nothing to others.
func turnName(call wire.CallID, who wire.SessionID) string {
	sum := sha256.Sum256([]byte(string(call) + " " + string(who)))
	return hex.EncodeToString(sum[:10])
}

// ice makes credentials for whom a name stands (draft-uberti-behave-turn-rest-00 §2.2).
func (t TURN) ice(name string, now time.Time) wire.ICE {
	ends := now.Add(t.Life).Truncate(time.Second)
	username := strconv.FormatInt(ends.Unix(), 10) + ":" + name
	mac := hmac.New(sha1.New, []byte(t.Secret.Reveal()))
	_, _ = mac.Write([]byte(username)) // a hash never errs
	return wire.ICE{
		Servers: []wire.ICEServer{{
			URLs: []string{
				fmt.Sprintf("turn:%s:%d?transport=udp", t.Host, t.Port),
				fmt.Sprintf("turn:%s:%d?transport=tcp", t.Host, t.Port),
				fmt.Sprintf("turns:%s:%d?transport=tcp", t.Host, t.TLSPort),
			},
			Username:   username,
			Credential: base64.StdEncoding.EncodeToString(mac.Sum(nil)),
		}},
		ExpiresAt: ends.UTC(),
	}
}
