//go:build lab

package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// browser starts headless Chromium that resolves the public names to the system's edge, as hosts lines would, and trusts its CA. For
// calls it asks for a TURN server's name with a dot behind it.
func browser(t *testing.T, s *system, edge string) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath("/usr/bin/chromium"),
		chromedp.NoSandbox,
		chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("host-resolver-rules", "MAP turn.secureconnect.com* "+s.prefix+".14, MAP *.secureconnect.com "+edge+", EXCLUDE localhost"),
		chromedp.Flag("ignore-certificate-errors-spki-list", s.pin(t)),
	)
	allocator, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	page, leave := chromedp.NewContext(allocator)
	t.Cleanup(leave)
	bounded, cancel := context.WithTimeout(page, 3*time.Minute)
	t.Cleanup(cancel)
	if err := chromedp.Do(bounded); err != nil { // the browser lives as long as the first context it is given
		t.Fatal(err)
	}
	return bounded
}

// The guide's last step: open http://api.secureconnect.com/v1/auth/login, type name and password, be in.
func logsInWithBrowser(t *testing.T, s *system) {
	person := s.newPerson(t, "")
	page := browser(t, s, s.prefix+".10")
	const url = "http://api.secureconnect.com/v1/auth/login"

	do := func(what string, actions ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		patient, cancel := context.WithTimeout(page, 30*time.Second)
		defer cancel()
		if err := chromedp.Do(patient, actions...); err != nil {
			t.Fatalf("%s: %v; the page says:\n%s", what, err, read(t, page, chromedp.Evaluate[string](`document.body.innerText`)))
		}
	}
	do("open the form", chromedp.Navigate(url), chromedp.WaitVisible(`#login-username`))
	if where := read(t, page, chromedp.Location()); where != "https://api.secureconnect.com/v1/auth/login" {
		t.Errorf("the browser ended at %s", where)
	}
	do("a wrong password",
		chromedp.SendKeys(`#login-username`, person.name), chromedp.SendKeys(`#login-password`, "not "+person.password+"\n"),
		chromedp.WaitVisible(`#message`))
	if problem := read(t, page, chromedp.Text(`#message`)); problem == "" {
		t.Error("a wrong password is not explained")
	}
	do("login",
		chromedp.SetValue(`#login-password`, person.password), chromedp.SendKeys(`#login-password`, "\n"), chromedp.WaitVisible(`#signed-in`))
	if greeting := read(t, page, chromedp.Text(`#signed-in`)); greeting == "" {
		t.Error("the page does not say who is signed in")
	}
	if seen := read(t, page, chromedp.Evaluate[string](`document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage)`)); seen != "{}{}" {
		t.Errorf("a script can read %q", seen)
	}
	do("keep the recovery key", chromedp.WaitVisible(`#recovery-key`), chromedp.Click(`#kept-key`), chromedp.WaitEnabled(`#key-done`), chromedp.Click(`#key-done`))
	do("reload: the refresh cookie brings the session back", chromedp.Reload(), chromedp.WaitVisible(`#open-settings`))
	do("open the settings", chromedp.Click(`#open-settings`), chromedp.WaitVisible(`#logout`))
	const place = `document.querySelector("#logout").getBoundingClientRect().top`
	before := read(t, page, chromedp.Evaluate[float64](place))
	do("see the session", chromedp.WaitVisible(`#sessions li`))
	if after := read(t, page, chromedp.Evaluate[float64](place)); after != before {
		t.Errorf("what comes later moved a button from under the pointer: from %v to %v", before, after)
	}
	do("sign out", chromedp.Click(`#logout`), chromedp.WaitVisible(`#login-username`))
}

// Two people, one on each app host, with a browser each: they become contacts, verify each other, write, are away, share
// a group, come with a second device and with a changed identity; they have two tabs, and look elsewhere; they call each other and a
// third; a server lies to them, and one dies; a friend has another program. The client's own tests tell it, on this system.
func talksWithBrowsers(t *testing.T, s *system) {
	const people = 4
	var accounts []string
	for range people {
		p := s.newPerson(t, "")
		accounts = append(accounts, p.name+":"+p.password)
	}
	name, _, _ := strings.Cut(accounts[0], ":")
	friend := s.newFriend(t, name)
	node := s.node("app-01") // the client's tests take it the power
	defer s.must(t, "docker", "start", node)

	ctx, cancel := context.WithTimeout(t.Context(), 13*time.Minute)
	defer cancel()
	tests := exec.CommandContext(ctx, "npm", "--prefix", filepath.Join(s.root, "services/gateway/web"), "test")
	tests.Env = append(os.Environ(),
		"SECURECONNECT_URL=https://chat.secureconnect.com", "SECURECONNECT_EDGE="+s.prefix+".10",
		"SECURECONNECT_PIN="+s.pin(t), "NODE_EXTRA_CA_CERTS="+s.authorityFile(), "SECURECONNECT_ACCOUNTS="+strings.Join(accounts, " "),
		"SECURECONNECT_FRIEND="+friend.name, "SECURECONNECT_NODE="+node,
		"SECURECONNECT_TURN="+s.prefix+".14", "SECURECONNECT_TURN_NODE="+s.node("storage-01"))
	said, err := tests.CombinedOutput()
	t.Logf("%s", said)
	if err != nil {
		t.Fatalf("%v: %s", err, wrong.Find(said))
	}
}

// wrong is where and why the client's tests failed first. It is said again in the end: screenshots are listed below it.
var wrong = regexp.MustCompile(`(?m)^  1\) .*(\n.*){0,12}`)

// pin names the key of the system's CA for a browser, which then trusts what it signs.
func (s *system) pin(t *testing.T) string {
	t.Helper()
	sum := sha256.Sum256(s.authority(t).RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

func read[T any](t *testing.T, page context.Context, action chromedp.Action[T]) T {
	t.Helper()
	value, err := chromedp.Run(page, action)
	if err != nil {
		t.Fatal(err)
	}
	return value
}
