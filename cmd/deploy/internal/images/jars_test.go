package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

func TestDownload(t *testing.T) {
	repository := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/a.jar" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte("jar"))
	}))
	defer repository.Close()
	sum := sha256.Sum256([]byte("jar"))
	right := hex.EncodeToString(sum[:])

	for name, c := range map[string]struct {
		path, sum string
		kept      bool
	}{
		"right checksum is kept":    {"/a.jar", right, true},
		"wrong checksum is refused": {"/a.jar", "00", false},
		"missing file is refused":   {"/b.jar", right, false},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "cache", "a.jar")
			err := download(context.Background(), repository.URL+c.path, c.sum, path)
			if (err == nil) != c.kept {
				t.Errorf("error %v, kept %t", err, c.kept)
			}
			if _, err := os.Stat(path); (err == nil) != c.kept {
				t.Errorf("file: %v, kept %t", err, c.kept)
			}
		})
	}
}

func TestListOfJarsNamesCassandra(t *testing.T) {
	b := &builder{root: repository}
	found, err := jars("cassandra")(b, context.Background())
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, i := range found {
		if len(i.identity) != 64 || names[i.name] {
			t.Errorf("%s: checksum %q, or named twice", i.name, i.identity)
		}
		names[i.name] = true
	}
	if !names["jars/cassandra-all-5.0.5.jar"] {
		t.Errorf("Cassandra is not among %d jars", len(found))
	}
}
