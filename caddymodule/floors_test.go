package caddymodule

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// floors are the packages by their place in the layering. A package imports only what is on a lower floor.
var floors = map[string]int{
	"":                     13,
	"command":              12,
	"panel":                12,
	"admin":                11,
	"auth":                 10,
	"messenger":            10,
	"internal/reseal":      10,
	"internal/registry":    8,
	"internal/change":      7,
	"internal/keysets":     7,
	"internal/transfer":    7,
	"internal/succession":  7,
	"internal/upstream":    7,
	"internal/apierror":    5,
	"internal/ledger":      6,
	"internal/revocation":  5,
	"internal/assertion":   5,
	"internal/samples":     5,
	"internal/keyfile":     5,
	"internal/lastuse":     5,
	"internal/configtest":  5,
	"internal/vault":       4,
	"internal/metrics":     4,
	"internal/printlog":    4,
	"config":               4,
	"internal/routing":     4,
	"internal/diagnose":    4,
	"internal/authn":       3,
	"internal/sigkey":      2,
	"internal/rsaverify":   1,
	"internal/session":     0,
	"internal/strictjson":  0,
	"internal/bytecache":   0,
	"internal/recent":      0,
	"internal/ticket":      0,
	"internal/trail":       0,
	"internal/turnstile":   0,
	"internal/nameindex":   0,
	"internal/namelock":    0,
	"internal/printable":   0,
	"internal/keyserver":   1,
	"internal/keytext":     0,
	"internal/buildinfo":   0,
	"internal/sharedtoken": 0,
	"widget":               0,

	// Like the standard library: one folds letters where that does so by Unicode, the other has constant texts.
	"internal/ascii": -1,
	"internal/cause": -1,

	"internal/testsize": -1, // of tests
}

// Libraries that only some packages may know: a reviewer of the verification reads authn and what is below it, and nothing
// there knows Caddy.
var (
	onlyInSigkey  = []string{"github.com/lestrrat-go/jwx"}
	notBelowAuthn = []string{"github.com/caddyserver/", "go.uber.org/zap"}
)

const (
	module      = "github.com/messengerauth/caddy-messenger-auth/"
	packageRoot = module + "caddymodule"
)

func TestImportsGoDown(t *testing.T) {
	for _, p := range packages(t, "./...") {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, packageRoot), "/")
		floor, known := floors[name]
		if !known {
			t.Errorf("package %q has no floor; give it one in this file, and in the package comment of modules.go", name)
			continue
		}
		for _, path := range p.Imports {
			if below, ours := strings.CutPrefix(path, packageRoot); ours {
				below = strings.TrimPrefix(below, "/")
				if other, known := floors[below]; !known || other >= floor {
					t.Errorf("%q (floor %d) imports %q (floor %d): imports go down; let %[1]q declare a small interface, or move what it needs", name, floor, below, floors[below])
				}
			}
			if name != "internal/sigkey" && hasPrefix(path, onlyInSigkey) {
				t.Errorf("%q imports %s; only internal/sigkey knows jwx", name, path)
			}
			if floor <= floors["internal/authn"] && hasPrefix(path, notBelowAuthn) {
				t.Errorf("%q imports %s; from authn down the packages know neither Caddy nor zap", name, path)
			}
			if floor <= 0 && !strings.HasPrefix(path, module) && strings.Contains(strings.SplitN(path, "/", 2)[0], ".") {
				t.Errorf("%q imports %s; the packages of the lowest floors know the standard library only", name, path)
			}
		}
	}
}

// The comment of modules.go is where a reader finds which package has what.
func TestPackageCommentNamesEveryPackage(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "modules.go", nil, parser.ParseComments|parser.PackageClauseOnly)
	if err != nil {
		t.Fatal(err)
	}
	listed := strings.FieldsFunc(file.Doc.Text(), func(r rune) bool { return !unicode.IsLetter(r) })
	for name := range floors {
		if name != "" && !slices.Contains(listed, path.Base(name)) {
			t.Errorf("the package comment of modules.go does not name %s", name)
		}
	}
}

func hasPrefix(path string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(path, prefix) })
}

// A reader must be able to keep a file in mind, and a package in the end.
func TestFilesAndPackagesAreSmall(t *testing.T) {
	const maxFile, maxPackage = 350, 4000 // lines
	for _, p := range packages(t, "./...", "../integration") {
		whole := 0
		for _, name := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles) {
			text, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			lines := bytes.Count(text, []byte("\n"))
			if lines > maxFile {
				t.Errorf("%s/%s has %d lines, more than %d", p.ImportPath, name, lines, maxFile)
			}
			if slices.Contains(p.GoFiles, name) {
				whole += lines
			}
		}
		if whole > maxPackage {
			t.Errorf("%s has %d lines, more than %d", p.ImportPath, whole, maxPackage)
		}
	}
}

type goPackage struct {
	ImportPath, Dir string
	GoFiles         []string
	TestGoFiles     []string // in the package
	XTestGoFiles    []string // in another one
	Imports         []string // of the package itself; its tests may look anywhere
}

func packages(t *testing.T, patterns ...string) (list []goPackage) {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command here to list the packages with")
	}
	out, err := exec.Command("go", append([]string{"list", "-json=ImportPath,Dir,GoFiles,TestGoFiles,XTestGoFiles,Imports"}, patterns...)...).Output()
	if err != nil {
		t.Fatalf("listing the packages: %v", err)
	}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	if len(list) < len(floors)-1 {
		t.Fatalf("got %d packages, want at least %d", len(list), len(floors)-1)
	}
	return list
}
