package caddymodule_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/widget"
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

// fixable is the expression with which messenger-auth.js finds the reasons after which it asks for another token or ticket. It compares
// beginnings, because the script is small. No other code has one of these.
const fixable = `^(token_(exp|not|rev|una|inv)|ticket_[eui]|key_u|timeout)`

// ownReasons are those of the script itself after which it tries again.
var ownReasons = []string{"token_unavailable", "token_invalid", "timeout"}

// The script and its documentation name the codes of which the table says that another token or ticket can help.
func TestDocsNameTheCodesThatTheHelperRetries(t *testing.T) {
	expression := regexp.MustCompile(fixable)
	renewable := codesWith(func(c authn.CodeInfo) bool { return c.Renewable })
	for _, c := range authn.CodeTable() {
		if c.Renewable && c.Status != http.StatusUnauthorized {
			t.Errorf("%s is renewable in authn/codetable.go and has the status %d: messenger-auth.js asks for another token after a 401 only", c.Code, c.Status)
		}
		if fixed := expression.MatchString(string(c.Code)); fixed != c.Renewable {
			t.Errorf("%s: fixable in codes_test.go, for messenger-auth.js, matches it: %t; it is renewable in authn/codetable.go: %t", c.Code, fixed, c.Renewable)
		}
	}
	for _, reason := range ownReasons {
		if !expression.MatchString(reason) {
			t.Errorf("fixable in codes_test.go does not match %s, a reason of messenger-auth.js itself", reason)
		}
	}
	checkPage(t, "docs/connections.md", quoted(renewable, " and ")+".\n")
	checkBlock(t, "widget/messenger-auth.js", "// ", "", "// Refusals that may go away with another token or ticket:\n// "+strings.Join(renewable, ", ")+",\n"+
		"// and the script's own reasons "+strings.Join(ownReasons, ", ")+".\nconst FIXABLE = /"+fixable+"/\n")
	if !bytes.Contains(widget.Script, []byte("=/"+fixable+"/")) {
		t.Error("widget/messenger-auth.min.js does not have the FIXABLE of messenger-auth.js; in caddymodule/widget, run\n" +
			"npx esbuild --bundle --minify --format=esm messenger-auth.js --outfile=messenger-auth.min.js")
	}
}

// The documentation names the codes with which a refused WebSocket is closed in another way than most.
func TestDocsNameTheCloseCodes(t *testing.T) {
	closedWith := func(code int) []string {
		return codesWith(func(c authn.CodeInfo) bool { return c.Close == code })
	}
	for page, sentences := range map[string][]string{
		"connections": {"4401, but 4403 for " + quoted(closedWith(4403), " and ") + ", 4429 for " + quoted(closedWith(4429), " and ") + ", and 1013 if trying again later helps"},
		"troubleshooting": {"| 4403 | " + quoted(closedWith(4403), ", ") + " |", "| 4429 | " + quoted(closedWith(4429), ", ") + " |",
			"| 1013 | " + quoted(closedWith(1013), ", ") + " |"},
	} {
		for _, sentence := range sentences {
			if !strings.Contains(docsText(t, page), sentence) {
				t.Errorf("the page %s does not say %q, as the close codes in authn/codetable.go do", page, sentence)
			}
		}
	}
}

// The example of an explanation in the description of the admin API is an answer that the gateway gives.
func TestDocsHaveTheDetailOfTheirExample(t *testing.T) {
	text, err := os.ReadFile("docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	info := authn.TokenExpired.Info()
	for _, want := range []string{fmt.Sprintf("status: %d, code: %s,", info.Status, info.Code), fmt.Sprintf("detail: %q,", info.Detail)} {
		if !strings.Contains(string(text), want) {
			t.Errorf("docs/openapi.yaml: the example of an explanation does not have %s", want)
		}
	}
}

// codesWith returns the codes of the rows for which has reports true, in the order of the documentation.
func codesWith(has func(authn.CodeInfo) bool) (codes []string) {
	for _, c := range authn.CodeTable() {
		if has(c) {
			codes = append(codes, string(c.Code))
		}
	}
	return codes
}

// quoted returns codes as a list in Markdown, with last before the last of them.
func quoted(codes []string, last string) string {
	text := ""
	for i, code := range codes {
		switch {
		case i == 0:
		case i == len(codes)-1:
			text += last
		default:
			text += ", "
		}
		text += "`" + code + "`"
	}
	return text
}
