package images

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

func TestComposeVersionIsTheOneOfItsModule(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join(repository, "deployment/images/compose/go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`github\.com/docker/compose/v2 v(\S+)`).FindSubmatch(mod)
	if found == nil || string(found[1]) != composeVersion {
		t.Errorf("go.mod has %q, the manifest says %s", found, composeVersion)
	}
}
