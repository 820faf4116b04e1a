package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

const mavenCentral = "https://repo.maven.apache.org/maven2/"

// jars are the Java archives that an image's jars.sha256 names, downloaded from Maven's central
// repository where the cache lacks them. The checksums are ours, so the repository is only trusted
// to have them.
func jars(image string) source {
	return func(b *builder, ctx context.Context) ([]ingredient, error) {
		list := filepath.Join(b.root, "deployment/images", image, "jars.sha256")
		text, err := os.ReadFile(list) // #nosec G304 -- a file of the repository
		if err != nil {
			return nil, fmt.Errorf("read list of jars: %w", err)
		}
		var found []ingredient
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			sum, where, ok := strings.Cut(line, "  ")
			if !ok {
				return nil, fmt.Errorf("read list of jars: %q is not a checksum and a path", line)
			}
			found = append(found, b.jar(ctx, mavenCentral+where, sum))
		}
		return found, nil
	}
}

func (b *builder) jar(ctx context.Context, url, sum string) ingredient {
	name := path.Base(url)
	return ingredient{name: "jars/" + name, mode: 0o644, identity: sum, file: func() (string, error) {
		cached := b.cache("jars", sum+"-"+name)
		if _, err := os.Stat(cached); err == nil {
			return cached, nil
		}
		b.steps.line("%s …", name)
		return cached, download(ctx, url, sum, cached)
	}}
}

// downloadPatience is for one file; the largest has twelve megabytes.
const downloadPatience = 5 * time.Minute

// download gives path to a file whose checksum is right, and to no other.
func download(ctx context.Context, url, sum, path string) error {
	ctx, cancel := context.WithTimeout(ctx, downloadPatience)
	defer cancel()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return fmt.Errorf("download: %w", err)
	}
	partial := path + partialSuffix
	if err := fetch(ctx, url, partial); err != nil {
		return fmt.Errorf("download %s: %w", url, err)
	}
	got, err := fileSum(partial)
	if err != nil {
		return err
	}
	if got != sum {
		return errors.Join(fmt.Errorf("download %s: checksum %s, not %s as listed", url, got, sum), os.Remove(partial))
	}
	if err := os.Rename(partial, path); err != nil {
		return fmt.Errorf("download: %w", err)
	}
	return nil
}

func fetch(ctx context.Context, url, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }() // read only
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the repository answered %s", answer.Status)
	}
	file, err := os.Create(path) // #nosec G304 -- a file of ours
	if err != nil {
		return err
	}
	_, err = io.Copy(file, answer.Body)
	return errors.Join(err, file.Close())
}
