package caddymodule_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// Blocks of other files are written from the table of codes, so that none of them can forget a code.
const (
	beginCodes = "codes: the tests write this from the table in caddymodule/internal/authn"
	endCodes   = "end of codes"
)

// checkBlock compares the block of a file with what the table says, or writes it if MESSENGER_WRITE_DOCS is set. open and closed are how
// a comment begins and ends there.
func checkBlock(t *testing.T, file, open, closed, want string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	first, last := open+beginCodes+closed+"\n", open+endCodes+closed+"\n"
	before, rest, found := strings.Cut(string(text), first)
	block, after, ends := strings.Cut(rest, last)
	if !found || !ends {
		t.Fatalf("%s has no block between the lines %q and %q", file, strings.TrimSpace(first), strings.TrimSpace(last))
	}
	switch {
	case block == want:
	case os.Getenv("MESSENGER_WRITE_DOCS") == "":
		t.Errorf("%s: the block between %q and %q is not what the table of codes says; write it with: MESSENGER_WRITE_DOCS=1 go test -run Docs ./caddymodule", file, strings.TrimSpace(first), strings.TrimSpace(last))
	default:
		if err := os.WriteFile(file, []byte(before+first+want+last+after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// checkPage is checkBlock for Markdown.
func checkPage(t *testing.T, file, want string) {
	t.Helper()
	checkBlock(t, file, "<!-- ", " -->", "\n"+want+"\n")
}

// A developer who gets a code follows the type of the problem into the documentation, and must find the code there. The documentation
// lists no codes that do not exist.
func TestDocsHaveExactlyTheErrorCodes(t *testing.T) {
	table := "| code | HTTP | cause | fix |\n|---|---|---|---|\n"
	var links []string
	for _, c := range authn.CodeTable() {
		table += fmt.Sprintf("| <a id=\"%s\"></a>`%[1]s` | %d | %s | %s |\n", c.Code, c.Status, c.Cause, c.Fix)
		links = append(links, fmt.Sprintf(`<a id="%s"></a>[%[1]s](caddymodule/docs/errors.md#%[1]s)`, c.Code))
	}
	checkPage(t, "docs/errors.md", table)
	checkPage(t, "../README.md", strings.Join(links, " ·\n")+"\n")
}
