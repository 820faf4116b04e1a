package hosts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
)

// Trust is where this machine keeps the authorities it believes.
type Trust struct {
	Folder string // the system's own additions
	Update string // the program that makes a bundle of them
}

// System is the trust of Debian and Ubuntu.
var System = Trust{Folder: "/usr/local/share/ca-certificates", Update: "update-ca-certificates"}

func (t Trust) file(domain string) string {
	return filepath.Join(t.Folder, "secureconnect-"+domain+".crt")
}

// Add makes the system, and Chromium where certutil is installed, believe the authority. It says
// what it changed.
func (t Trust) Add(ctx context.Context, domain, caFile string) ([]string, error) {
	ca, err := os.ReadFile(caFile) // #nosec G304 -- named by the inventory
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the authority %s does not exist yet: the first apply makes it", caFile)
	}
	if err != nil {
		return nil, fmt.Errorf("read the authority: %w", err)
	}
	var done []string
	path := t.file(domain)
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, ca) { // #nosec G304 -- built above
		if err := os.MkdirAll(t.Folder, 0o755); err != nil { // #nosec G301 -- certificates are public
			return nil, fmt.Errorf("trust the authority: %w", err)
		}
		if err := os.WriteFile(path, ca, 0o644); err != nil { // #nosec G306 G703 -- a public certificate, in a folder the caller chose
			return nil, fmt.Errorf("trust the authority (run this with sudo): %w", err)
		}
		if err := command(ctx, t.Update); err != nil {
			return nil, err
		}
		done = append(done, "the system trusts "+path)
	}
	if _, err := exec.LookPath("certutil"); err != nil {
		return append(done, "Chromium was not told: install libnss3-tools and run this again"), nil
	}
	told, err := addToBrowser(ctx, domain, caFile)
	if told {
		done = append(done, "Chromium trusts it as well")
	}
	return done, err
}

// Remove takes both back.
func (t Trust) Remove(ctx context.Context, domain string) ([]string, error) {
	var done []string
	err := os.Remove(t.file(domain))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("distrust the authority (run this with sudo): %w", err)
	}
	if err == nil {
		if err := command(ctx, t.Update, "--fresh"); err != nil {
			return nil, err
		}
		done = append(done, "the system no longer trusts "+t.file(domain))
	}
	database, owner, err := browserDatabase()
	if err != nil || !exists(database) {
		return done, err
	}
	if _, err := exec.LookPath("certutil"); err == nil && known(ctx, owner, database, domain) {
		if err := certutil(ctx, owner, database, "-D", "-n", nickname(domain)); err != nil {
			return done, err
		}
		done = append(done, "Chromium no longer trusts it")
	}
	return done, nil
}

func nickname(domain string) string { return "SecureConnect " + domain }

// addToBrowser writes the authority into the NSS database that Chromium reads: the database of the
// person at the desk, also under sudo.
func addToBrowser(ctx context.Context, domain, caFile string) (bool, error) {
	database, owner, err := browserDatabase()
	if err != nil {
		return false, err
	}
	if !exists(database) {
		if err := as(ctx, owner, "mkdir", "-p", "-m", "700", database); err != nil {
			return false, err
		}
		if err := certutil(ctx, owner, database, "-N", "--empty-password"); err != nil {
			return false, err
		}
	}
	if known(ctx, owner, database, domain) {
		// The name says nothing about the certificate: an authority made anew keeps it.
		if err := certutil(ctx, owner, database, "-D", "-n", nickname(domain)); err != nil {
			return false, err
		}
	}
	return true, certutil(ctx, owner, database, "-A", "-t", "C,,", "-n", nickname(domain), "-i", caFile)
}

func browserDatabase() (path, owner string, err error) {
	person, err := user.Current()
	if err != nil {
		return "", "", fmt.Errorf("find the home folder: %w", err)
	}
	if name := os.Getenv("SUDO_USER"); name != "" && os.Geteuid() == 0 {
		if person, err = user.Lookup(name); err != nil {
			return "", "", fmt.Errorf("find the home folder of %s: %w", name, err)
		}
		owner = name
	}
	return filepath.Join(person.HomeDir, ".pki", "nssdb"), owner, nil
}

func known(ctx context.Context, owner, database, domain string) bool {
	return certutil(ctx, owner, database, "-L", "-n", nickname(domain)) == nil
}

func certutil(ctx context.Context, owner, database string, args ...string) error {
	return as(ctx, owner, append([]string{"certutil", "-d", "sql:" + database}, args...)...)
}

func as(ctx context.Context, owner string, argv ...string) error {
	if owner != "" {
		argv = append([]string{"sudo", "-u", owner, "--"}, argv...)
	}
	return command(ctx, argv[0], argv[1:]...)
}

func command(ctx context.Context, name string, args ...string) error {
	said, err := exec.CommandContext(ctx, name, args...).CombinedOutput() // #nosec G204 -- fixed programs
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(said)))
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
