package images

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

var besideSources = []string{"node_modules", "dist", "tests"}

// tree is a folder of this repository as ingredients under a name of the build context: what a stage of the image builds
// from. Left out are hidden files, what a developer's own build leaves beside the sources, and the tests, of which no image
// is made.
func tree(name, folder string) source {
	return func(b *builder, _ context.Context) ([]ingredient, error) {
		var all []ingredient
		root := filepath.Join(b.root, folder)
		err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if strings.HasPrefix(d.Name(), ".") || slices.Contains(besideSources, d.Name()) {
				if d.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
			if d.IsDir() {
				return nil
			}
			below, err := filepath.Rel(root, file)
			if err != nil {
				return err
			}
			sum, err := fileSum(file)
			all = append(all, ingredient{
				name: path.Join(name, filepath.ToSlash(below)), mode: 0o644, identity: sum,
				file: func() (string, error) { return file, nil },
			})
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", folder, err)
		}
		return all, nil
	}
}
