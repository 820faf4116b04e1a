package keys_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"secureconnect/services/auth/keys"
)

func TestClaim(t *testing.T) {
	t.Run("50_claimers_at_once_get_each_key_once", func(t *testing.T) {
		w := newWorld(t)
		ada := w.join("ada")
		const stock, claimers = 30, 50
		ada.mustUpload(object{"one_time_keys": ada.oneTimeKeys(stock), "fallback_keys": object{"signed_curve25519:F": ada.fallbackKey()}})
		var all []*device
		for i := range claimers {
			name := fmt.Sprintf("claimer%d", i)
			w.add(name)
			all = append(all, w.login(name, ""))
		}
		got := make([]string, claimers)
		var claiming sync.WaitGroup
		for i, claimer := range all {
			claiming.Go(func() { got[i] = claimer.claim(ada) })
		}
		claiming.Wait()
		slices.Sort(got)
		once := len(slices.Compact(slices.DeleteFunc(slices.Clone(got), func(id string) bool { return id == "signed_curve25519:F" })))
		fallbacks := len(slices.DeleteFunc(slices.Clone(got), func(id string) bool { return id != "signed_curve25519:F" }))
		if once != stock || fallbacks != claimers-stock {
			t.Errorf("%d different keys and %d times the fallback: %v", once, fallbacks, got)
		}
		if n := ada.mustUpload(object{}); n != 0 {
			t.Errorf("%d keys left", n)
		}
	})

	t.Run("several_devices_in_one_request_oldest_key_first", func(t *testing.T) {
		w := newWorld(t)
		ada, bob := w.join("ada"), w.join("bob")
		bobsOther := w.login("bob", "")
		others := bobsOther.oneTimeKey()
		bobsOther.mustUpload(object{"device_keys": bobsOther.deviceKeys(), "one_time_keys": object{"signed_curve25519:O": others}})
		old, young := bob.oneTimeKey(), bob.oneTimeKey()
		bob.mustUpload(object{"one_time_keys": object{"signed_curve25519:Z": old}})
		w.clock.Add(time.Second)
		bob.mustUpload(object{"one_time_keys": object{"signed_curve25519:A": young}})
		body := object{"one_time_keys": object{
			bob.user(): object{bob.id(): "signed_curve25519", bobsOther.id(): "signed_curve25519", "NOBODY": "signed_curve25519"},
			ada.user(): object{ada.id(): "signed_curve25519"}, // has none
			"@00000000-0000-0000-0000-000000000001:secureconnect": object{"X": "signed_curve25519"}, "nonsense": object{"X": "signed_curve25519"},
		}}
		sameJSON(t, into[object](t, ada.post("claim", body)), object{"failures": object{}, "one_time_keys": object{bob.user(): object{
			bob.id(): object{"signed_curve25519:Z": old}, bobsOther.id(): object{"signed_curve25519:O": others},
		}}})
		if id := ada.claim(bob); id != "signed_curve25519:A" {
			t.Errorf("then got %q", id)
		}
		other := object{"one_time_keys": object{bob.user(): object{bob.id(): "curve25519"}}}
		if got := string(ada.post("claim", other).body); !strings.Contains(got, `"one_time_keys":{}`) {
			t.Errorf("another algorithm gave %s", got)
		}
	})

	t.Run("nobody_empties_anothers_stock", func(t *testing.T) {
		w := newWorld(t)
		ada, eve := w.join("ada"), w.join("eve")
		ada.mustUpload(object{"one_time_keys": ada.oneTimeKeys(50), "fallback_keys": object{"signed_curve25519:F": ada.fallbackKey()}})
		second := w.login("eve", "") // more devices are not more claims
		for i := range keys.PairBurst + 5 {
			from := []*device{eve, second}[i%2]
			if id := from.claim(ada); (id == "signed_curve25519:F") != (i >= keys.PairBurst) {
				t.Errorf("claim %d got %q", i+1, id)
			}
		}
		if n := ada.mustUpload(object{}); n != 50-keys.PairBurst {
			t.Errorf("%d keys left", n)
		}
		if id := w.join("bob").claim(ada); id == "signed_curve25519:F" || id == "" {
			t.Errorf("somebody else got %q", id)
		}
		w.clock.Add(time.Minute)
		if id := eve.claim(ada); id == "signed_curve25519:F" {
			t.Error("the limit never ends")
		}
	})

	t.Run("claims_of_one_user_are_limited", func(t *testing.T) {
		w := newWorld(t)
		eve := w.join("eve")
		for range keys.ClaimBurst {
			into[object](t, eve.post("claim", object{"one_time_keys": object{}}))
		}
		w.want(eve.post("claim", object{"one_time_keys": object{}}), http.StatusTooManyRequests, "too_many_requests")
	})

	t.Run("a_request_is_bounded", func(t *testing.T) {
		w := newWorld(t)
		eve := w.join("eve")
		devices := object{}
		for i := range 2049 {
			devices[fmt.Sprintf("D%d", i)] = "signed_curve25519"
		}
		w.want(eve.post("claim", object{"one_time_keys": object{eve.user(): devices}}), http.StatusBadRequest, "too_many_asked")
		users := object{}
		for i := range 1025 {
			users[fmt.Sprintf("@u%d:secureconnect", i)] = []string{}
		}
		w.want(eve.post("query", object{"device_keys": users}), http.StatusBadRequest, "too_many_asked")
	})
}
