package wsconn

// Code says why a socket was closed. 4000–4499 mean connect again, 4500–4999 mean do not (RFC 6455 §7.4.2 leaves 4000–4999 to us).
type Code int

// Only ever append: clients keep these numbers.
const (
	GoingAway    Code = 4001 // this host stops; another one serves
	Slow         Code = 4002 // the reader fell behind its queue; what it missed can be read again
	TokenExpired Code = 4003 // no new token came in time: refresh, then connect
	Unavailable  Code = 4004 // we could not ask whether the session lives
	Moved        Code = 4005 // the call is on another host now; join it again

	Unauthenticated Code = 4501 // no token, or one that is not good
	Revoked         Code = 4502 // the session was ended
	BadFrame        Code = 4503 // a frame that is not in the protocol
	TooMany         Code = 4504 // too many frames or sockets
	Over            Code = 4510 // the call, or the client's part in it, is over
	Replaced        Code = 4511 // its user has joined the call elsewhere
	Removed         Code = 4512 // its user is no longer a member of the conversation
)

var reasons = map[Code]string{
	GoingAway:       "going away",
	Slow:            "slow reader",
	TokenExpired:    "token expired",
	Unavailable:     "try again",
	Moved:           "call has moved",
	Unauthenticated: "not signed in",
	Revoked:         "session ended",
	BadFrame:        "bad frame",
	TooMany:         "too many",
	Over:            "call is over",
	Replaced:        "joined elsewhere",
	Removed:         "not a member",
}

// String is the reason a client is given beside the number.
func (c Code) String() string { return reasons[c] }

// Final reports whether connecting again is pointless.
func (c Code) Final() bool { return c >= 4500 && c <= 4999 }
