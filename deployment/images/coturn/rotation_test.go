package coturn

import (
	"errors"
	"testing"

	"github.com/pion/stun/v4"
)

func refused(err error) bool {
	var answered *stun.TurnError
	return errors.As(err, &answered) && answered.ErrorCodeAttr.Code == stun.CodeUnauthorized
}

// What was allocated before is not disturbed by a new secret, a retired one or a new certificate.
func TestSecretsAndCertificateChangeWhileCallsGoOn(t *testing.T) {
	n := newNetwork(t)
	s, echo := deployed(t, n, "first"), n.echo(t)
	began := docker(t, "inspect", "--format", "{{.State.StartedAt}}", s.name)
	call, secured := s.mustAllocate(t, "udp", "first"), s.mustAllocate(t, "tls", "first")
	goesOn := func() {
		t.Helper()
		call.mustRelay(t, echo)
		secured.mustRelay(t, echo)
	}
	accepts := func(secret string, yes bool) {
		t.Helper()
		if _, err := s.allocate(t, "udp", secret); yes && err != nil || !yes && !refused(err) {
			t.Errorf("the %s secret: %v", secret, err)
		}
	}
	goesOn()
	accepts("second", false)

	s.write(t, n, "secrets", "second\nfirst\n")
	docker(t, "exec", s.name, "coturn-health")
	accepts("first", true)
	accepts("second", true)
	goesOn()

	s.write(t, n, "secrets", "it's third\n")
	docker(t, "exec", s.name, "coturn-health")
	accepts("first", false)
	accepts("second", false)
	accepts("it's third", true)
	goesOn()

	s.write(t, n, "turn.pem", newCertificate(t))
	docker(t, "exec", s.name, "coturn-health")
	if again := s.mustAllocate(t, "tls", "it's third"); again.serial == secured.serial {
		t.Error("the old certificate is served")
	}
	goesOn()
	if now := docker(t, "inspect", "--format", "{{.State.StartedAt}}", s.name); now != began {
		t.Error("coturn was restarted")
	}
}
