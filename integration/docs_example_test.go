package integration

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// startExample runs Caddyfile.example as it is, but for its places: keys and socket lie in folders of the test, and the
// ports are free ones. Its log goes into a file, through its own filter.
func startExample(t *testing.T, secret string) *gateway {
	t.Helper()
	text, err := os.ReadFile("../Caddyfile.example")
	if err != nil {
		t.Fatal(err)
	}
	if string(caddyfile.Format(text)) != string(text) {
		t.Error("Caddyfile.example is not formatted; run caddy fmt --overwrite")
	}
	dir := t.TempDir()
	for name, content := range map[string][]byte{
		"support.pub.pem":   publicPEM(rsaKey(0)),
		"sales.token":       []byte(secret + "\n"),
		"panel.hash":        []byte(panelHash + "\n"),
		"billing.jwks.json": []byte(mustJSON(map[string]any{"keys": []jwk{publicJWK(rsaKey(2), "demo")}})),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	addr := freeAddr(t)
	setPort(t, "DEMO_PORT", addr)
	setPort(t, "DEMO_BACKEND_PORT", freeAddr(t))
	setPort(t, "DEMO_PANEL_PORT", freeAddr(t))
	g := &gateway{t: t, addr: addr, url: "http://" + addr, log: filepath.Join(dir, "caddy.log"), sock: filepath.Join(sockDir, "example")}
	replaced := strings.NewReplacer(
		"admin unix/demo/admin.sock", "admin unix/"+g.sock,
		"{file.demo/", "{file."+dir+"/",
		"log default {", "log default {\n\t\toutput file "+g.log,
	).Replace(string(text))
	config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(replaced), map[string]any{"filename": "Caddyfile.example"})
	if err != nil {
		t.Fatalf("adapting: %v", err)
	}
	for _, warning := range warnings {
		if !strings.Contains(warning.Message, "not formatted") { // we have changed it
			t.Errorf("a warning: %s", warning)
		}
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Errorf("stopping Caddy: %v", err)
		}
		keepLog(t, g.log)
	})
	g.replace(config)
	g.keepConfig()
	return g
}

func setPort(t *testing.T, name, addr string) {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(name, port)
}

// The example is what newcomers run first and operators copy from.
func TestExampleRunsAsItIs(t *testing.T) {
	secret := newSecret()
	g := startExample(t, secret)
	support, sales := sign(rsaKey(0), valid("mark")), sign(secret, valid("mark"))
	forged := sign(rsaKey(1), valid("mark"))
	ofBilling := claims{"sub": "mark", "aud": "chat", "exp": time.Now().Add(time.Hour).Unix()}
	billing, ofAnother := signWithKID(rsaKey(2), "demo", ofBilling), signWithKID(rsaKey(2), "other", ofBilling)
	ofBilling["aud"] = "shop"
	forShop := signWithKID(rsaKey(2), "demo", ofBilling)

	told := func(identity, messenger string) string {
		return fmt.Sprintf("identity:      %s\nmessenger:     %s\nauthorization: \n", identity, messenger)
	}
	for _, tt := range []struct {
		name    string
		path    string
		headers []string
		status  int
		want    string // the body, or the code of the problem
	}{
		{"a contact of support", "/support/hello", []string{bearer(support)}, 200, told("mark", "support")},
		{"a contact of sales", "/sales/hello", []string{bearer(sales)}, 200, told("mark", "sales")},
		{"a contact of sales whose token is a subprotocol", "/sales/hello",
			[]string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Protocol: chat.v1, jwt, " + sales}, 200, told("mark", "sales")},
		{"a contact of billing, whose key is published", "/billing/hello", []string{bearer(billing)}, 200, told("mark", "billing")},
		{"a token that the site of billing signed for something else", "/billing/hello", []string{bearer(forShop)}, 401, "audience_not_allowed"},
		{"a token of billing with a key that is not published", "/billing/hello", []string{bearer(ofAnother)}, 401, "key_unknown"},
		{"an identity made up beside a valid token", "/support/hello", []string{bearer(support), "X-Contact-Identity: eve"}, 200, told("mark", "support")},
		{"a forged token", "/support/hello", []string{bearer(forged)}, 401, "signature_invalid"},
		{"a token of another messenger", "/sales/hello", []string{bearer(support)}, 401, "algorithm_not_allowed"},
		{"an identity made up without a token", "/support/hello", []string{"X-Contact-Identity: mark"}, 401, "token_missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := g.get(tt.path, tt.headers...)
			got := a.body
			if a.status >= 400 {
				got = a.code(t)
			}
			if a.status != tt.status || got != tt.want {
				t.Errorf("got %d %q, want %d %q", a.status, got, tt.status, tt.want)
			}
		})
	}
	if a := g.get("/elsewhere", bearer(support)); a.status != 404 {
		t.Errorf("a path without a messenger: got %d %q, want 404", a.status, a.body)
	}
}
