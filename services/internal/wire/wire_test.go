package wire

import (
	"strings"
	"testing"
)

// An identifier that is taken has one spelling, and nothing in it that means something to a path, a query or a list of names.
func FuzzIdentifiers(f *testing.F) {
	for _, seed := range []string{
		"0192f0c0-0000-7000-8000-000000000000", "0192F0C0-0000-7000-8000-000000000000", "{0192f0c0-0000-7000-8000-000000000000}",
		"urn:uuid:0192f0c0-0000-7000-8000-000000000000", "0192f0c0000070008000000000000000", "0192f0c0-0000-7000-8000-00000000000/", "", "\x00", "PHONE", "..",
		"0192f0c0-0000-4000-8000-000000000000", "0192f0c0-0000-7000-c000-000000000000", "0192f0c0-0000-7000-8000-000000000000 0192f0c0-0000-7000-8000-000000000001",
		strings.Repeat("a", 65), "é",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		user, userErr := ParseUserID(text)
		session, sessionErr := ParseSessionID(text)
		conversation, conversationErr := ParseConversationID(text)
		client, made, clientErr := ParseClientID(text)
		device, deviceErr := ParseDeviceID(text)
		for got, err := range map[string]error{
			string(user): userErr, string(session): sessionErr, string(conversation): conversationErr, string(client): clientErr, string(device): deviceErr,
		} {
			if err == nil && (got != text || strings.ContainsAny(got, "/%?#.: ,\n\x00") || len(got) > 64) {
				t.Errorf("%q is taken as %q", text, got)
			}
		}
		if clientErr == nil && (userErr != nil || made.UnixMilli() < 0) {
			t.Errorf("%q was made at %s", text, made)
		}
		if hint, err := ParseRelationHint(text); err == nil && hint.String() != text {
			t.Errorf("%q is the hint %q", text, hint)
		}
	})
}
