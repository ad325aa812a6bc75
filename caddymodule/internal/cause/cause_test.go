package cause

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// A cause without a text or a fix would leave people with a name alone.
func TestEveryCauseHasATextAndAFix(t *testing.T) {
	var names, texts []string
	for _, c := range all() {
		info := c.Info()
		if info.Name == "" || info.Text == "" || info.Fix == "" || strings.Trim(info.Name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			t.Errorf("the cause number %d has the row %+v, want a name, a text and a fix", c, info)
			continue
		}
		if slices.Contains(names, info.Name) || slices.Contains(texts, info.Text) {
			t.Errorf("%s has the name or the text of another cause", info.Name)
		}
		names, texts = append(names, info.Name), append(texts, info.Text)
		for _, clause := range []string{info.Text, info.Fix} {
			if strings.HasSuffix(clause, ".") || unicode.IsUpper([]rune(clause)[0]) || strings.ContainsAny(clause, "%\n") && !strings.Contains(clause, `"%.0f"`) && !strings.Contains(clause, "'%b'") {
				t.Errorf("%s: %q is not a clause: it goes on after a colon", info.Name, clause)
			}
		}
	}
	if None.String() != "" || None.Info() != (Info{}) {
		t.Error("None has a row")
	}
}

func TestEveryCauseIsInOneSection(t *testing.T) {
	var listed []Cause
	for _, s := range sections() {
		if len(s.Causes) == 0 || s.Title == "" || s.About == "" {
			t.Errorf("the section %+v is not complete", s)
		}
		listed = append(listed, s.Causes...)
	}
	if !slices.Equal(listed, all()) {
		t.Error("the sections do not have every cause once, in the order of the table")
	}
}

func TestAnErrorHasTheCauseAndItsFix(t *testing.T) {
	err := &Error{Cause: KeyUndecodable, Detail: "PUBLIC KEY"}
	if got, want := err.Error(), KeyUndecodable.Info().Text+" (PUBLIC KEY); "+KeyUndecodable.Info().Fix; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := KeyEmpty.Err().Error(); got != "is empty; give a public key as PEM or a JWK" {
		t.Errorf("without a detail: got %q", got)
	}
	if got := Sentence("the token has expired"); got != "The token has expired." || Sentence("") != "" {
		t.Errorf("a sentence: got %q", got)
	}
}

// page is the documentation of the causes, from their table.
func page() string {
	var b strings.Builder
	b.WriteString("# Mistakes and their fixes\n\n" +
		"The gateway names these mistakes: in its log, where a refusal has the name as `cause`, in `caddy messenger explain` and in the\n" +
		"panel's token test, and in the error of a configuration that does not load. Answers to clients have only the\n" +
		"[error code](errors.md). The tests write this page from the table in `caddymodule/internal/cause`.\n\nContents:")
	for i, s := range sections() {
		fmt.Fprintf(&b, "%s [%s](#%s)", map[bool]string{true: " ·"}[i > 0], s.Title, strings.NewReplacer(" ", "-", ",", "").Replace(strings.ToLower(s.Title)))
	}
	b.WriteByte('\n')
	for _, s := range sections() {
		fmt.Fprintf(&b, "\n## %s\n\nNamed in %s.\n\n| cause | what is wrong | what to do |\n|---|---|---|\n", s.Title, s.About)
		for _, c := range s.Causes {
			text := strings.TrimSpace(s.Subject + " " + c.Info().Text)
			fmt.Fprintf(&b, "| <a id=\"%s\"></a>`%s` | %s | %s |\n", c, c, cell(text), cell(c.Info().Fix))
		}
	}
	return b.String()
}

func cell(clause string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", ">", "&gt;", "*", `\*`, "_", `\_`).Replace(Sentence(clause))
}

// The documentation has exactly the causes of the table, in their words.
func TestDocumentationMatchesTheTable(t *testing.T) {
	const name = "../../docs/causes.md"
	if os.Getenv("MESSENGER_WRITE_DOCS") != "" {
		if err := os.WriteFile(name, []byte(page()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != page() {
		t.Error("caddymodule/docs/causes.md is not what the table says; write it with: MESSENGER_WRITE_DOCS=1 go test ./caddymodule/internal/cause")
	}
}

// A section is a part of the documentation.
type section struct {
	Title   string
	About   string // where these causes are named
	Subject string // what the texts go on after; "" if they are whole clauses
	Causes  []Cause
}

// all returns all causes but None, in the order of the documentation.
func all() (all []Cause) {
	for c := None + 1; c <= last; c++ {
		all = append(all, c)
	}
	return all
}

// sections returns the sections of the documentation. Each cause is in exactly one of them.
func sections() []section {
	between := func(first, next Cause) (list []Cause) {
		for c := first; c < next; c++ {
			list = append(list, c)
		}
		return list
	}
	return []section{
		{"What a page sends", "the log and `explain`", "", between(SchemeAlone, TextIsHeader)},
		{"The form of the token", "the log and `explain`", "", between(TextIsHeader, AlgXMLDSig)},
		{"Algorithm, key and signature", "the log and `explain`", "", between(AlgXMLDSig, TimeMilliseconds)},
		{"Claims", "the log and `explain`", "", between(TimeMilliseconds, IdentityFraction)},
		{"The contact identity", "the log and `explain`", "", between(IdentityFraction, SecretQuoted)},
		{"Shared tokens", "the log, `explain`, and a warning at load", "The secret", between(SecretQuoted, KeyEmpty)},
		{"Keys", "the error at load, the form of the panel, and `sign`", "The key", between(KeyEmpty, ServerAuthority)},
		{"Key servers", "the log, `keys`, and `explain`", "", between(ServerAuthority, PathPrefixGone)},
		{"Addresses", "the log", "", between(PathPrefixGone, last+1)},
	}
}
