package authn

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"strconv"
	"testing"
)

// A code without a row would answer with the status 0 and without a word. The compiler does not notice it, so the constants are
// read from the file that declares them.
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
		if info := code.Info(); info.Status < 400 || info.Status > 599 || info.Title == "" || info.Detail == "" || info.Advice == "" {
			t.Errorf("%s has the row %+v, want a status, a title, a detail and advice", code, info)
		}
	}
	for _, code := range Codes() {
		if !constants[code] {
			t.Errorf("%s has a row and no constant", code)
		}
	}
}
