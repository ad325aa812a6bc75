package panel

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// inWords is what a text for people looks like: two words with a blank between them.
var inWords = regexp.MustCompile(`(^| )[A-Za-z’']{2,}[,;:.!?]? [A-Za-z%“"(]`)

// notForPages are functions whose texts are not for a page: they are for the log, for errors of the configuration, for headers,
// and for the search in typed text.
var notForPages = map[string]bool{"errors.New": true, "fmt.Errorf": true, "Error": true, "Warn": true, "Set": true, "strings.Contains": true}

// A text outside of texts.go, sentences.go and the templates would stay behind when the panel is translated, and would be hard to find.
func TestUserVisibleTextsAreInOnePlace(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	positions := token.NewFileSet()
	for _, name := range files {
		if name == "texts.go" || name == "sentences.go" || name == "names.go" || strings.HasSuffix(name, "_test.go") {
			continue // what names.go says is about the configuration
		}
		file, err := parser.ParseFile(positions, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ImportSpec:
				return false
			case *ast.CallExpr:
				return !notForPages[calledName(n)]
			case *ast.BasicLit:
				text, err := strconv.Unquote(n.Value)
				// Package config begins its errors about a name with "the name".
				if err == nil && text != "the name" && n.Kind == token.STRING && inWords.MatchString(text) {
					t.Errorf("%s: a text for people belongs into sentences.go or texts.go: %s", positions.Position(n.Pos()), n.Value)
				}
			}
			return true
		})
	}
}

// calledName is the name of a function that is called, with its package; a method has its own name alone.
func calledName(call *ast.CallExpr) string {
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if base, ok := selector.X.(*ast.Ident); ok && notForPages[base.Name+"."+selector.Sel.Name] {
		return base.Name + "." + selector.Sel.Name
	}
	return selector.Sel.Name
}

// The rule finds what it is for, and not the rest.
func TestUserVisibleTextsAreRecognised(t *testing.T) {
	for text, want := range map[string]bool{
		"Nothing was changed.": true, "an operator": true, "The form has more than %d KiB.": true, "Key ID of public key": true, "the only ": true,
		"text/html; charset=utf-8": false, "2 Jan 2006, 15:04 MST": false, "?page=keys": false, "shared_token": false,
	} {
		if got := inWords.MatchString(text); got != want {
			t.Errorf("%q: got %t, want %t", text, got, want)
		}
	}
}
