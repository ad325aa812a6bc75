package auth

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// A developer who gets a code follows the type of the problem into the documentation, and must find the code there with its status.
// The documentation lists no codes that do not exist.
func TestDocsHaveExactlyTheErrorCodes(t *testing.T) {
	text, err := os.ReadFile("../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## All codes\n")
	section, _, _ = strings.Cut(section, "\n## ")
	documented := make(map[authn.Code]string)
	for _, row := range regexp.MustCompile("(?m)^\\| <a id=\"(\\w+)\"></a>`(\\w+)` \\| (\\d+) \\| .+ \\| .+ \\|$").FindAllStringSubmatch(section, -1) {
		code := authn.Code(row[2])
		if row[1] != row[2] {
			t.Errorf("%s has the anchor %s", code, row[1])
		}
		if documented[code] != "" {
			t.Errorf("%s is documented twice", code)
		}
		documented[code] = row[3]
	}
	for code, p := range problems() {
		if got, want := documented[code], fmt.Sprint(p.Status); got != want {
			t.Errorf("%s: the page has status %q, want %s", code, got, want)
		}
		delete(documented, code)
		if line := fmt.Sprintf(`<a id="%s"></a>[%[1]s](caddymodule/docs/errors.md#%[1]s)`, code); !strings.Contains(string(readme), line) {
			t.Errorf("the list of the README does not have %s", line)
		}
	}
	for code := range documented {
		t.Errorf("%s: the page has it, and no request can cause it", code)
	}
}

// The body is made once, so what it says of itself is checked once.
func TestProblemBodies(t *testing.T) {
	for code, p := range problems() {
		var body struct {
			Type, Title, Code, Detail string
			Status                    int
		}
		if err := json.Unmarshal(p.body, &body); err != nil {
			t.Errorf("%s: %v", code, err)
			continue
		}
		if body.Type != documentation+string(code) || body.Code != string(code) || body.Status != p.Status || body.Title == "" || body.Detail == "" {
			t.Errorf("%s: got %s", code, p.body)
		}
	}
}
