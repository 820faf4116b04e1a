package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"secureconnect/cmd/deploy/internal/images/docker"
)

// program is a Go program of this repository as an ingredient: built at every run, which Go's
// cache makes quick, since only its bytes say whether the image has to be made again.
func program(name, pkg string) source {
	return func(b *builder, ctx context.Context) ([]ingredient, error) {
		out := b.cache("programs", name)
		err := b.goTool(ctx, b.root, nil, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out, pkg)
		if err != nil {
			return nil, fmt.Errorf("build %s: %w", name, err)
		}
		sum, err := fileSum(out)
		return []ingredient{{name: name, mode: 0o755, identity: sum, file: func() (string, error) { return out, nil }}}, err
	}
}

// minioVersion is upstream's last commit; its releases have no tags a Go module could have.
const minioVersion = "v0.0.0-20260212201848-7aac2a2c5b7c"

// minioServer is compiled only where an image is to be made of it: its version is its identity.
func minioServer(b *builder, ctx context.Context) ([]ingredient, error) {
	dir := b.cache("minio-" + minioVersion)
	bin := filepath.Join(dir, "minio")
	build := func() (string, error) {
		if _, err := os.Stat(bin); err == nil {
			return bin, nil
		}
		return bin, b.steps.do(ctx, "minio: compile "+minioVersion, func() error {
			partial := dir + partialSuffix
			if err := b.goTool(ctx, b.root, []string{"GOBIN=" + partial},
				"install", "-trimpath", "-ldflags=-s -w", "github.com/minio/minio@"+minioVersion); err != nil {
				return err
			}
			return os.Rename(partial, dir)
		})
	}
	return []ingredient{{name: "minio", mode: 0o755, identity: minioVersion, file: build}}, nil
}

// composeVersion must equal the one in deployment/images/compose/go.mod; a test compares them.
const composeVersion = "2.40.3"

const composePackage = "github.com/docker/compose/v2/cmd"

// composePlugin builds Docker Compose from its module: for distributions that have none. The
// file beside it says which version it is.
func (b *builder) composePlugin(ctx context.Context) (ComposePlugin, error) {
	path := filepath.Join(b.root, ".build", "compose", "docker-compose")
	stamp := path + ".version"
	if version, err := os.ReadFile(stamp); err == nil && string(version) == composeVersion { // #nosec G304 -- a file of ours
		b.steps.line("compose plugin: %s is there", composeVersion)
	} else if err := b.steps.do(ctx, "compose plugin: compile "+composeVersion, func() error {
		return b.compileCompose(ctx, path, stamp)
	}); err != nil {
		return ComposePlugin{}, err
	}
	sum, err := fileSum(path)
	return ComposePlugin{Path: path, Version: composeVersion, SHA256: sum}, err
}

func (b *builder) compileCompose(ctx context.Context, out, stamp string) error {
	partial := out + partialSuffix
	version := "-X github.com/docker/compose/v2/internal.Version=v" + composeVersion
	if err := b.goTool(ctx, filepath.Join(b.root, "deployment/images/compose"), nil,
		"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w "+version, "-o", partial, composePackage); err != nil {
		return err
	}
	if err := os.Rename(partial, out); err != nil {
		return fmt.Errorf("place the plugin: %w", err)
	}
	return replaceFile(stamp, []byte(composeVersion), 0o644)
}

// goTool runs go for a static program of this machine's architecture.
func (b *builder) goTool(ctx context.Context, dir string, env []string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...) // #nosec G204 -- argv is built here
	docker.Group(cmd)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS="), env...)
	return docker.Finish(ctx, cmd)
}

func fileSum(path string) (string, error) {
	file, err := os.Open(path) // #nosec G304 -- a file of ours
	if err != nil {
		return "", fmt.Errorf("checksum: %w", err)
	}
	defer func() { _ = file.Close() }() // read only
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", fmt.Errorf("checksum: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
