package auth

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// FuzzDirective does the same for the directive.
func FuzzDirective(f *testing.F) {
	for _, text := range []string{
		"", "support", "{path.0}", "{http.request.host.labels.1}-x", "support {\nmode report\nforward_token\n}", "support {\ntoken_from header Authorization Bearer\ntoken_from cookie a\ntoken_from query b\ntoken_from websocket_protocol c\n}",
		"{\nidentity_header X-A\nmessenger_header X-B\nidentity_encoding raw\nclaim_header name X-C\n}", "support {\nclaim_header \"\" X-C\n}", "{\ntoken_from\n}", "a b", "{\nidentity_header X_A\n}", "{path.", "}{", "{labels.0}{labels.1}",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := dispenser("messenger_auth " + text)
		if err != nil {
			t.Skip("Caddy cannot read it")
		}
		h := new(Handler)
		if err := h.UnmarshalCaddyfile(d); err != nil {
			checkPlace(t, text, err)
			return
		}
		written, err := json.Marshal(h)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		again := new(Handler)
		if err := json.Unmarshal(written, again); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if err := again.checkSettings(); err != nil {
			t.Errorf("%q is taken as %s: %v", text, written, err)
		}
		if rewritten, err := json.Marshal(again); err != nil || !bytes.Equal(rewritten, written) {
			t.Errorf("%q: %s became %s, %v", text, written, rewritten, err)
		}
	})
}

func dispenser(text string) (*caddyfile.Dispenser, error) {
	tokens, err := caddyfile.Tokenize([]byte(text), "Caddyfile")
	return caddyfile.NewDispenser(tokens), err
}

func checkPlace(t *testing.T, text string, err error) {
	t.Helper()
	if !strings.Contains(err.Error(), "Caddyfile:") {
		t.Errorf("%q: the error does not say where: %v", text, err)
	}
}
