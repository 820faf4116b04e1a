package video

import "slices"

// fault is something that goes wrong with one client's connection, because that client has asked for it: for tests of clients, where the
// service allows it.
type fault string

// The faults. Each names the moment at which it strikes.
const (
	faultAfterJoin   fault = "drop_after_join"   // the socket ends without a code after joined was sent
	faultAfterOffer  fault = "drop_after_offer"  // … when the client's offer came, before it is answered
	faultAfterAnswer fault = "drop_after_answer" // … when the client's answer came
	faultNoPong      fault = "no_pong"           // pings are not answered
	faultForget      fault = "forget"            // no resuming: each join makes another participant
	faultMoved       fault = "moved"             // the client is told that the call has moved after it has joined
)

// faults are those one client asked for. Each strikes once, but for no_pong and forget.
type faults []fault

func (f *faults) strikes(which fault) bool {
	i := slices.Index(*f, which)
	if i < 0 {
		return false
	}
	if which != faultNoPong && which != faultForget {
		*f = slices.Delete(*f, i, i+1)
	}
	return true
}
