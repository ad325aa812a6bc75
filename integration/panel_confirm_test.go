package integration

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// confirmation is what the box of a question has to send.
func (a answer) confirmation(t testing.TB) string {
	t.Helper()
	found := regexp.MustCompile(`name="confirm" value="([^"]+)"`).FindStringSubmatch(a.body)
	if found == nil {
		t.Fatalf("status %d: the page asks nothing: %s", a.status, a.text())
	}
	if strings.Contains(a.body, `name="confirm" value="`+found[1]+`" checked`) {
		t.Error("the box is ticked already")
	}
	return found[1]
}

// confirmed sends a form of the settings, and confirms what is asked.
func (u panelUser) confirmed(name string, form url.Values) answer {
	u.g.t.Helper()
	a := u.post("?messenger="+name, form)
	if a.status == 422 {
		form.Set("confirm", a.confirmation(u.g.t))
		a = u.post("?messenger="+name, form)
	}
	return a
}

// tenKeys are the fields of ten public keys.
func tenKeys(form url.Values) url.Values {
	form = maps.Clone(form)
	form["key"], form["kid"] = nil, nil
	for i := range 10 {
		form.Add("key", string(publicPEM(rsaKey(0))))
		form.Add("kid", fmt.Sprintf("key-%d", i))
	}
	return form
}

// One click on another method dropped ten keys. Every save that makes valid tokens invalid asks first, says how many keys
// it is about, and is bound to what it asked about.
func TestSaveThatRevokesKeysOrTokensNeedsConfirmation(t *testing.T) {
	if !alone(t) {
		return
	}
	g := startPanel(t, nil, "messenger {\njwks_internal_hosts 127.0.0.1\n}")
	u := g.panelOperator()
	keys := newKeyServer(t, publicJWK(rsaKey(0), "a"), publicJWK(rsaKey(1), "b"))
	public := tenKeys(fields("name", "public", "method", "public_key"))
	u.post("?page=new", public)
	u.post("?page=new", fields("name", "set", "method", "jwks", "url", keys.url, "audience", "chat"))
	u.create("shared")
	for range 9 {
		u.change("shared", "generate").secret(t)
	}
	eventually(t, "the key set is fetched", func() bool { return g.refresh("set") == 200 })
	for i, test := range []struct {
		name, messenger string
		change          url.Values
		says            string
	}{
		{"ten shared tokens by another method", "shared", url.Values{"method": {"jwks"}, "url": {"https://login.example.com/keys"}}, "Another method removes the 10 shared tokens"},
		{"ten public keys by another method", "public", url.Values{"method": {"shared_token"}}, "Another method removes the 10 public keys"},
		{"a key set by another method", "set", url.Values{"method": {"shared_token"}}, "Another method removes the 2 keys of the key set"},
		{"another URL", "set", url.Values{"url": {keys.url + "/v2"}}, "Another URL drops the 2 keys of the key set"},
		{"a removed key", "public", url.Values{"key": public["key"][1:], "kid": public["kid"][1:]}, "of 10 public keys (key ID key-0)"},
		{"all keys but one", "public", url.Values{"key": public["key"][:1], "kid": public["kid"][:1]}, "of 10 public keys"},
		{"a replaced key", "public", url.Values{"key": {string(publicPEM(rsaKey(1)))}, "kid": {"new"}}, "Removes 10 of 10 public keys"},
		{"another key ID", "public", url.Values{"kid": append([]string{"other"}, public["kid"][1:]...)}, "Gives 1 of 10 public keys another key ID (key ID key-0)"},
		{"another identity key", "shared", url.Values{"identity_key": {"customer"}}, "signed with the 10 shared tokens"},
		{"an issuer", "shared", url.Values{"issuer": {"https://a.example"}}, "signed with the 10 shared tokens"},
		{"an audience", "public", url.Values{"audience": {"chat"}}, "signed with the 10 public keys"},
		{"another audience", "set", url.Values{"audience": {"other"}}, "tokens with any other than other are refused"},
		{"a required claim", "public", url.Values{"require_claims": {"exp\njti"}}, "tokens without jti are refused"},
		{"a longest lifetime", "shared", url.Values{"max_lifetime": {"15m"}}, "more than 15m are refused"},
		{"the mode Off", "public", url.Values{"mode": {"off"}}, "contacts are no longer verified"},
	} {
		if !sampled(i) {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			page := u.get("?messenger=" + test.messenger)
			form := page.browserForm(t)
			maps.Copy(form, test.change)
			before := g.storedSettings(test.messenger)
			for _, guess := range []string{"", "yes", "on", strings.Repeat("0", 32)} {
				form.Set("confirm", guess)
				a := u.post("?messenger="+test.messenger, form)
				a.says(t, 422, test.says, "Nothing was saved yet")
			}
			asked := u.post("?messenger="+test.messenger, form)
			if fmt.Sprint(g.storedSettings(test.messenger)) != fmt.Sprint(before) {
				t.Error("asking has saved it")
			}
			again := asked.browserForm(t)
			for field := range test.change {
				if field != "key" && field != "kid" && strings.ReplaceAll(again.Get(field), "\r", "") != form.Get(field) {
					t.Errorf("the question has lost %s: %q, want %q", field, again.Get(field), form.Get(field))
				}
			}
			again.Set("confirm", asked.confirmation(t))

			// It answers this question alone.
			other := maps.Clone(again)
			other.Set("identity_key", "another")
			u.post("?messenger="+test.messenger, other).says(t, 422, "Nothing was saved yet")

			// Somebody else's change in between asks again, about what is there then.
			if a := u.post("?messenger="+test.messenger, func() url.Values {
				f := page.browserForm(t)
				f.Set("contact_claims", strings.ReplaceAll(test.name, " ", "_"))
				return f
			}()); a.status != 303 {
				t.Fatalf("a harmless change: %d %s", a.status, a.text())
			}
			conflict := u.post("?messenger="+test.messenger, again)
			conflict.says(t, 409, "Nothing was saved")
			again.Set("revision", conflict.revision(t))
			asked = u.post("?messenger="+test.messenger, again)
			asked.says(t, 422, test.says)

			// Another site cannot confirm it, and the operator can.
			again.Set("confirm", asked.confirmation(t))
			u.post("?messenger="+test.messenger, again, "Sec-Fetch-Site: cross-site").says(t, 403)
			if a := u.post("?messenger="+test.messenger, again); a.status != 303 {
				t.Errorf("confirmed: %d %s", a.status, a.text())
			}
			if a := u.post("?messenger="+test.messenger, again); a.status != 409 {
				t.Errorf("sent twice: %d", a.status)
			}
			restore := before
			g.operator().put(test.messenger, restore)
			if test.messenger == "shared" && test.change.Get("method") != "" {
				for range 10 {
					u.change("shared", "generate").secret(t)
				}
			}
			if test.messenger == "set" {
				eventually(t, "the key set is fetched", func() bool { return g.refresh("set") == 200 })
			}
		})
	}
}

// What ends nothing is saved at once.
func TestHarmlessSaveNeedsNoConfirmation(t *testing.T) {
	g := startPanel(t, nil, "")
	u := g.panelOperator()
	u.create("acme")
	u.post("?page=new", tenKeys(fields("name", "public", "method", "public_key", "audience", "chat", "max_lifetime", "1h")))
	u.post("?page=new", fields("name", "empty"))
	for _, test := range []struct {
		name, messenger string
		change          url.Values
	}{
		{"nothing", "acme", nil},
		{"a wider audience", "public", url.Values{"audience": {"chat\nother"}}},
		{"any audience", "public", url.Values{"audience": {""}}},
		{"no longest lifetime", "public", url.Values{"max_lifetime": {""}}},
		{"the mode Report", "public", url.Values{"mode": {"report"}}},
		{"fewer required claims", "acme", url.Values{"require_claims": {""}}},
		{"contact information", "acme", url.Values{"contact_claims": {"name"}}},
		{"another method where there is no token yet", "empty", url.Values{"method": {"public_key"}, "key": {string(publicPEM(rsaKey(0)))}}},
	} {
		form := u.get("?messenger=" + test.messenger).browserForm(t)
		maps.Copy(form, test.change)
		if a := u.post("?messenger="+test.messenger, form); a.status != 303 {
			t.Errorf("%s: %d %s", test.name, a.status, a.text())
		}
	}
}

// What is about to end is counted on the page that asks.
func TestPagesThatRevokeTokensShowTheirNumber(t *testing.T) {
	g := startPanel(t, nil, "")
	u := g.panelOperator()
	u.create("acme")
	for range 3 {
		u.change("acme", "generate").secret(t)
	}
	u.post("?page=new", tenKeys(fields("name", "public", "method", "public_key")))
	u.get("?messenger=acme&page=keys").says(t, 200, "the 4 old ones expire", "revokes all 4 tokens at once", "All 4 tokens are revoked at once")
	u.get("?messenger=acme&page=delete").says(t, 200, "the 4 shared tokens")
	u.get("?messenger=public&page=delete").says(t, 200, "the 10 public keys")
	u.change("acme", "reset").says(t, 422, "tick the box")
}
