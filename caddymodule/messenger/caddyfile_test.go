package messenger

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
)

func dispenser(text string) (*caddyfile.Dispenser, error) {
	tokens, err := caddyfile.Tokenize([]byte(text), "Caddyfile")
	return caddyfile.NewDispenser(tokens), err
}

// FuzzGlobalOption parses anything as the global option. It never panics; an error says where it stands; and what parses
// is a configuration that means the same when it is written as JSON and read again.
func FuzzGlobalOption(f *testing.F) {
	for _, text := range []string{
		"", "{", "support", "support {\n}", "support {\nidentity_key sub\nshared_token {env.A} hex\n}", "{\npoll_interval 0\n}", "a b {\n}", "support {\nidentity_key sub\npublic_key {file.a} kid b\npublic_key {env.C}\n}",
		"support {\nidentity_key sub\njwks https://example.com/ {\ntimeout 3s\nrefresh_interval -1\n}\nissuer a b\naudience\n}", "support {\nmode off {\n}\n}", "support {\nclock_skew 1d\nmax_lifetime 99999999h\nallowed_origin https://a:1\n}",
		"support {\nidentity_key \"a\nb\"\n}", "support {\nshared_token <<X\na\nX\n}", "support {\n}\nmessenger support {\n}", "{$A} {\n}",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := dispenser("messenger " + text)
		if err != nil {
			t.Skip("Caddy cannot read it")
		}
		value, err := ParseGlobalOption(d, nil)
		if err != nil {
			checkPlace(t, text, err)
			return
		}
		written := value.(httpcaddyfile.App).Value
		var app App
		if err := json.Unmarshal(written, &app); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		for name, m := range app.Messengers {
			if err := config.CheckName(name); err != nil {
				t.Errorf("%q: the name %q is taken: %v", text, name, err)
			}
			if err := m.CheckSettings(); err != nil {
				t.Errorf("%q is taken with %s: %v", text, written, err)
			}
		}
		again, err := json.Marshal(&app)
		if err != nil || !bytes.Equal(again, written) {
			t.Errorf("%q: %s became %s, %v", text, written, again, err)
		}
	})
}

func checkPlace(t *testing.T, text string, err error) {
	t.Helper()
	if !strings.Contains(err.Error(), "Caddyfile:") {
		t.Errorf("%q: the error does not say where: %v", text, err)
	}
}

// FuzzSharedTokenOption writes a secret where people write it by mistake, among anything else. Errors go to terminals and
// logs: none quotes it.
func FuzzSharedTokenOption(f *testing.F) {
	const secret = "mst_correct-horse-battery-staple-0123456789"
	for _, lines := range [][2]string{{"", ""}, {"identity_key sub", "hex"}, {"mode off", "a b c"}, {"jwks https://example.com/ {", "}"}, {"public_key {env.A}", "\n}"}, {"identity_key", "{"}, {"}", "raw\nmode x"}} {
		f.Add(lines[0], "", lines[1])
		f.Add(lines[0], "{env.", lines[1])
		f.Add(lines[0], "}", lines[1])
	}
	f.Fuzz(func(t *testing.T, before, around, after string) {
		if strings.ContainsAny(before, "\"`\\<") || strings.ContainsAny(around, "\"`\\< \t\r\n") {
			t.Skip("the secret would be part of another word")
		}
		d, err := dispenser("messenger support {\n" + before + "\nshared_token " + around + secret + around + " " + after + "\n}")
		if err != nil {
			t.Skip("Caddy cannot read it")
		}
		if _, err := ParseGlobalOption(d, nil); err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("after %q, around %q, before %q: the secret is quoted: %v", before, around, after, err)
		}
	})
}
