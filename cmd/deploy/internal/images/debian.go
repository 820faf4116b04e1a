package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"secureconnect/cmd/deploy/internal/images/docker"
)

// Release is a Debian release by its number.
type Release string

// Debian13 is below every image; Debian12 has the Java that Cassandra 5.0 supports, and is the
// other system of the lab.
const (
	Debian13 Release = "13"
	Debian12 Release = "12"
)

var suites = map[Release]string{Debian13: "trixie", Debian12: "bookworm"}

const debianKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// Base is the reference of a release's root file system, made here with mmdebstrap if the engine
// lacks it. It waits for another process that is making it.
func Base(ctx context.Context, root string, release Release, progress Progress) (string, error) {
	return base(ctx, root, release, newSteps(progress))
}

func base(ctx context.Context, root string, release Release, s *steps) (string, error) {
	options, err := debianOptions(root)
	if err != nil {
		return "", err
	}
	ref := debianRef(release, options)
	unlock, err := lock(ctx, root, "debian-"+string(release), s)
	if err != nil {
		return "", err
	}
	defer unlock()
	held, err := docker.HasImage(ctx, ref)
	if err != nil || held {
		return ref, err
	}
	return ref, s.do(ctx, "Debian "+string(release)+" root file system", func() error {
		return bootstrap(ctx, suites[release], options, ref)
	})
}

// debianRef names a root file system by what mmdebstrap was told.
func debianRef(release Release, options []string) string {
	sum := sha256.Sum256([]byte(strings.Join(options, "\n")))
	return fmt.Sprintf("secureconnect/debian:%s-%s", release, hex.EncodeToString(sum[:])[:12])
}

// debianOptions are the lines of images/debian/options, without comments.
func debianOptions(root string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(root, "deployment/images/debian/options")) // #nosec G304 -- a file of the repository
	if err != nil {
		return nil, fmt.Errorf("read the options of mmdebstrap: %w", err)
	}
	var options []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			options = append(options, line)
		}
	}
	return options, nil
}

// bootstrap pipes mmdebstrap's tar into docker import, under a name that only a whole one gets.
func bootstrap(ctx context.Context, suite string, options []string, ref string) error {
	if _, err := os.Stat(debianKeyring); err != nil {
		return errors.New("no keys of the Debian archive: apt-get install debian-archive-keyring")
	}
	partial := ref + "-partial"
	strap := exec.CommandContext(ctx, "mmdebstrap", strapArgs(suite, options)...) // #nosec G204 -- options come from the repository
	docker.Group(strap)
	read, write := io.Pipe()
	strap.Stdout = write
	made := make(chan error, 1)
	go func() {
		err := docker.Finish(ctx, strap)
		write.CloseWithError(err)
		made <- err
	}()
	_, err := docker.Run(ctx, read, "import", "-", partial)
	err = errors.Join(err, read.Close(), <-made)
	if err != nil {
		return err
	}
	if _, err := docker.Run(ctx, nil, "tag", partial, ref); err != nil {
		return err
	}
	_, err = docker.Run(ctx, nil, "rmi", partial)
	return err
}

func strapArgs(suite string, options []string) []string {
	args := append([]string{"--quiet", "--format=tar", "--keyring=" + debianKeyring}, options...)
	return append(args, suite, "-")
}
