package authn

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"strconv"
	"strings"
	"testing"
)

// A code without a row would answer with the status 0 and without a word. The compiler does not notice it, so the constants are
// read from the file that declares them. A row leaves nothing out, because people who get the code read all of it.
func TestEveryCodeHasARow(t *testing.T) {
	file, err := parser.ParseFile(gotoken.NewFileSet(), "codes.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	constants := make(map[Code]bool)
	ast.Inspect(file, func(node ast.Node) bool {
		if spec, ok := node.(*ast.ValueSpec); ok {
			if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Code" {
				text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				constants[Code(text)] = true
			}
		}
		return true
	})
	if len(constants) < 20 {
		t.Fatalf("got %d constants, want all codes", len(constants))
	}
	for code := range constants {
		if code.Info().Code == "" {
			t.Errorf("%s has no row in codetable.go; add one where the documentation is to have it", code)
		}
	}
	seen := make(map[Code]bool)
	for _, row := range CodeTable() {
		if !constants[row.Code] {
			t.Errorf("%q has a row and no constant", row.Code)
		}
		if seen[row.Code] {
			t.Errorf("%s has two rows", row.Code)
		}
		seen[row.Code] = true
		checkRow(t, row)
	}
}

func checkRow(t *testing.T, row CodeInfo) {
	t.Helper()
	if row.Status < 400 || row.Status > 599 {
		t.Errorf("%s: the status %d is not that of a refusal", row.Code, row.Status)
	}
	for name, text := range map[string]string{"Title": row.Title, "Detail": row.Detail, "Advice": row.Advice, "Cause": row.Cause, "Fix": row.Fix} {
		sentences := name != "Title" && name != "Advice"
		switch {
		case text == "" || text != strings.TrimSpace(text):
			t.Errorf("%s: the %s is %q; say it in codetable.go", row.Code, name, text)
		case strings.HasSuffix(text, ".") != sentences:
			t.Errorf("%s: the %s %q ends with a full stop: %t, want %t", row.Code, name, text, !sentences, sentences)
		case strings.ContainsAny(text, "|\n"):
			t.Errorf("%s: the %s %q does not fit into a cell of the documentation", row.Code, name, text)
		}
	}
}
