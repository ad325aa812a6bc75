package integration

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// shoot checks that the page as it is fits into the window, light and dark, wide and narrow, and takes pictures of it into
// a folder if there is one.
func (p *panelTab) shoot(dir, name string) {
	p.t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		devtools(p.t, p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
		for _, size := range []struct {
			name  string
			width int64
		}{{"wide", 1440}, {"middle", 768}, {"narrow", 320}} {
			if dir == "" && scheme == "dark" && size.name != "narrow" {
				continue // colors make no page wider
			}
			browse(p.t, p.ctx, chromedp.EmulateViewport(size.width, 900))
			if scheme+size.name == "lightwide" || scheme+size.name == "darknarrow" {
				p.checkAccessible(name + ", " + scheme + ", " + size.name)
			}
			if over := evaluate[int](p.t, p.ctx, "document.documentElement.scrollWidth - innerWidth"); over > 0 {
				p.t.Errorf("%s, %s: the page is %d pixels wider than the window", name, size.name, over)
			}
			if dir == "" {
				continue
			}
			picture, err := chromedp.Run(p.ctx, chromedp.FullScreenshot(100))
			if err != nil {
				p.t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%s-%s.png", name, scheme, size.name)), picture, 0o600); err != nil {
				p.t.Fatal(err)
			}
		}
	}
}

// pictures is the folder for pictures, or "" if nobody has asked for them.
func pictures(t *testing.T) string {
	t.Helper()
	if os.Getenv("MESSENGER_SCREENSHOTS") == "" {
		return ""
	}
	if err := os.MkdirAll("../screenshots", 0o700); err != nil {
		t.Fatal(err)
	}
	return "../screenshots"
}

// axeSource is axe-core, which finds mistakes of accessibility. It is "" where npm has not installed it.
var axeSource = sync.OnceValue(func() string {
	for _, dir := range filepath.SplitList(os.Getenv("NODE_PATH")) {
		if text, err := os.ReadFile(filepath.Join(dir, "axe-core", "axe.min.js")); err == nil {
			return string(text)
		}
	}
	return ""
})

// checkAccessible checks the page as it is with axe-core, if that is installed.
func (p *panelTab) checkAccessible(name string) {
	p.t.Helper()
	if axeSource() == "" {
		if mustHave("axe-core") {
			p.t.Fatalf("axe-core is not in NODE_PATH, and %s names it", toolsVariable)
		}
		return
	}
	if !evaluate[bool](p.t, p.ctx, "'axe' in window") {
		evaluate[bool](p.t, p.ctx, axeSource()+"; true")
	}
	found := evaluate[[]string](p.t, p.ctx, `axe.run().then(r => r.violations.flatMap(v => v.nodes.map(n => v.id + ': ' + n.html.slice(0, 200) + ' ' + n.failureSummary)))`)
	if len(found) > 0 {
		p.t.Errorf("%s: axe has found:\n%s", name, strings.Join(found, "\n"))
	}
}

// No page of the panel may be wider than a narrow window. With MESSENGER_SCREENSHOTS there are pictures of all of them, to
// look at, in the folder screenshots, and the page about the panel gets a new one.
func TestBrowserPictures(t *testing.T) {
	if !alone(t) {
		return
	}
	dir := pictures(t)
	keys := newKeyServer(t, publicJWK(rsaKey(1), "login-2026-11"), publicJWK(rsaKey(2), "login-2026-10"), jwk{"kty": "EC", "crv": "P-256", "kid": "ec-key"})
	pem := write(t, "support.pem", publicPEM(rsaKey(0)))
	g := startPanel(t, nil, "messenger {\njwks_internal_hosts 127.0.0.1\n}\nmessenger support {\nidentity_key sub\npublic_key {file."+pem+"} kid 2026\naudience chat-support\nrequire_claims exp\nallowed_origin https://www.example.com\n}\nmessenger sales {\nidentity_key customer_id\nshared_token\nmax_lifetime 15m\n}")
	u := g.panelOperator()
	u.create("acme")
	u.change("acme", "rotate", "overlap", "168h").secret(t)
	token := u.change("acme", "rotate", "overlap", "24h").secret(t)
	u.change("acme", "generate").secret(t)
	g.get("/acme/", bearer(sign(token, valid("mark"))))
	for name, form := range map[string]url.Values{
		"webshop":     fields("method", "public_key", "key", string(publicPEM(rsaKey(0))), "kid", "2026", "audience", "chat-webshop", "issuer", "https://www.example.com/", "max_lifetime", "15m"),
		"partners":    fields("method", "jwks", "url", keys.url, "audience", "chat-partners", "identity_key", "sub"),
		"playground":  fields("mode", "report", "require_claims", ""),
		"unreachable": fields("method", "jwks", "url", "http://127.0.0.1:1/jwks.json"),
	} {
		form.Set("name", name)
		if a := u.post("?page=new", form); a.status != 303 {
			t.Fatalf("%s: %d %s", name, a.status, a.text())
		}
	}
	u.post("?page=keys&messenger=partners", url.Values{"action": {"refresh"}})
	u.post("?page=keys&messenger=unreachable", url.Values{"action": {"refresh"}})

	for _, form := range []url.Values{{"what": {"contact"}, "contact": {"mark"}}, {"what": {"token"}, "token": {strings.Repeat("5f0c2a", 12)}}, {"what": {"all"}}} {
		u.revoke("webshop", form)
	}
	u.post("?messenger=webshop&page=revocations", url.Values{"what": {"all"}, "action": {"close"}})
	long := strings.Repeat("a-very-long-name-", 3) + "of-63-letter"
	u.post("?page=new", fields("name", long, "identity_key", "https://www.example.com/claims/"+strings.Repeat("customer", 8), "mode", "optional"))

	p := openPanel(t, g, anyChromium)
	p.leave = true
	for _, page := range []struct{ name, query string }{
		{"list", ""}, {"new", "?page=new"}, {"settings-shared-token", "?messenger=acme"}, {"settings-public-key", "?messenger=webshop"},
		{"settings-jwks", "?messenger=partners"}, {"settings-hints", "?messenger=playground"}, {"settings-configuration", "?messenger=support"},
		{"keys-shared-token", "?messenger=acme&page=keys"}, {"keys-none", "?messenger=sales&page=keys"}, {"keys-public-key", "?messenger=webshop&page=keys"},
		{"keys-jwks", "?messenger=partners&page=keys"}, {"keys-unreachable", "?messenger=unreachable&page=keys"},
		{"test", "?messenger=acme&page=test"}, {"embed-shared-token", "?messenger=acme&page=embed"}, {"embed-public-key", "?messenger=webshop&page=embed"},
		{"delete", "?messenger=acme&page=delete"}, {"revocations", "?messenger=webshop&page=revocations"}, {"revocations-none", "?messenger=sales&page=revocations"},
		{"history", "?messenger=webshop&page=history"}, {"settings-long-name", "?messenger=" + long}, {"error", "?messenger=nobody"},
	} {
		p.open(page.query)
		p.shoot(dir, page.name)
	}

	if os.Getenv("MESSENGER_SCREENSHOTS") != "" {
		picture, err := os.ReadFile(filepath.Join(dir, "keys-shared-token-light-wide.png"))
		if err == nil {
			err = os.WriteFile("testdata/panel.png", picture, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}

	p.open("?page=new")
	p.fill("name", "Not A Name")
	p.choose("method-public_key")
	p.paste("key-0", "hello")
	p.click("More conditions")
	p.fill("max_lifetime", "soon")
	p.click("Create messenger")
	p.sees("3 things need your attention")
	p.focuses("name") // the first field that is wrong
	p.shoot(dir, "new-errors")

	p.open("?messenger=webshop")
	p.paste("audience", "chat-shop")
	u.confirmed("webshop", fields("revision", u.get("?messenger=webshop").revision(t), "method", "public_key", "key", string(publicPEM(rsaKey(0))), "audience", "chat-webshop-2", "issuer", "https://www.example.com/", "max_lifetime", "1h"))
	p.click("Save settings")
	p.sees("Nothing was saved: this messenger was changed", "Your version, and what is stored")
	p.shoot(dir, "settings-conflict")

	p.open("?messenger=acme&page=test")
	p.paste("token", sign(token, valid("mark")))
	p.click("Test token")
	p.sees("This token is accepted")
	p.shoot(dir, "test-accepted")
	p.paste("token", sign(token, claims{"identity": "mark", "exp": time.Now().Add(-time.Hour).Unix()}))
	p.click("Test token")
	p.sees("This token is refused")
	p.shoot(dir, "test-refused")

	p.open("?messenger=acme&page=revocations")
	p.fill("contact", "mark")
	p.click("Revoke all tokens of this contact…")
	p.sees("Revoke the tokens of mark?")
	p.shoot(dir, "revoke")

	p.open("?messenger=sales&page=keys")
	p.click("Generate shared token")
	p.sees("It is shown only this once.")
	p.shoot(dir, "secret")
	// The picture of a token shows none that is good for anything.
	evaluate[chromedp.Void](t, p.ctx, `document.getElementById('secret').textContent = 'mst_' + 'x'.repeat(49); document.getElementById('secret-reveal').open = true`)
	evaluate[chromedp.Void](t, p.ctx, `Object.defineProperty(navigator, 'clipboard', { value: { writeText: async () => {} } })`) // not every browser has one
	p.click("Copy token")
	p.sees("Copied.")
	p.shoot(dir, "secret-copied")
}
