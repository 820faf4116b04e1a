package images

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"

	"secureconnect/cmd/deploy/internal/images/docker"
	"secureconnect/cmd/deploy/internal/inventory"
)

// LockName is the file beside an inventory that holds the references with their digests.
const LockName = "images.lock.yml"

// registryImages is the variable of that name, as an operator writes it and as Pin writes it.
type registryImages struct {
	Images map[string]string `yaml:"registry_images"`
}

func pinCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "pin",
		Short: "Ask the registries for the digests of upstream's images and keep them beside the inventory",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			root, err := inventory.Root()
			if err != nil {
				return err
			}
			dir, err := inventory.Path(root, name)
			if err != nil {
				return err
			}
			return Pin(cmd.Context(), root, dir, toLines(cmd.OutOrStdout()))
		},
	}
	cmd.Flags().StringVarP(&name, "inventory", "i", "lab", "inventory `NAME` or path")
	return cmd
}

// Pin resolves every image of registry_images and writes all of them, or nothing.
func Pin(ctx context.Context, root, inventoryDir string, progress func(line string)) error {
	wanted, err := wantedImages(root, inventoryDir)
	if err != nil {
		return err
	}
	pinned, err := pinAll(wanted, func(ref string) (string, error) {
		progress(ref + " …")
		return resolve(ctx, ref)
	})
	if err != nil {
		return err
	}
	text, err := yaml.Marshal(registryImages{Images: pinned})
	if err != nil {
		return fmt.Errorf("write %s: %w", LockName, err)
	}
	head := "# Written by `deploy images pin`: what the registries answered. Commit it.\n"
	path := filepath.Join(inventoryDir, LockName)
	if err := replaceFile(path, append([]byte(head), text...), 0o644); err != nil {
		return err
	}
	progress(fmt.Sprintf("%d images pinned in %s", len(pinned), path))
	return nil
}

// wantedImages reads the variable as Ansible does: the inventory's replaces the default whole.
func wantedImages(root, inventoryDir string) (map[string]string, error) {
	for _, path := range []string{
		filepath.Join(inventoryDir, "group_vars/secureconnect.yml"),
		filepath.Join(root, "group_vars/all/versions.yml"),
	} {
		text, err := os.ReadFile(path) // #nosec G304 -- a file of the inventory
		if err != nil {
			return nil, fmt.Errorf("read registry_images: %w", err)
		}
		var vars registryImages
		if err := yaml.Unmarshal(text, &vars); err != nil {
			return nil, fmt.Errorf("read registry_images: %s: %w", path, err)
		}
		if vars.Images != nil {
			return vars.Images, nil
		}
	}
	return nil, errors.New("no registry_images in group_vars")
}

// pinAll leaves out images without a reference, and tells of every one that has no digest.
func pinAll(wanted map[string]string, resolve func(ref string) (string, error)) (map[string]string, error) {
	pinned := map[string]string{}
	var failed *multierror.Error
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		ref := untilDigest(wanted[name])
		if ref == "" {
			continue
		}
		digest, err := resolve(ref)
		if err != nil {
			failed = multierror.Append(failed, fmt.Errorf("%s: %w", ref, err))
			continue
		}
		pinned[name] = ref + "@" + digest
	}
	return pinned, failed.ErrorOrNil()
}

func untilDigest(ref string) string {
	ref, _, _ = strings.Cut(ref, "@")
	return ref
}

const repoDigests = `{{range .RepoDigests}}{{println .}}{{end}}`

// resolve pulls the image, since only a pull checks that the digest belongs to the bytes.
func resolve(ctx context.Context, ref string) (string, error) {
	if _, err := docker.Run(ctx, nil, "pull", "--quiet", ref); err != nil {
		return "", err
	}
	out, err := docker.Run(ctx, nil, "image", "inspect", "--format", repoDigests, ref)
	if err != nil {
		return "", err
	}
	return digestOf(ref, strings.Fields(out))
}

// digestOf picks from an image's digests the one of ref's own repository: the same image may
// have been pulled from others.
func digestOf(ref string, digests []string) (string, error) {
	for _, d := range digests {
		repository, digest, found := strings.Cut(d, "@")
		if found && familiar(repository) == familiar(repositoryOf(ref)) {
			return digest, nil
		}
	}
	return "", errors.New("the registry gave no digest")
}

// repositoryOf cuts the tag off: a colon after the last slash.
func repositoryOf(ref string) string {
	if colon := strings.LastIndex(ref, ":"); colon > strings.LastIndex(ref, "/") {
		return ref[:colon]
	}
	return ref
}

// familiar is the short form Docker gives its own hub's names.
func familiar(repository string) string {
	return strings.TrimPrefix(strings.TrimPrefix(repository, "docker.io/"), "library/")
}
