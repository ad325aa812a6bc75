package integration

import (
	"maps"
	"net/url"
	"strings"
	"testing"
)

// Every form of the page Keys that ends something says in numbers what that is, and does nothing without its confirmation, by another
// site, or with what another operator has changed in between.
func TestRemovingKeysNeedsConfirmation(t *testing.T) {
	g := startPanel(t, newChat(t).upstream, "messenger {\njwks_internal_hosts 127.0.0.1\n}")
	u, other := g.panelOperator(), g.owner("acme")
	secret := u.create("acme")
	u.change("acme", "generate").secret(t)
	u.change("acme", "generate").secret(t)
	s := g.openEcho("acme", sign(secret, valid("mark")))
	g.get("/acme/hello", bearer(sign(secret, valid("zoe"))))
	const numbers = "Of 3 shared tokens, 1 was used in the last day. In the last day this gateway had 2 requests with a valid token; it has 1 open connection of this messenger."
	keys, settings := "?messenger=acme&page=keys", "?messenger=acme"
	page := u.get(keys)
	if n := strings.Count(page.text(), numbers); n != 5 { // of three tokens, of the rotation and of the reset
		t.Errorf("the numbers are on the page %d times: %s", n, page.text())
	}
	page.says(t, 200, "It was never used.", "It was last used")
	u.get("?messenger=acme&page=delete").says(t, 200, "the 3 shared tokens", numbers, "Its connections are closed.")
	u.post("?messenger=acme&page=revocations", url.Values{"what": {"all"}, "action": {"look"}}).says(t, 200, "1 of 1 open on this gateway is closed", numbers)
	for name, change := range map[string]url.Values{
		"the method":       {"method": {"public_key"}, "key": {string(publicPEM(rsaKey(0)))}},
		"the identity key": {"identity_key": {"customer"}},
		"the issuer":       {"issuer": {"https://a.example"}},
		"the audience":     {"audience": {"chat"}},
		"the token type":   {"token_type": {"at+jwt"}},
		"the mode Off":     {"mode": {"off"}},
		"another way":      {"method": {"jwks"}, "url": {"https://login.example.com/keys"}},
	} {
		form := u.get(settings).browserForm(t)
		maps.Copy(form, change)
		a := u.post(settings, form)
		a.says(t, 422, numbers, map[bool]string{true: "Connections whose key is not in the new key set are closed", false: "Open connections stay open until their tokens expire"}[form.Get("url") != ""])
		if offers := strings.Contains(a.body, `name="keep_previous"`); offers != (change.Get("method") != "") {
			t.Errorf("%s: keeping the previous method is offered: %t", name, offers)
		}
	}
	ring := g.operator().ring("acme")
	unchanged := func(what string) {
		t.Helper()
		if now := g.operator().ring("acme"); now.Revision != ring.Revision {
			t.Errorf("%s: the tokens have changed", what)
		}
	}
	kid := ring.Tokens[0].KID
	for action, form := range map[string]url.Values{
		"revoke": {"kid": {kid}}, "reset": {}, "rotate": {"overlap": {"24h"}},
	} {
		form.Set("action", action)
		form.Set("revision", ring.Revision)
		u.post(keys, form).says(t, 422, "tick the box")
		form.Set("confirm", "yes")
		u.post(keys, form, "Sec-Fetch-Site: cross-site").says(t, 403)
		form.Del("revision")
		u.post(keys, form).says(t, 400, "does not say which version")
		unchanged(action)
	}
	for _, overlap := range []string{"0", "0s", "", "-1h", "1s"} { // without an overlap it is a reset, which asks
		u.post(keys, url.Values{"action": {"rotate"}, "overlap": {overlap}, "revision": {ring.Revision}, "confirm": {"yes"}}).says(t, 400, "Choose how long")
		unchanged("rotate with the overlap " + overlap)
	}

	// Two people have the page open. The first revokes a token; whatever the second sends from the old page changes nothing.
	first := url.Values{"action": {"revoke"}, "kid": {kid}, "confirm": {"yes"}, "revision": {ring.Revision}}
	if a := other.post(keys, first); a.status != 303 {
		t.Fatalf("revoke: %d %s", a.status, a.text())
	}
	ring = g.operator().ring("acme")
	for _, form := range []url.Values{
		first, {"action": {"reset"}, "confirm": {"yes"}}, {"action": {"rotate"}, "overlap": {"1h"}, "confirm": {"yes"}}, {"action": {"generate"}},
		{"action": {"import"}, "secret": {newSecret()}}, {"action": {"extend"}, "kid": {ring.Tokens[0].KID}, "overlap": {"1h"}},
		{"action": {"revoke"}, "kid": {ring.Tokens[0].KID}, "confirm": {"yes"}},
	} {
		form.Set("revision", page.revision(t))
		u.post(keys, form).says(t, 409, "Nothing was changed now")
		unchanged(form.Get("action") + " from an old page")
	}
	s.lives(t, "of a token that stays")

	// The previous method, with what it still has.
	form := u.get(settings).browserForm(t)
	maps.Copy(form, url.Values{"method": {"public_key"}, "key": {string(publicPEM(rsaKey(0)))}, "keep_previous": {"24h"}})
	if a := u.confirmed("acme", form); a.status != 303 {
		t.Fatalf("the method: %d %s", a.status, a.text())
	}
	page = u.get(keys)
	page.says(t, 200, "This ends 2 shared tokens. Of 2 shared tokens, 1 was used in the last day.", "Extend")
	end := url.Values{"action": {"previous-end"}, "revision": {u.get(settings).revision(t)}}
	u.post(keys, end).says(t, 422, "tick the box")
	end.Set("confirm", "yes")
	u.post(keys, end, "Sec-Fetch-Site: cross-site").says(t, 403)
	stale := maps.Clone(end)
	if a := other.post(keys, url.Values{"action": {"previous-extend"}, "overlap": {"720h"}, "revision": {end.Get("revision")}}); a.status != 303 {
		t.Fatalf("extend: %d %s", a.status, a.text())
	}
	u.post(keys, stale).says(t, 409, "Nothing was changed now")
	end.Set("revision", u.get(settings).revision(t))
	if a := u.post(keys, end); a.status != 303 {
		t.Errorf("ending the previous method: %d %s", a.status, a.text())
	}
	if a := g.get("/acme/hello", bearer(sign(secret, valid("zoe")))); a.status != 401 {
		t.Errorf("a token of the previous method: %d", a.status)
	}
	u.post("?messenger=acme&page=delete", url.Values{"typed": {"acm"}, "revision": {u.get(settings).revision(t)}}).says(t, 422, "not the name")
	u.get(settings).says(t, 200, "acme")
	if a := u.post("?messenger=acme&page=delete", url.Values{"typed": {"acme"}, "revision": {u.get(settings).revision(t)}}); a.status != 303 || s.ended() == "" {
		t.Errorf("delete: %d", a.status)
	}
}
