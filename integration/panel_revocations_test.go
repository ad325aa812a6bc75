package integration

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// revoke sends the form of the page Revocations that shows what is about to happen, checks what that says, and confirms it.
func (u panelUser) revoke(name string, form url.Values, says ...string) answer {
	u.g.t.Helper()
	form.Set("action", "look")
	asked := u.post("?messenger="+name+"&page=revocations", form)
	asked.says(u.g.t, 200, says...)
	again := asked.hiddenFields()
	again.Set("action", "revoke")
	return u.post("?messenger="+name+"&page=revocations", again)
}

// hiddenFields are those of a page with one form.
func (a answer) hiddenFields() url.Values {
	form := make(url.Values)
	for _, field := range regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`).FindAllStringSubmatch(a.body, -1) {
		form.Add(field[1], html.UnescapeString(field[2]))
	}
	return form
}

// A token has leaked. Its owner's site owner revokes it on the panel, by the token itself, by its ID or by its contact: what that
// closes is said before, and nothing else is closed or refused. What was revoked can be undone.
func TestPanelRevokesAndUndoes(t *testing.T) {
	g := startPanel(t, newChat(t).upstream, "")
	u, owner := g.panelOperator(), g.owner("other")
	secret := u.create("other")
	token := func(identity, jti string) string { return sign(secret, with(valid(identity), claims{"jti": jti})) }
	sockets := map[string]*socket{}
	open := func(names ...string) {
		for _, name := range names {
			identity, jti, _ := strings.Cut(name, " ")
			sockets[name] = g.openEcho("other", token(identity, jti))
		}
	}
	open("mark a", "mark b", "zoe c", "zoe d")
	page := "?messenger=other&page=revocations"
	u.get(page).says(t, 200, "Open on this gateway 4", "No token is revoked.")

	// A page of another site, and a confirmation without its form's fields, do nothing.
	owner.post(page, url.Values{"what": {"all"}, "action": {"revoke"}}, "Sec-Fetch-Site: cross-site").says(t, 403)
	owner.post(page, url.Values{"action": {"revoke"}}).says(t, 404)
	for field, test := range map[string]struct{ value, says string }{
		"contact": {"", "Contact identity is empty"},
		"token":   {"", "Token or token ID is empty"},
	} {
		owner.post(page, url.Values{"what": {field}, field: {test.value}, "action": {"revoke"}}).says(t, 422, test.says)
	}
	owner.post(page, url.Values{"what": {"contact"}, "contact": {"ma\u202erk"}, "action": {"revoke"}}).says(t, 422, "has an invisible character")

	// By the token itself. One that is not valid could name the ID of another.
	forged := sign(newSecret(), with(valid("mark"), claims{"jti": "b"}))
	refused := owner.post(page, url.Values{"what": {"token"}, "token": {forged}, "action": {"look"}})
	refused.says(t, 422, "This token is refused already (signature_invalid)")
	without := owner.post(page, url.Values{"what": {"token"}, "token": {sign(secret, valid("mark"))}, "action": {"look"}})
	without.says(t, 422, "This token has no ID")
	if !strings.Contains(without.body, `name="contact" value="mark"`) || strings.Contains(refused.body, `name="contact" value="mark"`) {
		t.Error("the contact of a valid token, and of no other, is in its field")
	}
	if strings.Contains(refused.body, forged[:20]) {
		t.Error("the page has the token")
	}
	if a := owner.revoke("other", url.Values{"what": {"token"}, "token": {token("mark", "a")}}, "Revoke this token?", "1 of 4 open on this gateway is closed"); a.status != 303 {
		t.Fatalf("revoke: %d %s", a.status, a.text())
	} else if location := a.header.Get("Location"); strings.Contains(location, "mark") || !strings.Contains(location, "ended=1") {
		t.Errorf("the answer leads to %s", location)
	}
	g.wantRevoked(t, token("mark", "a"), true)
	g.wantRevoked(t, token("mark", "b"), false)
	if got := sockets["mark a"].ended(); !strings.HasPrefix(got, "4403") {
		t.Errorf("the connection of the token ended with %s", got)
	}
	sockets["mark b"].lives(t, "another token")

	// By its ID, with the connections alone at first.
	asked := owner.post(page, url.Values{"what": {"token"}, "token": {"d"}, "action": {"look"}})
	asked.says(t, 200, "1 of 3 open on this gateway is closed")
	closing := asked.hiddenFields()
	closing.Set("action", "close")
	if a := owner.post(page, closing); a.status != 303 || sockets["zoe d"].ended() == "" {
		t.Errorf("close: %d %s", a.status, a.text())
	}
	g.wantRevoked(t, token("zoe", "d"), false)
	owner.revoke("other", url.Values{"what": {"token"}, "token": {"d"}}, "0 of 2 open")
	g.wantRevoked(t, token("zoe", "d"), true)

	// By the contact, and of all.
	owner.revoke("other", url.Values{"what": {"contact"}, "contact": {"mark"}}, "Revoke the tokens of mark ?", "1 of 2 open")
	g.wantRevoked(t, token("mark", "e"), true)
	g.wantRevoked(t, token("zoe", "f"), false)
	sockets["zoe c"].lives(t, "another contact")
	owner.revoke("other", url.Values{"what": {"all"}}, "Revoke the tokens of all contacts?", "1 of 1 open")
	g.wantRevoked(t, token("zoe", "f"), true)

	// Each can be undone, once.
	list := owner.get(page)
	list.says(t, 200, "All contacts", "Contact mark", "Token d", "Token SHA-256")
	keys := regexp.MustCompile(`name="key" value="([^"]+)"`).FindAllStringSubmatch(list.body, -1)
	if len(keys) != 4 {
		t.Fatalf("%d revocations are listed: %s", len(keys), list.text())
	}
	for _, key := range keys {
		undo := url.Values{"action": {"undo"}, "key": {key[1]}}
		owner.post(page, undo).says(t, 422, "tick the box")
		undo.Set("confirm", "yes")
		if a := owner.post(page, undo); a.status != 303 {
			t.Errorf("undo: %d %s", a.status, a.text())
		}
		owner.post(page, undo).says(t, 409, "was undone already")
	}
	for _, token := range []string{token("mark", "a"), token("zoe", "d"), token("mark", "e")} {
		g.wantRevoked(t, token, false)
	}
	if log := strings.Join(linesOf(g.logs(), "messenger"), ""); strings.Contains(log, `"mark"`) {
		t.Errorf("the log has the contact: %s", log)
	}

	// What was done is in the history, with who did it, on the panel and in the API, and has no contact and no secret.
	g.operator().want(200, http.MethodPost, "messengers/other/revocations", `{"jti": "z"}`)
	u.get("?messenger=other&page=history").says(t, 200, "by admin API, unix socket")
	history := owner.get("?messenger=other&page=history")
	history.says(t, 200, "by an operator of the gateway")
	if strings.Contains(history.text(), "admin API") {
		t.Errorf("a site owner is told of the gateway's network: %s", history.text())
	}
	history.says(t, 200, "Messenger created", "Shared token generated", "by panel, operator", "Tokens of contacts revoked of a contact", "Revocation undone", "by panel, other", "Connections closed")
	api := g.operator().want(200, http.MethodGet, "messengers/other/history", nil)
	for name, text := range map[string]string{"the page": history.text(), "the API": api.body} {
		if strings.Contains(text, "mark") || strings.Contains(text, "zoe") || strings.Contains(text, "mst_") {
			t.Errorf("%s of the history has a contact or a secret: %s", name, text)
		}
	}
}

func (g *gateway) wantRevoked(t *testing.T, token string, want bool) {
	t.Helper()
	if a := g.get("/other/hello", bearer(token)); (a.status == 401) != want {
		t.Errorf("a token is answered with %d, want it revoked: %t", a.status, want)
	}
}

// The history outlives the process as far as the storage tells it, and names who has made a change on another node. A messenger
// that was deleted leaves none to the next of its name, who may belong to somebody else.
func TestHistoryIsOfThisMessengerOnly(t *testing.T) {
	n := newNode(t, caddyBinary(t), nil, "storage file_system "+t.TempDir(), "basic_auth bcrypt {\noperator "+panelHash+"\n}\nmessenger_panel")
	n.run()
	u := panelUser{n.gateway, "/", "operator"}
	u.create("acme")
	u.revoke("acme", url.Values{"what": {"contact"}, "contact": {"mark"}})
	n.kill()
	n.run()
	history := u.get("?messenger=acme&page=history")
	history.says(t, 200, "Messenger created", "Shared token generated", "Tokens of contacts revoked of a contact", "by panel, operator")
	if strings.Contains(history.text(), "mark") {
		t.Errorf("the history has the contact: %s", history.text())
	}
	u.change("acme", "rotate", "overlap", "24h").secret(t)
	u.get("?messenger=acme&page=history").says(t, 200, "Shared tokens rotated")
	if a := u.post("?page=delete&messenger=acme", url.Values{"typed": {"acme"}, "revision": {u.get("?page=delete&messenger=acme").revision(t)}}); a.status != 303 {
		t.Fatalf("delete: %d", a.status)
	}
	u.create("acme")
	if text := u.get("?messenger=acme&page=history").text(); strings.Contains(text, "rotated") || strings.Contains(text, "revoked") || strings.Count(text, "Messenger created") != 1 {
		t.Errorf("the history has that of a deleted messenger: %s", text)
	}
}

// The list shows at a glance which messengers need attention: those without a key, with keys that expire soon, with a key server
// that fails, and those that verify nothing. It also shows when each was last used.
func TestListShowsTheStatusOfMessengers(t *testing.T) {
	g := startPanel(t, nil, "messenger {\njwks_internal_hosts 127.0.0.1\n}\nmessenger fixed {\nidentity_key identity\nshared_token\n}")
	u, o := g.panelOperator(), g.operator()
	secret := u.create("used")
	u.create("replaced")
	u.create("unused")
	g.get("/replaced/", bearer(sign(secret, valid("mark")))) // of another messenger: it is refused, and no use
	u.post("?page=new", fields("name", "empty"))
	u.post("?page=new", fields("name", "public", "method", "public_key", "key", string(publicPEM(rsaKey(0))), "mode", "report"))
	u.post("?page=new", fields("name", "broken", "method", "jwks", "url", "http://127.0.0.1:1/jwks.json"))
	u.post("?page=new", fields("name", "asleep", "method", "jwks", "url", "http://127.0.0.1:1/other.json", "mode", "off"))
	for _, token := range []struct{ name, token string }{{"used", sign(secret, valid("mark"))}, {"public", sign(rsaKey(0), valid("mark"))}} {
		if a := g.get("/"+token.name+"/", bearer(token.token)); a.status != 200 {
			t.Fatalf("%s: %d %s", token.name, a.status, a.body)
		}
	}
	u.change("used", "rotate", "overlap", "1h").secret(t)
	u.change("replaced", "rotate", "overlap", "1h").secret(t)
	g.refresh("broken")
	a := o.want(200, http.MethodGet, "messengers?state=true", nil)
	var list []struct {
		Name  string
		State struct {
			Keys     string
			LastUsed string `json:"last_used"`
		}
	}
	decode(t, a.body, &list)
	got := make(map[string]string)
	for _, m := range list {
		got[m.Name] = m.State.Keys
		if used := m.Name == "used" || m.Name == "public"; (m.State.LastUsed != "") != used {
			t.Errorf("%s: last used %q", m.Name, m.State.LastUsed)
		}
	}
	for name, want := range map[string]string{"fixed": "none", "used": "ending", "replaced": "ready", "unused": "ready", "empty": "none", "public": "ready", "broken": "key_server_failing"} {
		if got[name] != want {
			t.Errorf("%s: got the state %q, want %q", name, got[name], want)
		}
	}
	o.want(400, http.MethodGet, "messengers?state=yes", nil)
	if body := o.want(200, http.MethodGet, "messengers", nil).body; strings.Contains(body, "last_used") {
		t.Error("the state is in the list although the request did not ask for it")
	}
	page := u.get("").text()
	for _, want := range []string{
		`asleep JWKS .*? Off `, `broken JWKS .*? Key server fails `, `empty Shared token .*? Never used .*? No key `, `public Public key .*? Last used .*? Report only `,
		`replaced Shared token .{0,5}?Contact identity key identity Never used Changed just now unused `, `used Shared token .*? Last used .*? Key expires soon`, `fixed Shared token .*? No key Configuration`,
	} {
		if !regexp.MustCompile(want).MatchString(page) {
			t.Errorf("the list does not match %q: %s", want, page)
		}
	}
}
