package images

import (
	"maps"
	"testing"
)

func TestTreeIsTheSourcesWithoutWhatIsBuiltBesideThem(t *testing.T) {
	b := &builder{root: write(t, map[string]string{
		"web/package.json": "{}", "web/src/page/app.tsx": "1", "web/.gitignore": "/dist/", "web/dist/index.html": "built", "web/node_modules/vite/index.js": "tool",
		"web/tests/story.spec.ts": "2",
	})}
	found := func() map[string]string {
		t.Helper()
		all, err := tree("client", "web")(b, t.Context())
		if err != nil {
			t.Fatal(err)
		}
		identities := map[string]string{}
		for _, i := range all {
			identities[i.name] = i.identity
		}
		return identities
	}
	first := found()
	if len(first) != 2 || first["client/package.json"] == "" || first["client/src/page/app.tsx"] == "" {
		t.Fatalf("found %v", first)
	}
	if again := found(); !maps.Equal(first, again) {
		t.Errorf("%v, then %v", first, again)
	}
	if first["client/package.json"] == first["client/src/page/app.tsx"] {
		t.Error("different files are taken for the same")
	}
	if _, err := tree("client", "none")(b, t.Context()); err == nil {
		t.Error("a missing folder is no error")
	}
}
