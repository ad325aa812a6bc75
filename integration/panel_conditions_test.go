package integration

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A careless operator makes one condition stricter, each in turn, in a form with many fields. Every one of them refuses contacts who
// were not refused before, and is asked about first, in numbers. The way back refuses no contact and is saved at once, unless it is
// stricter in another way.
func TestStricterConditionsNeedConfirmation(t *testing.T) {
	if !alone(t) {
		return
	}
	storeKey := write(t, "store.key", []byte(base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))))
	g := startPanel(t, nil, "messenger {\njwks_internal_hosts 127.0.0.1\nstore {\nkey {file."+storeKey+"}\n}\n}")
	u, o := g.panelOperator(), g.operator()
	keys := newKeyServer(t, publicJWK(rsaKey(0), "a"))
	u.create("acme")
	u.post("?page=new", fields("name", "set", "method", "jwks", "url", keys.url, "audience", "chat"))
	u.post("?page=new", fields("name", "away", "method", "jwks", "url", "http://127.0.0.1:1/jwks.json"))
	eventually(t, "the key set is fetched", func() bool { return g.refresh("set") == 200 })
	const signed = "including those that are signed with the only shared token"
	for i, test := range []struct {
		messenger, field, from, to string
		says                       string // "" if nothing is asked
		back                       string // what the way back asks
	}{
		{"acme", "identity_key", "identity", "customer", signed, "tokens without the claim identity"},
		{"acme", "audience", "", "chat", signed, ""},
		{"acme", "issuer", "https://a.example\nhttps://b.example", "https://b.example", "tokens with any other than https://b.example", ""},
		{"acme", "require_claims", "exp", "exp\njti", "tokens without jti", ""},
		{"acme", "max_lifetime", "", "15m", "tokens without exp or iat", ""},
		{"acme", "max_lifetime", "1h", "15m", "more than 15m", ""},
		{"acme", "clock_skew", "", "0s", "more than 0s apart, " + signed, ""},
		{"acme", "clock_skew", "5m", "", "more than 1m apart", ""},
		{"acme", "token_type", "", "chat+jwt", "another typ than chat+jwt", "Tokens are accepted with the typ JWT, at+jwt or JOSE, or without one."},
		{"acme", "token_type", "", "at+jwt", "another typ than at+jwt", ""},
		{"acme", "allowed_origin", "", "https://www.example.com", "pages of any other origin than https://www.example.com are refused, whatever their token", ""},
		{"acme", "allowed_origin", "https://www.example.com\nhttps://shop.example.com", "https://www.example.com", "pages of any other origin", ""},
		{"acme", "allowed_origin", "https://www.example.com", "https://WWW.example.com:443\nhttps://shop.example.com", "", "pages of any other origin"},
		{"acme", "max_session", "", "1m", "closed after 1m", ""},
		{"acme", "max_session", "0", "24h", "closed after 24h", ""},
		{"acme", "fail_limit", "", "5/1m", "has sent 5 forged tokens within 1m", ""},
		{"acme", "fail_limit", "5/1m", "5/1h", "has sent 5 forged tokens within 1h", ""},
		{"acme", "fail_limit", "20/1m", "10/30s", "has sent 10 forged tokens within 30s", ""},
		{"acme", "mode", "off", "required", "Mode Required: requests without a valid token are refused from then on. No request was counted in the last day", "contacts are no longer verified"},
		{"acme", "mode", "report", "required", "Mode Required", ""},
		{"acme", "mode", "optional", "required", "Mode Required", ""},
		{"acme", "mode", "report", "optional", "Mode Optional: requests with an invalid token are refused", ""},
		{"acme", "shared_alg", "", "HS512", "tokens with the alg HS256", "tokens with the alg HS512"},
		{"acme", "contact_claims", "", "name", "", ""},
		{"set", "algorithms", "RS256\nES256", "RS256", "tokens with the alg ES256", ""},
		{"set", "algorithms", "", "RS256\nPS256", "keys of the key set that do not name their own alg are not used any more", "tokens with the alg PS256"},
		{"set", "algorithms", "", "RS256\nES256", "", "tokens with the alg ES256"},
		{"set", "header", "", "X-Api-Key: typed-secret", "Another request header: the key set is fetched again", "Another request header"},
		{"set", "timeout", "", "3s", "", ""},
		{"away", "audience", "", "chat", "the keys of the key set, whose number is not known right now", ""},
		{"away", "url", "http://127.0.0.1:1/jwks.json", "http://127.0.0.1:1/v2.json", "Another URL drops the keys of the key set, whose number is not known", "Another URL"},
	} {
		if !sampled(i) {
			continue
		}
		base := u.get("?messenger=" + test.messenger).browserForm(t)
		base.Set(test.field, test.from)
		if a := u.confirmed(test.messenger, base); a.status != 303 {
			t.Fatalf("%s: from %q: %d %s", test.field, test.from, a.status, a.text())
		}
		for _, step := range []struct{ value, says string }{{test.to, test.says}, {test.from, test.back}} {
			what := fmt.Sprintf("%s: %s becomes %q", test.messenger, test.field, step.value)
			form := u.get("?messenger=" + test.messenger).browserForm(t)
			form.Set(test.field, step.value)
			before := fmt.Sprint(g.storedSettings(test.messenger))
			a := u.post("?messenger="+test.messenger, form)
			if step.says == "" {
				if a.status != 303 {
					t.Errorf("%s: it is asked: %d %s", what, a.status, a.text())
				}
				continue
			}
			if a.status != 422 || !strings.Contains(a.text(), step.says) || !strings.Contains(a.text(), "In the last day this gateway had") {
				t.Errorf("%s: the page does not say %q: %d %s", what, step.says, a.status, a.text())
				continue
			}
			if fmt.Sprint(g.storedSettings(test.messenger)) != before {
				t.Errorf("%s: asking has saved it", what)
			}
			if a := u.confirmed(test.messenger, form); a.status != 303 {
				t.Errorf("%s: confirmed: %d %s", what, a.status, a.text())
			}
		}
	}

	// A claim with a slash in its name, and a path that looks the same; a path to the claim that the identity key names.
	for _, test := range []struct{ key, path, says string }{{"/id", "/id", "Another contact identity key: tokens without the claim /id"}, {"id", "/id", ""}} {
		o.put("acme", map[string]any{"identity_key": test.key, "shared_token": map[string]any{}})
		form := u.get("?messenger=acme").browserForm(t)
		maps.Copy(form, url.Values{"identity_key": {""}, "identity_path": {test.path}})
		if a := u.post("?messenger=acme", form); (a.status == 303) != (test.says == "") || !strings.Contains(a.text(), test.says) {
			t.Errorf("the path %s in place of the key %s: %d %s", test.path, test.key, a.status, a.text())
		}
	}
}

// A site is in the middle of a change of its method: the new one has no key yet, and all contacts come with tokens of the previous one.
// A careless save asks before it ends these.
func TestSaveDuringAMethodChangeNeedsConfirmation(t *testing.T) {
	g := startPanel(t, nil, "")
	u := g.panelOperator()
	u.post("?page=new", fields("name", "acme", "method", "public_key", "key", string(publicPEM(rsaKey(0)))))
	form := u.get("?messenger=acme").browserForm(t)
	maps.Copy(form, url.Values{"method": {"shared_token"}, "keep_previous": {"24h"}})
	if a := u.post("?messenger=acme", form); a.status != 303 {
		t.Fatalf("the method: %d %s", a.status, a.text())
	}
	works := func() {
		t.Helper()
		if a := g.get("/acme/hello", bearer(sign(rsaKey(0), valid("mark")))); a.status != 200 {
			t.Errorf("a token of the previous method: %d", a.status)
		}
	}
	works()
	for field, test := range map[string]struct{ value, says string }{
		"identity_key": {"customer", "signed with those of the previous method (Public key)"},
		"audience":     {"chat", "signed with those of the previous method (Public key)"},
		"mode":         {"off", "signed with those of the previous method (Public key)"},

		// The method without a key is kept, in place of the one with all the contacts.
		"keep_previous": {"24h", "The previous method (Public key) ends now"},
	} {
		form := u.get("?messenger=acme").browserForm(t)
		form.Set(field, test.value)
		if field == "keep_previous" {
			maps.Copy(form, url.Values{"method": {"jwks"}, "url": {"https://login.example.com/keys"}})
		}
		u.post("?messenger=acme", form).says(t, 422, test.says, "Nothing was saved yet")
	}
	// What was given a day is not extended by an hour, and the page does not say so.
	extend := url.Values{"action": {"previous-extend"}, "overlap": {"1h"}, "revision": {u.get("?messenger=acme").revision(t)}}
	u.post("?messenger=acme&page=keys", extend).says(t, 409, "Nothing was changed: the previous method is valid until")
	extend.Set("overlap", "168h")
	if a := u.post("?messenger=acme&page=keys", extend); a.status != 303 {
		t.Errorf("extending it: %d %s", a.status, a.text())
	}
	works()
}

// A page that was opened before an upgrade of the gateway does not have the fields of new settings. What it does not send stays.
func TestMissingFieldsKeepTheirSettings(t *testing.T) {
	g := startPanel(t, nil, "")
	u := g.panelOperator()
	u.create("acme")
	full := u.get("?messenger=acme").browserForm(t)
	maps.Copy(full, url.Values{"max_lifetime": {"1h"}, "audience": {"chat"}, "mode": {"report"}, "fail_limit": {"20/1m"}})
	if a := u.confirmed("acme", full); a.status != 303 {
		t.Fatalf("%d %s", a.status, a.text())
	}
	before := fmt.Sprint(g.storedSettings("acme"))
	if a := u.post("?messenger=acme", url.Values{"method": {"shared_token"}, "revision": {u.get("?messenger=acme").revision(t)}}); a.status != 303 {
		t.Errorf("%d %s", a.status, a.text())
	}
	if after := fmt.Sprint(g.storedSettings("acme")); after != before {
		t.Errorf("got %s, want %s", after, before)
	}
}

// The page that asks about a revocation is sent twice, from the history of the browser, by two people, or without having been shown. It
// revokes once. A form to undo a revocation does not undo a later one of the same contact.
func TestRevocationsAreMadeAndUndoneOnce(t *testing.T) {
	g := startPanel(t, nil, "")
	u, other := g.panelOperator(), g.owner("acme")
	u.create("acme")
	const page = "?messenger=acme&page=revocations"
	list := func() string {
		return g.operator().want(http.StatusOK, http.MethodGet, "messengers/acme/revocations", nil).body
	}
	for _, form := range []url.Values{{"what": {"contact"}, "contact": {"mark"}}, {"what": {"token"}, "token": {"a"}}, {"what": {"all"}}, {"what": {"hash"}, "hash": {strings.Repeat("5f", 32)}}} {
		form.Set("action", "look")
		question, otherQuestion := u.post(page, form).hiddenFields(), other.post(page, form).hiddenFields()
		before := list()
		for _, revision := range []string{"", "yes", strings.Repeat("0", 32)} {
			guess := maps.Clone(form)
			guess.Set("action", "revoke")
			guess.Set("revision", revision)
			if a := u.post(page, guess); a.status != 400 && a.status != 409 {
				t.Errorf("%s without its question: %d %s", form.Get("what"), a.status, a.text())
			}
		}
		if list() != before {
			t.Errorf("%s was revoked without its question", form.Get("what"))
		}
		question.Set("action", "revoke")
		if a := u.post(page, question); a.status != 303 {
			t.Fatalf("%s: %d %s", form.Get("what"), a.status, a.text())
		}
		after := list()
		u.post(page, question).says(t, 409, "this form was sent before, or the same tokens were revoked since")
		otherQuestion.Set("action", "revoke")
		other.post(page, otherQuestion).says(t, 409, "Nothing was changed now")
		if list() != after {
			t.Errorf("%s was revoked twice", form.Get("what"))
		}
	}
	keyOf := func() url.Values {
		body, _, _ := strings.Cut(u.get(page).body, "Undo this revocation")
		return url.Values{"action": {"undo"}, "confirm": {"yes"}, "key": {body[strings.LastIndex(body, `name="key" value="`)+18:][:32]}}
	}
	u.revoke("acme", url.Values{"what": {"contact"}, "contact": {"zoe"}})
	old := keyOf()
	if a := other.post(page, keyOf()); a.status != 303 {
		t.Fatalf("undo: %d %s", a.status, a.text())
	}
	u.revoke("acme", url.Values{"what": {"contact"}, "contact": {"zoe"}})
	u.post(page, old).says(t, 409, "was undone already, or it has expired")
}

// A rotation is confirmed like everything else that lets tokens expire, and a shared token that was made is shown even if the storage
// fails in the next moment: it exists, it is shown once, and after a reset no other one is valid.
func TestNewTokenIsShownWhenTheStorageFails(t *testing.T) {
	c := newFaultCluster(t, onFolder, clusterSettings{nodes: 1, site: "handle_path /panel* {\nbasic_auth bcrypt {\noperator " + panelHash + "\n}\nmessenger_panel\n}\nhandle {\nmessenger_auth {path.0}\nrespond ok\n}"})
	n, w := c.nodes[0], c.wires[0]
	u := panelUser{n.gateway, "/panel", "operator"}
	secret := u.create("acme")
	u.post("?page=keys&messenger=acme", url.Values{"action": {"rotate"}, "overlap": {"24h"}, "revision": {u.get("?page=keys&messenger=acme").revision(t)}}).says(t, 422, "tick the box")
	form := url.Values{"action": {"reset"}, "confirm": {"yes"}, "revision": {u.get("?page=keys&messenger=acme").revision(t)}}
	var refused atomic.Bool
	off := w.on(func(s step) fate {
		if !s.of("acme") || !strings.Contains(n.logs(), "shared tokens reset") { // the change is complete when it is in the audit log
			return forward
		}
		refused.Store(true)
		return refuse
	})
	made := u.post("?page=keys&messenger=acme", form)
	off()
	if !refused.Load() {
		t.Error("nothing was asked of the storage after the change")
	}
	renewed := made.secret(t)
	if renewed == secret {
		t.Error("the token is the old one")
	}
	u.post("?page=keys&messenger=acme", form).says(t, 409, "Nothing was changed now")
	if a := n.get("/acme/hello", bearer(sign(renewed, claims{"identity": "mark", "exp": time.Now().Add(time.Hour).Unix()}))); a.status != 200 {
		t.Errorf("a token of the new one: %d %s", a.status, a.body)
	}
}
