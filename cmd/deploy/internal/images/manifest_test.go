package images

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func manifestOf(dir string) Manifest {
	return Manifest{
		Images:        map[string]Image{"sql": {Ref: "secureconnect/sql:1", Archive: filepath.Join(dir, "sql-1.tar.gz"), Bytes: 3}},
		ComposePlugin: ComposePlugin{Path: "/x/docker-compose", Version: "2.40.3", SHA256: "00"},
	}
}

func TestManifestIsReadAsWritten(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, ".build/images")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	want := manifestOf(dir)
	if err := want.write(dir); err != nil {
		t.Fatal(err)
	}
	got, err := ReadManifest(root)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, want %+v", got, want)
	}
}

func TestReadManifestRefusesWhatIsNotThere(t *testing.T) {
	if _, err := ReadManifest(t.TempDir()); err == nil {
		t.Error("no error without a manifest")
	}
}

func TestPruneKeepsWhatTheManifestNames(t *testing.T) {
	dir := write(t, map[string]string{
		"sql-1.tar.gz": "new", "sql-0.tar.gz": "old", "redis-9.tar.gz.partial": "half", "manifest.json": "{}",
	})
	if err := manifestOf(dir).prune(dir); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{filepath.Join(dir, "manifest.json"), filepath.Join(dir, "sql-1.tar.gz")}
	if !reflect.DeepEqual(left, want) {
		t.Errorf("left %v, want %v", left, want)
	}
}
