package calls

import (
	"context"
	"crypto/x509"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"secureconnect/services/internal/wire"
)

func TestServers(t *testing.T) {
	offered := wire.ICE{Servers: []wire.ICEServer{{
		Username: "u", Credential: "c",
		URLs: []string{
			"turn:turn.example.test:3478?transport=udp", "turn:turn.example.test:3478?transport=tcp", "turns:turn.example.test:5349?transport=tcp",
			"turns:turn.example.test:5349?transport=udp", "stun:stun.example.test", "http://example.test", "",
		},
	}, {URLs: []string{"stun:stun.example.test"}}}}
	for name, c := range map[string]struct {
		o    Options
		want []string
	}{
		"all of them": {Options{}, []string{"turn:turn.example.test:3478?transport=udp", "turn:turn.example.test:3478?transport=tcp", "turns:turn.example.test:5349?transport=tcp"}},
		"one way":     {Options{Ways: []string{OverTLS}}, []string{"turns:turn.example.test:5349?transport=tcp"}},
		"elsewhere":   {Options{Ways: []string{OverUDP}, TurnAddress: "192.0.2.1"}, []string{"turn:192.0.2.1:3478?transport=udp"}},
		"no way":      {Options{Ways: []string{"pigeon"}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var want []webrtc.ICEServer
			if c.want != nil {
				want = []webrtc.ICEServer{{URLs: c.want, Username: "u", Credential: "c"}}
			}
			if got := newRelays(c.o).servers(offered); !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// A TURN server that cannot be trusted is not used, and is told of.
func TestUntrustedTurnServer(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, linh)
	o := p.options(linh, microphone(t))
	o.RootCAs, o.Ways = x509.NewCertPool(), []string{OverTLS}
	c := p.enters(o)
	c.awaits(t, "it gathers in vain", func(s State) bool { return s.Up.GatherEnded && s.Down.GatherEnded })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := c.Await(ctx, func(s State) bool { return s.Phase == PhaseConnected })
	unknown := x509.UnknownAuthorityError{}
	if !errors.As(err, &unknown) || c.Look().Up.Gathered != 0 {
		t.Errorf("%v, %+v", err, c.Look().Up)
	}
}
