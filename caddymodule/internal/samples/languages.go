package samples

import (
	"embed"
	"fmt"
	"go/format"
	"slices"
	"strings"
	"sync"
	"text/template"
	"unicode/utf16"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/printable"
)

// A Language is one in which there is a program.
type Language struct {
	ID, Name string
	Run      string // the command that runs the program
	Fence    string // what code blocks of Markdown call it

	setup    string   // the command that comes first
	install  string   // the command that installs the library that it needs to sign with a private key
	unsigned []string // algorithms with which it cannot sign in a few lines
	syntax   syntax
}

// Languages are all languages, in the order in which they are shown.
func Languages() []*Language { return languages() }

var languages = sync.OnceValue(func() []*Language {
	return []*Language{
		{ID: "node", Name: "Node", Run: "node chat-token.mjs", Fence: "js",
			syntax: syntax{script: true, escape: escapeUTF16(`\u%04x`), open: "{", is: ": ", end: "}"}},
		{ID: "python", Name: "Python", Run: "python3 chat_token.py", Fence: "python", install: "pip install 'pyjwt[crypto]'",
			syntax: syntax{escape: escapeRune(`\u%04x`, `\U%08x`), open: "{", is: ": ", end: "}"}},
		{ID: "php", Name: "PHP", Run: "php -S 127.0.0.1:8000 chat-token.php", Fence: "php", unsigned: []string{"PS256", "PS384", "PS512"},
			syntax: syntax{escape: escapeRune(`\u{%x}`, `\u{%x}`), special: "$", open: "[", is: " => ", end: "]"}},
		{ID: "go", Name: "Go", Run: "go run chat-token.go", Fence: "go",
			syntax: syntax{escape: escapeRune(`\u%04x`, `\U%08x`), open: "map[string]any{", is: ": ", end: "}"}},
		{ID: "java", Name: "Java", Run: "java ChatToken.java", Fence: "java",
			syntax: syntax{escape: escapeJava, open: "Map.of(", is: ", ", end: ")"}},
		{ID: "csharp", Name: "C#", Run: "dotnet run", Fence: "csharp", setup: "dotnet new console", unsigned: []string{"EdDSA"},
			syntax: syntax{escape: escapeUTF16(`\u%04x`), open: "new Dictionary<string, object> { [", is: "] = ", end: " }"}},
	}
})

// Install returns the command that has to be run once, or "" if the language brings all that the program needs.
func (l *Language) Install(c *Contract) string {
	if c.Secret || l.install == "" {
		return l.setup
	}
	return l.install
}

// Endpoint returns the program of the endpoint /chat-token, or "" if the language cannot sign with the algorithm in a few lines, or the
// messenger has none.
func (l *Language) Endpoint(c *Contract) (string, error) {
	if c.Algorithm == "" || slices.Contains(l.unsigned, c.Algorithm) {
		return "", nil
	}
	text, err := execute(l.ID, &l.syntax, c)
	if err != nil || l.ID != "go" {
		return text, err
	}
	formatted, err := format.Source([]byte(text)) // gofmt lines up values by the length of names
	return string(formatted), err
}

// A Page is what the web page has to know.
type Page struct {
	Address string // of the WebSocket, as the page calls it; "" if it is not known
	Marker  string // the subprotocol before the token
}

// Script returns the program of the web page, which is a module of JavaScript.
func (p *Page) Script() (string, error) { return execute("page", &languages()[0].syntax, p) }

// A syntax is how a language writes texts, and an object with one member.
type syntax struct {
	script  bool              // it is JavaScript
	escape  func(rune) string // of characters that are not visible
	special string            // further characters that are written with a backslash

	open, is, end string
}

//go:embed programs/*.tmpl
var programs embed.FS

// execute fills in a program. Every value goes through a function that quotes it for the language. Values are never part of a
// comment, where languages differ most in what ends it.
func execute(name string, s *syntax, data any) (string, error) {
	text, err := template.New(name+".tmpl").Funcs(template.FuncMap{
		"quote":  s.quote,
		"member": s.member,
		"nest":   s.nest,
	}).ParseFS(programs, "programs/"+name+".tmpl")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = text.Execute(&b, data)
	return b.String(), err
}

// quote writes text between double quotes.
func (s *syntax) quote(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteString(`\` + string(r))
		case r == '<' && s.script: // a page may have the program inside of <script>
			b.WriteString(s.escape(r))
		case strings.ContainsRune(s.special, r):
			b.WriteString(`\` + string(r))
		case printable.IsPrintable(r):
			b.WriteRune(r)
		default:
			b.WriteString(s.escape(r))
		}
	}
	b.WriteByte('"')
	return b.String()
}

// member writes the name of a member of an object.
func (s *syntax) member(name string) string {
	if s.script && name == "__proto__" {
		return `["__proto__"]` // without brackets it names what the object inherits from
	}
	return s.quote(name)
}

// nest writes the expression value as it is at path.
func (s *syntax) nest(path []string, value string) string {
	for _, name := range slices.Backward(path) {
		value = s.open + s.member(name) + s.is + value + s.end
	}
	return value
}

func escapeUTF16(format string) func(rune) string {
	return func(r rune) string {
		var b strings.Builder
		for _, unit := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(&b, format, unit)
		}
		return b.String()
	}
}

func escapeRune(short, long string) func(rune) string {
	return func(r rune) string {
		if r > 0xffff {
			return fmt.Sprintf(long, r)
		}
		return fmt.Sprintf(short, r)
	}
}

// escapeJava writes control characters in octal: Java reads \u000a before it looks for the end of a line.
func escapeJava(r rune) string {
	if r < 0x80 {
		return fmt.Sprintf(`\%03o`, r)
	}
	return escapeUTF16(`\u%04x`)(r)
}
