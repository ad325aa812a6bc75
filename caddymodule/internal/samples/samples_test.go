package samples

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
)

// hostile are values that a site owner, or the key server of another, may have put into settings in order to break out of a text or
// a comment of a program that a developer will run.
var hostile = []string{
	`'; DROP TABLE contacts; --`, `"; system("id"); "`, `\`, `\\`, `\"`, `\'`, `\n`, `\u0022`, `\\u0022+evil()+\u0022`, `\u000a`, "\n", "\r\n", "\t", "\x00", "\x1b[2J",
	`</script><script>evil()</script>`, `<!--`, `${x}`, `#{x}`, `{$x}`, `$x`, `{{.}}`, `%s%n`, "`id`", `?>`, `*/ evil(); /*`, "\u0085evil()", "\u2028evil()", "\u2029", "\u202eevil",
	"\U000e0041", "😀", "é 张", "\xff", "", "__proto__",
}

func contracts() map[string]*Contract {
	list := make(map[string]*Contract)
	for _, algorithm := range []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512"} {
		c := &Contract{Identity: "identity", Algorithm: algorithm, Type: "JWT", Seconds: 600, Contact: []string{"name", "email"}, Secret: strings.HasPrefix(algorithm, "HS")}
		list[algorithm] = c
		for _, encoding := range []string{"base64", "base64url", "hex"} {
			if c.Secret {
				encoded := *c
				encoded.Encoding = encoding
				list[algorithm+" "+encoding] = &encoded
			}
		}
	}
	return list
}

// Whatever the values are, what a program does stays the same: outside of its texts it is the same program.
func TestHostileValuesStayStrings(t *testing.T) {
	for name, plain := range contracts() {
		values := []string{"value", strings.Join(hostile, "")}
		if name == "RS256" || name == "HS256" {
			values = append(values, hostile...)
		}
		for _, l := range Languages() {
			var want string
			for i, value := range values {
				c := *plain
				c.Identity, c.Inside, c.KeyID, c.Type = value, []string{value, value}, value+"-", value
				c.Contact, c.Fixed = []string{value}, []Claim{{value, value}}
				program, err := l.Endpoint(&c)
				if err != nil {
					t.Fatalf("%s in %s with %q: %v", name, l.Name, value, err)
				}
				switch got := withoutTexts(program); {
				case i == 0:
					want = got
				case got != want:
					t.Errorf("%s in %s: %q gets out of its text:\n%s", name, l.Name, value, program)
				}
			}
		}
	}
	var want string
	for i, value := range append([]string{"value"}, hostile...) {
		script, err := (&Page{Address: "wss://" + value, Marker: value}).Script()
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			want = withoutTexts(script)
		}
		if got := withoutTexts(script); got != want || strings.Contains(script, "<") {
			t.Errorf("the page's script: %q gets out of its text:\n%s", value, script)
		}
	}
}

// withoutTexts returns a program without what is between double quotes, and without blanks, with which gofmt lines up. None of the
// languages ends such a text at anything but a quote without a backslash, a line break or, in PHP, begins something else at "$".
func withoutTexts(program string) string {
	text := regexp.MustCompile(`"(?:[^"\\\x00-\x1f\x{85}\x{2028}\x{2029}]|\\.)*"`)
	program = strings.ReplaceAll(program, `["__proto__"]:`, `"":`)
	program = text.ReplaceAllStringFunc(program, func(found string) string {
		if strings.Contains(strings.ReplaceAll(strings.ReplaceAll(found, `\\`, ""), `\$`, ""), "$") && strings.HasPrefix(program, "<?php") {
			return found // PHP would put a variable there
		}
		return `""`
	})
	return strings.NewReplacer(" ", "", "\t", "").Replace(program)
}

// What Go and JavaScript read is what was meant. The other languages are run by the tests of the whole.
func TestQuotedTextsAreReadBack(t *testing.T) {
	for _, value := range hostile {
		for _, l := range Languages() {
			quoted := l.syntax.quote(value)
			want := strings.ToValidUTF8(value, "\ufffd")
			var got string
			var err error
			switch l.ID {
			case "go":
				got, err = strconv.Unquote(quoted)
			case "node", "csharp":
				err = json.Unmarshal([]byte(quoted), &got)
			case "java":
				err = json.Unmarshal([]byte(octalToJSON(quoted)), &got)
			default:
				continue
			}
			if err != nil || got != want {
				t.Errorf("%s: %q is written as %s, and read as %q, %v", l.Name, value, quoted, got, err)
			}
		}
	}
}

// octalToJSON writes the escapes of Java that JSON does not know as those that it does.
func octalToJSON(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			b.WriteByte(text[i])
			continue
		}
		if code, err := strconv.ParseUint(text[i+1:min(i+4, len(text))], 8, 8); err == nil {
			fmt.Fprintf(&b, `\u%04x`, code)
			i += 3
			continue
		}
		b.WriteString(text[i : i+2])
		i++
	}
	return b.String()
}

// The contract has what the settings demand, once.
func TestContractFollowsTheSettings(t *testing.T) {
	m := &config.Messenger{IdentityPath: "/user/id", Audience: []string{"chat", "other"}, Issuer: []string{"https://www.example.com/"}, TokenType: "at+jwt",
		RequireClaims: []string{"exp", "iat", "nbf", "email", "aud", "tenant"}, ContactClaims: []string{"name", "email", "user"},
		SharedToken: &config.SharedToken{Encoding: sharedtoken.Base64URL, Alg: "HS512"}}
	got := mustJSON(t, For(m, []Key{{"HS512", "shown"}}))
	want := mustJSON(t, &Contract{Identity: "user", Inside: []string{"id"}, Secret: true, Encoding: "base64url", Algorithm: "HS512", Type: "at+jwt", Seconds: 600,
		Contact: []string{"name", "email", "tenant"}, Fixed: []Claim{{"iss", "https://www.example.com/"}, {"aud", "chat"}}})
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	m = &config.Messenger{IdentityKey: "sub", MaxLifetime: 3e9, PublicKey: []config.PublicKey{{Alg: "ES256"}, {}}}
	got = mustJSON(t, For(m, []Key{{"HS256", "before"}, {"PS256", "before"}, {"RS256", "first"}, {"ES256", "curve"}, {"RS256", "second"}}))
	want = mustJSON(t, &Contract{Identity: "sub", Inside: []string{}, Algorithm: "RS256", KeyID: "first", Type: "JWT", Seconds: 3})
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := For(new(config.Messenger), nil); got.Algorithm != "" || got.Family() != "" || got.Bits() != "" {
		t.Errorf("settings without a method: %+v", got)
	}
}

// The documentation shows these programs, as the panel does. MESSENGER_SAMPLES=write writes them there.
func TestDocumentationHasThesePrograms(t *testing.T) {
	const page, begin, end = "../../docs/tokens.md", "<!-- chat-token: begin -->\n", "<!-- chat-token: end -->\n"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	current, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no place for the programs", page)
	}
	var b strings.Builder
	for _, l := range Languages() {
		for _, method := range []struct{ name, algorithm, secret string }{{"private key", "RS256", ""}, {"shared token", "HS256", "CHAT_SHARED_TOKEN=… "}} {
			c := &Contract{Identity: "identity", Algorithm: method.algorithm, Type: "JWT", Seconds: 600, Contact: []string{"name", "email"}, Secret: method.secret != ""}
			program, err := l.Endpoint(c)
			if err != nil {
				t.Fatal(err)
			}
			install := l.Install(c)
			if install != "" {
				install = "`" + install + "`, then "
			}
			fmt.Fprintf(&b, "<details>\n<summary>%s, %s</summary>\n\n%s`%s%s`\n\n```%s\n%s```\n\n</details>\n\n", l.Name, method.name, install, method.secret, l.Run, l.Fence, program)
		}
	}
	if b.String() == current {
		return
	}
	if os.Getenv("MESSENGER_SAMPLES") != "write" {
		t.Errorf("%s does not have the programs as they are; MESSENGER_SAMPLES=write writes them there", page)
		return
	}
	if err := os.WriteFile(page, []byte(before+begin+b.String()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

func mustJSON(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
