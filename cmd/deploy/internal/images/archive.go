package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"

	"secureconnect/cmd/deploy/internal/images/docker"
)

const archiveSuffix = ".tar.gz"

// save writes an image as an archive every engine can load (gzip: 20.10 reads no zstd), fast
// rather than small, under a name that only a whole archive gets.
func save(ctx context.Context, ref, path string) (int64, error) {
	partial := path + partialSuffix
	file, err := os.Create(partial) // #nosec G304 -- a file of ours
	if err != nil {
		return 0, fmt.Errorf("create archive: %w", err)
	}
	err = errors.Join(saveTo(ctx, file, ref), file.Close())
	if err != nil {
		return 0, errors.Join(err, os.Remove(partial))
	}
	if err := os.Rename(partial, path); err != nil {
		return 0, fmt.Errorf("name archive: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return 0, fmt.Errorf("measure archive: %w", err)
	}
	return info.Size(), nil
}

func saveTo(ctx context.Context, w io.Writer, ref string) error {
	zip, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return fmt.Errorf("compress archive: %w", err)
	}
	cmd := docker.Command(ctx, "save", ref)
	cmd.Stdout = zip
	return errors.Join(docker.Finish(ctx, cmd), zip.Close())
}
