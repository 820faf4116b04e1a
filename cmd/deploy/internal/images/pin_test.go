package images

import (
	"errors"
	"maps"
	"testing"
)

func TestPinAll(t *testing.T) {
	answer := func(ref string) (string, error) { return "sha256:" + ref[len(ref)-1:], nil }
	got, err := pinAll(map[string]string{
		"sql":     "docker.io/library/postgres:17.6",
		"redis":   "registry.example:5000/redis:8@sha256:old",
		"service": "",
	}, answer)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"sql":   "docker.io/library/postgres:17.6@sha256:6",
		"redis": "registry.example:5000/redis:8@sha256:8",
	}
	if !maps.Equal(got, want) {
		t.Errorf("pinned %v, want %v", got, want)
	}
}

func TestPinAllTellsOfEveryImageWithoutADigest(t *testing.T) {
	gone, refused := errors.New("gone"), errors.New("refused")
	_, err := pinAll(map[string]string{"a": "x/a:1", "b": "x/b:1"}, func(ref string) (string, error) {
		if ref == "x/a:1" {
			return "", gone
		}
		return "", refused
	})
	if !errors.Is(err, gone) || !errors.Is(err, refused) {
		t.Errorf("error %v does not tell of both", err)
	}
}

func TestDigestOf(t *testing.T) {
	for name, c := range map[string]struct {
		ref     string
		digests []string
		want    string
	}{
		"Docker's hub, short name":      {"docker.io/library/postgres:17.6", []string{"postgres@sha256:1"}, "sha256:1"},
		"Docker's hub, somebody's name": {"docker.io/minio/minio:R", []string{"minio/minio@sha256:2"}, "sha256:2"},
		"its own repository of two":     {"r.example:5000/a:1", []string{"other/a@sha256:3", "r.example:5000/a@sha256:4"}, "sha256:4"},
		"none of its repository":        {"r.example/a:1", []string{"other/a@sha256:3"}, ""},
		"built here":                    {"r.example/a:1", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := digestOf(c.ref, c.digests)
			if got != c.want || (err == nil) != (c.want != "") {
				t.Errorf("digest %q, error %v, want %q", got, err, c.want)
			}
		})
	}
}

func TestWantedImages(t *testing.T) {
	const versions = "registry_images:\n  sql: upstream/sql:1\n"
	for name, c := range map[string]struct{ own, want string }{
		"default":                         {"edge_tls: off\n", "upstream/sql:1"},
		"the inventory's replaces it all": {"registry_images: {sql: mirror/sql:2}\n", "mirror/sql:2"},
	} {
		t.Run(name, func(t *testing.T) {
			root := write(t, map[string]string{"group_vars/all/versions.yml": versions})
			inventory := write(t, map[string]string{"group_vars/secureconnect.yml": c.own})
			got, err := wantedImages(root, inventory)
			if err != nil {
				t.Fatal(err)
			}
			if got["sql"] != c.want {
				t.Errorf("sql %q, want %q", got["sql"], c.want)
			}
		})
	}
}
