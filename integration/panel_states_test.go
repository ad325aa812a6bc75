package integration

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// send sends a form from the page in the tab, as the page itself would.
func (p *panelTab) send(query string, fields url.Values) {
	p.t.Helper()
	evaluate[chromedp.Void](p.t, p.ctx, `((query, fields) => {
		const form = document.createElement('form')
		form.method = 'post'
		form.action = query
		for (const [name, values] of Object.entries(fields)) for (const value of values) {
			const field = document.createElement('textarea')
			field.name = name
			field.value = value
			form.append(field)
		}
		document.body.append(form)
		form.submit()
	})(`+mustJSON(query)+`, `+mustJSON(fields)+`)`)
}

// as makes the operator of the tab another one.
func (p *panelTab) as(name, url string) {
	p.t.Helper()
	p.url = url
	login := base64.StdEncoding.EncodeToString([]byte(name + ":" + panelPassword))
	devtools(p.t, p.ctx, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Authorization": "Basic " + login}})
}

// Pages have states that a first visit does not show: what is folded, what is asked, what is wrong, what is empty, what another mount
// shows. Everything is unfolded, fits into a narrow window, and axe finds nothing. With MESSENGER_SOAK=1 these are all states, otherwise
// those with the most in them.
func TestBrowserStates(t *testing.T) {
	if !alone(t) {
		return
	}
	keys := newKeyServer(t, publicJWK(rsaKey(1), "a"), jwk{"kty": "EC", "crv": "P-256", "kid": "ec"})
	g := startPanel(t, nil, "messenger {\njwks_internal_hosts 127.0.0.1\n}\nmessenger fixed {\nidentity_key identity\nshared_token\n}")
	u := g.panelOperator()
	secret, chat := u.create("acme"), u.create("chat")
	u.post("?page=new", tenKeys(fields("name", "many", "method", "public_key")))
	u.post("?page=new", fields("name", "set", "method", "jwks", "url", keys.url, "audience", "chat"))
	u.post("?page=new", fields("name", "away", "method", "jwks", "url", "http://127.0.0.1:1/jwks.json"))
	u.post("?page=new", fields("name", "empty", "mode", "report"))
	for range 3 {
		g.get("/empty/", bearer(sign(secret, valid("mark"))))
		g.get("/empty/")
	}
	eventually(t, "the key set is fetched", func() bool { return g.refresh("set") == 200 })
	odd := strings.Repeat("W", 64)
	for i := range 5 {
		u.change("acme", "import", "secret", newSecret(), "kid", fmt.Sprintf("%s %d <b>\"'", odd, i), "label", odd)
	}
	u.change("acme", "rotate", "overlap", "1h").secret(t)
	moved := u.get("?messenger=many").browserForm(t)
	maps.Copy(moved, url.Values{"method": {"shared_token"}, "keep_previous": {"24h"}})
	for _, what := range []url.Values{{"what": {"contact"}, "contact": {odd + odd}}, {"what": {"token"}, "token": {odd}}, {"what": {"all"}}} {
		u.revoke("acme", what)
	}
	jti := sign(chat, with(valid("mark"), claims{"jti": odd, "long": strings.Repeat("claim ", 500)}))
	strict := u.get("?messenger=acme").browserForm(t)
	maps.Copy(strict, url.Values{"method": {"jwks"}, "url": {keys.url}, "identity_key": {"customer"}, "allowed_origin": {"https://www.example.com"}, "fail_limit": {"5/1m"}})
	revision := func(query string) string { return u.get(query).revision(t) }

	p := openPanel(t, g, anyChromium)
	p.answer(true)
	count := 0
	always := map[string]bool{"ten keys": true, "a question with everything": true, "mistakes of an import": true, "a previous method that ends": true, "an accepted token": true,
		"revocations": true, "the test of an address": true, "a previous method": true}
	look := func(name string, says ...string) {
		t.Helper()
		p.sees(says...)
		evaluate[chromedp.Void](t, p.ctx, `document.querySelectorAll('details').forEach(d => { d.removeAttribute('name'); d.open = true }); document.querySelectorAll('[data-outcome]').forEach(e => e.hidden = false)`)
		sizes := []int64{320, 1440}
		if !soaking() {
			sizes = sizes[count%2:][:1]
		}
		for _, width := range sizes {
			scheme := map[int64]string{320: "dark", 1440: "light"}[width]
			devtools(t, p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
			browse(t, p.ctx, chromedp.EmulateViewport(width, 900))
			p.checkAccessible(fmt.Sprintf("%s, %s, %d", name, scheme, width))
		}
		browse(t, p.ctx, chromedp.EmulateViewport(320, 900))
		within(t, 10*time.Second, name+": the page is as wide as the window", func() bool {
			return evaluate[int](t, p.ctx, "document.documentElement.scrollWidth - innerWidth") <= 0
		})
		count++
	}
	for _, page := range []struct {
		name, query string
		form        url.Values
		says        string
	}{
		{"new, unfolded", "?page=new", nil, "More conditions"},
		{"the list, filtered", "?search=a&mode=report&sort=changed", nil, "No messenger found"},
		{"a page of the list", "?after=b&sort=", nil, "First page"},
		{"ten keys", "?messenger=many", nil, "Public key 10"},
		{"figures that do not justify enforcement", "?messenger=empty", nil, "Requests like 6 of the 6"},
		{"enforcement that was not confirmed", "?messenger=empty&page=enforce", url.Values{"revision": {revision("?messenger=empty")}}, "tick the box"},
		{"a question with everything", "?messenger=acme", strict, "What this change makes invalid"},
		{"a conflict", "?messenger=acme", fields("revision", "old", "audience", odd+odd), "Your version, and what is stored"},
		{"shared tokens", "?messenger=acme&page=keys", nil, "Rotate"},
		{"mistakes of an import", "?messenger=acme&page=keys", url.Values{"action": {"import"}, "secret": {"x"}, "kid": {odd + odd + odd + odd + odd}, "label": {odd + "x"}, "revision": {"x"}}, "3 things need your attention"},
		{"a label of a rotation", "?messenger=acme&page=keys", url.Values{"action": {"rotate"}, "label": {odd + "x"}, "revision": {"x"}}, "One thing needs your attention"},
		{"a form about keys that was sent before", "?messenger=acme&page=keys", url.Values{"action": {"generate"}, "revision": {"old"}}, "Nothing was changed now"},
		{"a previous method", "?messenger=many", moved, ""},
		{"a previous method that ends", "?messenger=many&page=keys", nil, "End it now…"},
		{"a key set that is not there", "?messenger=away&page=keys", nil, "Key set"},
		{"a key set", "?messenger=set&page=keys", nil, "Not used"},
		{"an accepted token", "?messenger=chat&page=test", url.Values{"token": {jti}}, "This token is accepted"},
		{"a refused token", "?messenger=acme&page=test", url.Values{"token": {strings.Repeat("Bearer x.", 300)}}, "This token is refused"},
		{"no token", "?messenger=acme&page=test", url.Values{"token": {""}}, "Token is empty"},
		{"revocations", "?messenger=acme&page=revocations", nil, "Applies until"},
		{"a revocation of a token", "?messenger=chat&page=revocations", url.Values{"what": {"token"}, "token": {jti}, "action": {"look"}}, "Expires by itself"},
		{"a revocation of all", "?messenger=acme&page=revocations", url.Values{"what": {"all"}, "action": {"look"}}, "Revoke the tokens of all contacts?"},
		{"a mistake in a revocation", "?messenger=acme&page=revocations", url.Values{"what": {"contact"}, "action": {"look"}}, "Contact identity is empty"},
		{"programs", "?messenger=acme&page=embed", nil, "The program"},
		{"the test of an address", "?messenger=acme&page=embed", url.Values{"address": {"https://chat.example.com/" + odd + odd}}, "Call the gateway"},
		{"a mistake in the address", "?messenger=acme&page=embed", url.Values{"address": {"chat"}}, "The address begins with"},
		{"a deletion with another name", "?messenger=acme&page=delete", url.Values{"typed": {odd}, "revision": {"x"}}, "not the name of this messenger"},
		{"an empty history", "?messenger=fixed&page=history", nil, "Nothing was changed yet."},
		{"a configured messenger", "?messenger=fixed", nil, "Change it there."},
		{"an error of a page", "?mode=none", nil, "This page cannot be shown"},
		{"an error of a form", "?messenger=acme&page=keys", url.Values{"action": {"generate"}}, "Back to the page"},
		{"a form that is too large", "?messenger=acme", url.Values{"audience": {strings.Repeat("x", 70<<10)}}, "The form has more than 64 KiB"},
	} {
		if !always[page.name] && !soaking() {
			continue
		}
		if p.open(page.query); page.form != nil {
			p.open("")
			p.send(page.query, page.form)
		}
		look(page.name, page.says)
	}
	// The same search as a browser's "back" button would show it: what was done is said once.
	p.open("?messenger=acme&page=keys&done=revoked&ended=7")
	p.sees("Rotate")
	if said := pageText(p.ctx); strings.Contains(said, "was revoked") {
		t.Errorf("a link says that something was done: %s", said)
	}
	if !soaking() {
		return
	}
	p.as("other", g.url+"/own")
	p.open("")
	look("a mount without its messenger", "There is no messenger of this name yet.")
	p.open("?messenger=acme")
	look("a messenger of others", "There is no such page")
	p.as("acme", g.url+"/own")
	p.open("?messenger=acme&page=history")
	look("a history for its owner", "Shared token imported")
}
