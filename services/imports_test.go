// Package services_test keeps the arrows of the house: who may know whom.
package services_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "secureconnect/"

// forbidden says why a package must not import another, or "". Both are folders below the module's root.
func forbidden(from, to string, isTest bool) string {
	switch {
	case below(to, "cmd") && !below(from, commandOf(to)):
		return "nobody imports a command"
	case below(from, "services/e2e"):
		return "" // drives everything from outside
	case below(from, "services/internal") && below(to, "services") && !below(to, "services/internal"):
		return "the floor knows no service"
	case below(from, "services/internal/wire") && below(to, "services/internal"):
		return "wire knows only shapes"
	case below(from, "services/client") && below(to, "services") && !below(to, "services/client") && !below(to, "services/internal/wire"):
		return "the client library knows what crosses the wire, and nothing of a server"
	case isService(from) && isService(to) && serviceOf(from) != serviceOf(to):
		return "no service imports another"
	case isService(from) && below(to, "services/client") && !isTest:
		return "services do not come in through the front door"
	case below(from, "cmd/deploy") && below(to, "services") && !below(to, "services/client"):
		return "the operator's program speaks through the client library"
	case below(to, "services/internal/testkit") && !below(from, "services/internal/testkit") && !isTest:
		return "testkit is for tests"
	default:
		return ""
	}
}

func below(folder, ancestor string) bool {
	return folder == ancestor || strings.HasPrefix(folder, ancestor+"/")
}

func commandOf(folder string) string { return strings.Join(strings.SplitN(folder, "/", 3)[:2], "/") }

func isService(folder string) bool {
	return below(folder, "services") && folder != "services" && !below(folder, "services/internal") &&
		!below(folder, "services/client") && !below(folder, "services/e2e")
}

func serviceOf(folder string) string { return strings.SplitN(folder, "/", 3)[1] }

func TestArrowsGoOneWay(t *testing.T) {
	seen := 0
	eachGoFile(t, func(file, folder string, imports []string) {
		for _, imported := range imports {
			to, ours := strings.CutPrefix(imported, module)
			if !ours {
				continue
			}
			seen++
			if reason := forbidden(folder, to, strings.HasSuffix(file, "_test.go")); reason != "" {
				t.Errorf("%s imports %s: %s", file, to, reason)
			}
		}
	})
	if seen < 20 {
		t.Errorf("only %d imports were seen: the test looks in the wrong place", seen)
	}
}

func TestForbiddenArrows(t *testing.T) {
	for _, c := range []struct {
		from, to string
		isTest   bool
		allowed  bool
	}{
		{"cmd/secureconnect", "services/auth", false, true},
		{"services/auth", "services/internal/web", false, true},
		{"services/gateway", "services/client", true, true},
		{"services/client", "services/internal/wire", false, true},
		{"cmd/deploy/internal/verify", "services/client", false, true},
		{"cmd/deploy/internal/run", "cmd/deploy/internal/plan", false, true},
		{"services/e2e", "services/auth", true, true},
		{"services/gateway", "services/auth", false, false},
		{"services/gateway", "services/auth", true, false},
		{"services/internal/web", "services/auth", false, false},
		{"services/internal/web", "services/client", false, false},
		{"services/internal/wire", "services/internal/token", false, false},
		{"services/client", "services/internal/token", false, false},
		{"services/gateway", "services/client", false, false},
		{"services/auth", "services/internal/testkit", false, false},
		{"cmd/deploy", "services/auth", false, false},
		{"cmd/deploy/internal/verify", "services/internal/wire", false, false},
		{"services/auth", "cmd/secureconnect", false, false},
		{"cmd/deploy", "cmd/secureconnect", false, false},
	} {
		if reason := forbidden(c.from, c.to, c.isTest); (reason == "") != c.allowed {
			t.Errorf("%s to %s (test %v): %q", c.from, c.to, c.isTest, reason)
		}
	}
}

func eachGoFile(t *testing.T, visit func(file, folder string, imports []string)) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(".."), ".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name := entry.Name(); file != "." && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "bin") {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(file) != ".go" {
			return nil
		}
		imports, err := importsOf(filepath.Join("..", file))
		if err == nil {
			visit(file, path.Dir(file), imports)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func importsOf(file string) ([]string, error) {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	var imports []string
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		imports = append(imports, imported)
	}
	return imports, nil
}
