package integration

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// The operators of the panel's tests have one password.
const (
	panelPassword = "correct horse"
	panelHash     = "$2a$04$S9r5FDoAbk3TA7t5mQJyF.eJ6oU.9xD/Lf3ncqcbRjDGYh7XWE9Q6"
)

func TestPanelAdministersAMessengerWithoutAScript(t *testing.T) {
	up := newUpstream(t)
	g := startPanel(t, up, "")
	u := g.panelOperator()
	u.get("").says(t, 200, "Signed in as operator", "No messengers yet")
	first := u.create("acme")
	if !strings.HasPrefix(first, "mst_") {
		t.Errorf("the shared token does not look like one")
	}
	if a := g.get("/acme/hello", bearer(sign(first, valid("mark")))); a.status != 200 {
		t.Fatalf("a token signed with the new shared token: %d %s", a.status, a.body)
	}
	if r := up.one(t); r.header.Get("X-Contact-Identity") != "mark" || r.header.Get("X-Contact-Messenger") != "acme" {
		t.Errorf("the backend got %v", r.header)
	}

	second := u.change("acme", "rotate", "overlap", "24h").secret(t)
	for _, token := range []string{first, second} {
		if a := g.get("/acme/", bearer(sign(token, valid("mark")))); a.status != 200 {
			t.Errorf("during the overlap: %d %s", a.status, a.body)
		}
	}
	keys := u.get("?page=keys&messenger=acme")
	keys.says(t, 200, "Active", "Expiring", "in 24 hours")
	kids := regexp.MustCompile(`for="revoke-(\d[^"]+)"`).FindAllStringSubmatch(keys.body, -1)
	if len(kids) != 2 {
		t.Fatalf("the page lists %d tokens, want 2", len(kids))
	}
	u.change("acme", "revoke", "kid", kids[1][1]).says(t, 422, "tick the box")
	if a := u.change("acme", "revoke", "kid", kids[1][1], "confirm", "yes"); a.status != 303 {
		t.Errorf("revoke: %d %s", a.status, a.text())
	}
	if a := g.get("/acme/", bearer(sign(first, valid("mark")))); a.status != 401 {
		t.Errorf("the revoked token: %d", a.status)
	}
	third := u.change("acme", "reset", "confirm", "yes").secret(t)
	if a := g.get("/acme/", bearer(sign(second, valid("mark")))); a.status != 401 {
		t.Errorf("a token from before the reset: %d", a.status)
	}
	if a := g.get("/acme/", bearer(sign(third, valid("mark")))); a.status != 200 {
		t.Errorf("the token of the reset: %d", a.status)
	}

	settings := u.get("?messenger=acme")
	if a := u.confirmed("acme", fields("revision", settings.revision(t), "audience", " chat \r\n\r\nchat\r\n", "max_lifetime", "2h")); a.status != 303 {
		t.Fatalf("saving: %d %s", a.status, a.text())
	}
	u.get("?messenger=acme&done=saved").says(t, 200, "The settings were saved")
	if a := g.get("/acme/", bearer(sign(third, valid("mark")))); a.status != 401 || a.code(t) != "audience_not_allowed" {
		t.Errorf("a token without the audience: %d %s", a.status, a.body)
	}
	if a := g.get("/acme/", bearer(sign(third, forChat("mark")))); a.status != 200 {
		t.Errorf("a token with the audience: %d %s", a.status, a.body)
	}

	deletion := u.get("?page=delete&messenger=acme")
	typed := url.Values{"revision": {deletion.revision(t)}, "typed": {"acm"}}
	u.post("?page=delete&messenger=acme", typed).says(t, 422, "not the name of this messenger")
	typed.Set("typed", "acme")
	if a := u.post("?page=delete&messenger=acme", typed); a.status != 303 || a.header.Get("Location") != "?done=deleted" {
		t.Errorf("delete: %d %s", a.status, a.text())
	}
	u.get("?messenger=acme").says(t, 404)
	for _, want := range []string{"messenger created", "shared token generated", "shared tokens rotated", "shared token revoked", "shared tokens reset", "messenger changed", "messenger deleted"} {
		if !regexp.MustCompile(`"logger":"messenger.audit","msg":"` + want + `","messenger":"acme","by":"panel, operator"`).MatchString(g.logs()) {
			t.Errorf("the audit log does not say %q", want)
		}
	}
}

// What is wrong with a form is said beside it, with what was typed still in it.
func TestPanelSaysWhatIsWrongWithAForm(t *testing.T) {
	g := startPanel(t, nil, "messenger fixed {\nidentity_key identity\nshared_token\n}")
	u := g.panelOperator()
	private := string(privatePEM(rsaKey(0)))
	for _, test := range []struct {
		name     string
		form     url.Values
		id, says string
	}{
		{"a bad name", fields("name", "Not A Name"), "name", "Name must begin with a lower-case letter"},
		{"no name", fields("name", ""), "name", "Name must have 1 to 63 characters"},
		{"a name of the configuration", fields("name", "fixed"), "name", "This messenger is in the configuration"},
		{"no identity key", fields("name", "n", "identity_key", ""), "identity_key", "Contact identity key is empty"},
		{"a time as the identity key", fields("name", "n", "identity_key", "exp"), "identity_key", `Contact identity key "exp" is a time claim`},
		{"no method", fields("name", "n", "method", ""), "method-public_key", "Choose a validation method."},
		{"a method that is none", fields("name", "n", "method", "none"), "method-public_key", "Choose a validation method."},
		{"no public key", fields("name", "n", "method", "public_key"), "key-0", "Public key is empty"},
		{"a key that is none", fields("name", "n", "method", "public_key", "key", "hello"), "key-0", "Public key "},
		{"a private key", fields("name", "n", "method", "public_key", "key", private), "key-0", "It was not stored, and it is not shown again here."},
		{"a file of the gateway", fields("name", "n", "method", "public_key", "key", "{file./etc/passwd}"), "key-0", "Public key number 1 is a placeholder"},
		{"no URL", fields("name", "n", "method", "jwks"), "url", "URL of the key set is empty"},
		{"a URL inside the network", fields("name", "n", "method", "jwks", "url", "http://127.0.0.1:2019/config/"), "url", "is not https on port 443"},
		{"a placeholder in the URL", fields("name", "n", "method", "jwks", "url", "https://{env.HOME}/"), "url", "has a placeholder"},
		{"a duration that is none", fields("name", "n", "max_lifetime", "soon"), "max_lifetime", `Longest lifetime "soon" is not a duration`},
		{"too large a clock skew", fields("name", "n", "clock_skew", "1h"), "clock_skew", "Clock skew 1h is not between"},
		{"an origin with a path", fields("name", "n", "allowed_origin", "https://www.example.com/chat"), "allowed_origin", "Allowed origins"},
		{"a mode that is none", fields("name", "n", "mode", "yes"), "mode", `Mode "yes" is not one of`},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := u.post("?page=new", test.form)
			a.says(t, 422, test.says, "needs your attention")
			if !strings.Contains(a.body, `href="#`+test.id+`"`) || !strings.Contains(a.body, `id="`+test.id+`"`) {
				t.Errorf("the error does not lead to the field %s", test.id)
			}
			if typed := test.form.Get("identity_key"); typed != "" && !strings.Contains(a.body, `value="`+typed+`"`) {
				t.Errorf("what was typed is lost")
			}
			if strings.Contains(a.body, "PRIVATE KEY") {
				t.Errorf("a private key is sent back")
			}
		})
	}
	u.get("?messenger=n").says(t, 404)

	// All mistakes are named at once, also those that only the messenger as a whole has, and so is the place where they are.
	a := u.post("?page=new", fields("name", "Not A Name", "identity_key", "exp", "method", "jwks", "url", "http://127.0.0.1:2019/config/", "audience", "chat\u202e",
		"allowed_origin", "https://www.example.com/chat", "max_lifetime", "soon", "clock_skew", "1h", "mode", "yes", "fail_limit", "x", "max_session", "-1s"))
	a.says(t, 422, "10 things need your attention")
	for _, id := range []string{"name", "identity_key", "url", "audience", "allowed_origin", "max_lifetime", "clock_skew", "mode", "fail_limit", "max_session"} {
		if !strings.Contains(a.body, `<li><a href="#`+id+`">`) || !strings.Contains(a.body, `id="`+id+`-error"`) {
			t.Errorf("what is wrong with %s is not named, or not beside its field", id)
		}
	}
	if !strings.Contains(a.body, `<details class="more" open>`) {
		t.Error("mistakes are in a part of the form that is folded")
	}
}

// A messenger of the configuration is looked at; only its generated shared tokens are administered.
func TestPanelDoesNotChangeConfiguredMessengers(t *testing.T) {
	g := startPanel(t, nil, "messenger fixed {\nidentity_key sub\nshared_token\n}\nmessenger file {\nidentity_key sub\npublic_key {file."+write(t, "key.pem", publicPEM(rsaKey(0)))+"} kid one\n}")
	u := g.panelOperator()
	fixed := u.get("?messenger=fixed")
	fixed.says(t, 200, "This messenger is in the gateway’s configuration", "No key yet")
	if strings.Contains(fixed.body, "<form") {
		t.Errorf("the settings of a configured messenger are in a form")
	}
	u.get("?messenger=file").says(t, 200, "Key active", "{file.", "Key ID one")
	u.get("?page=keys&messenger=file").says(t, 200, "one", "RS256", "2048 bits")
	u.post("?messenger=fixed", fields("revision", "x")).says(t, 409, "Change it there")
	u.post("?page=delete&messenger=fixed", url.Values{"typed": {"fixed"}, "revision": {"x"}}).says(t, 409, "Change it there")
	u.post("?page=keys&messenger=file", url.Values{"action": {"generate"}, "revision": {""}}).says(t, 409, "no generated shared tokens")

	form := url.Values{"action": {"generate"}, "revision": {u.get("?page=keys&messenger=fixed").revision(t)}}
	token := u.post("?page=keys&messenger=fixed", form).secret(t)
	if a := g.get("/fixed/", bearer(sign(token, claims{"sub": "mark"}))); a.status != 200 {
		t.Errorf("a token signed with it: %d %s", a.status, a.body)
	}
	u.post("?page=keys&messenger=fixed", form).says(t, 409, "this form was sent before")
}

// Enforcement is switched on beside the figures. Where these do not justify it, that is said, and has to be confirmed; a form of
// yesterday, or of another site, switches on nothing.
func TestPanelSwitchesOnEnforcement(t *testing.T) {
	g := startPanel(t, nil, "")
	u := g.panelOperator()
	secret := u.create("acme")
	mode := func(mode string) (page answer, form url.Values) {
		u.save("acme", func(f url.Values) { f.Set("mode", mode) })
		page = u.get("?messenger=acme")
		return page, url.Values{"revision": {page.revision(t)}}
	}
	page, form := mode("report")
	page.says(t, 200, "The mode is Report only.", "No request was counted in the last day", "Switch on enforcement")
	u.post("?messenger=acme&page=enforce", form).says(t, 422, "tick the box", "Switch on enforcement")
	g.get("/acme/", bearer(sign(secret, valid("mark"))))
	if text := u.get("?messenger=acme").text(); strings.Contains(text, "from then on") || !strings.Contains(text, "100.00 %") {
		t.Errorf("all requests would pass, and the page asks: %s", text)
	}
	g.get("/acme/")
	u.get("?messenger=acme").says(t, 200, "Requests like 1 of the 2 of the last day are refused from then on.")
	u.post("?messenger=acme&page=enforce", form).says(t, 422, "tick the box")
	form.Set("confirm", "yes")
	u.post("?messenger=acme&page=enforce", form, "Sec-Fetch-Site: cross-site").says(t, 403, "No access", "This form was sent by a page of another site.")
	u.post("?messenger=acme&page=enforce", url.Values{"confirm": {"yes"}}).says(t, 400, "Nothing was changed", "Back to the page")
	if a := u.get("?messenger=acme&page=enforce"); a.status != 405 || a.header.Get("Allow") != "POST" {
		t.Errorf("GET: %d %v", a.status, a.header)
	}
	if a := g.get("/acme/"); a.status != 200 {
		t.Fatalf("enforcement is on already: %d", a.status)
	}
	if a := u.post("?messenger=acme&page=enforce", form); a.status != 303 || a.header.Get("Location") != "?done=enforced&messenger=acme" {
		t.Errorf("switching on: %d %s", a.status, a.text())
	}
	if a := g.get("/acme/"); a.status != 401 {
		t.Errorf("enforcement is not on: %d", a.status)
	}
	if text := u.get("?messenger=acme&done=enforced").text(); !strings.Contains(text, "Enforcement is on") || strings.Contains(text, "Switch on enforcement") {
		t.Errorf("the page says %s", text)
	}
	u.post("?messenger=acme&page=enforce", form).says(t, 409, "this messenger was changed since")
}

// A site owner names a URL and looks at what becomes of it. The gateway tells no more of its network than that it cannot
// be reached, also for a URL that the operator has let in.
func TestPanelDoesNotDescribeTheNetwork(t *testing.T) {
	closed := freeAddr(t)
	g := startPanel(t, nil, "messenger {\njwks_internal_hosts 127.0.0.1\n}\nmessenger acme {\nidentity_key identity\naudience chat\njwks http://"+closed+"/fixed.json\n}")
	u, owner := g.panelOperator(), g.owner("other")
	if a := u.post("?page=new", fields("name", "other", "method", "jwks", "url", "http://"+closed+"/jwks.json")); a.status != 303 {
		t.Fatalf("%d %s", a.status, a.text())
	}
	for _, test := range []struct {
		user panelUser
		name string
	}{{owner, "other"}, {g.owner("acme"), "acme"}} {
		refreshed := test.user.post("?page=keys&messenger="+test.name, url.Values{"action": {"refresh"}})
		refreshed.says(t, 502, "The key set was not fetched: the key server cannot be reached.")
		keys := test.user.get("?page=keys&messenger=" + test.name)
		keys.says(t, 200, "The last fetch failed: the key server cannot be reached.")
		tested := test.user.post("?page=test&messenger="+test.name, url.Values{"token": {sign(rsaKey(0), valid("mark"))}})
		tested.says(t, 200, "keys_unavailable", "The key set cannot be fetched: the key server cannot be reached.")
		for _, a := range []answer{refreshed, keys, tested} {
			text, _, _ := strings.Cut(a.text(), "What the codes mean") // some of them are about connections of contacts
			if strings.Contains(text, "dial") || strings.Contains(text, "refused: ") || strings.Contains(text, "connection") {
				t.Errorf("the page tells of the network: %s", text)
			}
		}
	}
}

// The panel does not know below which path it is, and no link of it leaves that path.
func TestPanelWorksBelowAnyPath(t *testing.T) {
	site := "basic_auth bcrypt {\noperator " + panelHash + "\n}\n"
	for _, test := range []struct{ name, site, path string }{
		{"at the root", site + "messenger_panel", "/"},
		{"with a matcher", site + "messenger_panel /settings/chat*\nrespond 418", "/settings/chat"},
		{"in handle", "handle /a/b/* {\n" + site + "messenger_panel\n}", "/a/b/"},
		{"in handle_path", "handle_path /a/b* {\n" + site + "messenger_panel\n}", "/a/b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := start(t, nil, "", test.site)
			u := panelUser{g, test.path, "operator"}
			u.create("acme")
			u.get("").says(t, 200, "acme")
			if a := u.get("?asset=panel.css"); a.status != 200 || a.header.Get("Content-Type") != "text/css; charset=utf-8" {
				t.Errorf("the style sheet: %d %v", a.status, a.header)
			}
			if a := u.send(http.MethodHead, "?messenger=acme", nil); a.status != 200 || a.body != "" {
				t.Errorf("HEAD: %d %s", a.status, a.body)
			}
		})
	}
}
