// Package images builds the container images of deployment/images from packages, and archives
// them for hosts that have no registry. It runs on the operator's machine and touches no host.
package images

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"secureconnect/cmd/deploy/internal/images/docker"
)

// recipe is an image: its folder below deployment/images has its name.
type recipe struct {
	name    string
	release Release
	sources []source
}

// source finds ingredients. What is slow to make it leaves to their file method.
type source func(b *builder, ctx context.Context) ([]ingredient, error)

// recipes stand in the order of building: what others wait for first, MinIO's long compilation
// beside the downloads of the rest.
var recipes = []recipe{
	{"sql", Debian13, nil},
	{"minio", Debian13, []source{minioServer}},
	{"redis", Debian13, nil},
	{"nginx", Debian13, nil},
	{"coturn", Debian13, []source{program("coturn-health", "./deployment/images/coturn/health")}},
	{"service", Debian13, []source{program("secureconnect", "./cmd/secureconnect"), tree("web", "services/gateway/web"), authorities("authorities.crt")}},
	{"cassandra", Debian12, []source{program("cassandra-setup", "./deployment/images/cassandra/setup"), jars("cassandra")}},
}

// together is how many images are made at a time: one compiles while another downloads.
const together = 2

// builder is one run of Build.
type builder struct {
	root  string
	steps *steps
}

// Build makes every image, its archive and the Compose plugin, where they are missing, and
// writes the manifest that says where they lie. It can be interrupted and run again.
func Build(ctx context.Context, root string, progress func(line string)) (Manifest, error) {
	b := &builder{root: root, steps: newSteps(progress)}
	unlock, err := lock(ctx, root, "images", b.steps)
	if err != nil {
		return Manifest{}, err
	}
	defer unlock()
	if err := os.MkdirAll(b.archives(), 0o750); err != nil {
		return Manifest{}, fmt.Errorf("make the folder of archives: %w", err)
	}
	manifest, err := b.all(ctx)
	if err != nil {
		return Manifest{}, err
	}
	if err := manifest.write(b.archives()); err != nil {
		return Manifest{}, err
	}
	return manifest, manifest.prune(b.archives())
}

func (b *builder) archives() string { return filepath.Join(b.root, ".build", "images") }

func (b *builder) cache(parts ...string) string {
	return filepath.Join(append([]string{b.root, ".build", "cache"}, parts...)...)
}

func (b *builder) all(ctx context.Context) (Manifest, error) {
	made := make([]Image, len(recipes))
	var plugin ComposePlugin
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(together)
	for i, r := range recipes {
		work.Go(func() (err error) {
			made[i], err = b.image(ctx, r)
			return err
		})
	}
	work.Go(func() (err error) {
		plugin, err = b.composePlugin(ctx)
		return err
	})
	if err := work.Wait(); err != nil {
		return Manifest{}, err
	}
	manifest := Manifest{Images: map[string]Image{}, ComposePlugin: plugin}
	for i, r := range recipes {
		manifest.Images[r.name] = made[i]
	}
	return manifest, nil
}

// image has an archive at the end: the one that is there, or one of an image the engine holds,
// or one of an image made now.
func (b *builder) image(ctx context.Context, r recipe) (Image, error) {
	options, err := debianOptions(b.root)
	if err != nil {
		return Image{}, err
	}
	ingredients, err := b.gather(ctx, r)
	if err != nil {
		return Image{}, fmt.Errorf("%s image: %w", r.name, err)
	}
	tag, err := contentTag(b.folder(r), debianRef(r.release, options), ingredients)
	if err != nil {
		return Image{}, fmt.Errorf("%s image: %w", r.name, err)
	}
	img := Image{
		Ref:     "secureconnect/" + r.name + ":" + tag,
		Archive: filepath.Join(b.archives(), r.name+"-"+tag+archiveSuffix),
	}
	if info, err := os.Stat(img.Archive); err == nil {
		img.Bytes = info.Size()
		b.steps.line("%s: %s is there", r.name, img.Ref)
		return img, nil
	}
	if err := b.inEngine(ctx, r, img.Ref, ingredients); err != nil {
		return Image{}, err
	}
	err = b.steps.do(ctx, r.name+": archive", func() (err error) {
		img.Bytes, err = save(ctx, img.Ref, img.Archive)
		return err
	})
	return img, err
}

func (b *builder) folder(r recipe) string {
	return filepath.Join(b.root, "deployment/images", r.name)
}

func (b *builder) gather(ctx context.Context, r recipe) ([]ingredient, error) {
	var all []ingredient
	for _, find := range r.sources {
		found, err := find(b, ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func (b *builder) inEngine(ctx context.Context, r recipe, ref string, ingredients []ingredient) error {
	held, err := docker.HasImage(ctx, ref)
	if err != nil || held {
		return err
	}
	below, err := base(ctx, b.root, r.release, b.steps)
	if err != nil {
		return err
	}
	for _, i := range ingredients {
		if _, err := i.file(); err != nil {
			return fmt.Errorf("%s image: %w", r.name, err)
		}
	}
	return b.steps.do(ctx, r.name+": image", func() error {
		files := buildContext(b.folder(r), ingredients)
		err := docker.Build(ctx, ref, files, map[string]string{"BASE": below})
		_ = files.Close() // ends the packer if the engine did not read to the end
		return err
	})
}

// Node makes an image of the folder deployment/lab/NAME on a Debian release, where the engine
// lacks it, and says its reference. It is for this machine only: no archive is made.
func Node(ctx context.Context, root, name string, release Release, progress Progress) (string, error) {
	s := newSteps(progress)
	below, err := base(ctx, root, release, s)
	if err != nil {
		return "", err
	}
	folder := filepath.Join(root, "deployment/lab", name)
	tag, err := contentTag(folder, below, nil)
	if err != nil {
		return "", err
	}
	ref := fmt.Sprintf("secureconnect/lab-%s:%s-%s", name, release, tag)
	unlock, err := lock(ctx, root, "lab-"+name+"-"+string(release), s)
	if err != nil {
		return "", err
	}
	defer unlock()
	held, err := docker.HasImage(ctx, ref)
	if err != nil || held {
		return ref, err
	}
	return ref, s.do(ctx, "lab server on Debian "+string(release)+": image", func() error {
		files := buildContext(folder, nil)
		defer func() { _ = files.Close() }()
		return docker.Build(ctx, ref, files, map[string]string{"BASE": below})
	})
}
