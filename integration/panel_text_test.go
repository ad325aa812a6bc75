package integration

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The list of the checks' names was kept twice, and the newest check had none on this page.
func TestEveryCheckHasANameInThePanel(t *testing.T) {
	g := startPanel(t, nil, "")
	u := g.panelOperator()
	token := u.create("acme")
	for name, test := range map[string]string{"accepted": sign(token, valid("mark")), "refused": "x"} {
		page := u.post("?messenger=acme&page=test", url.Values{"token": {test}})
		names := regexp.MustCompile(`<span class="check-name">([^<]*)</span>`).FindAllStringSubmatch(page.body, -1)
		checks := g.explain("acme", test).Checks
		if len(names) != len(checks) || len(checks) < 11 {
			t.Errorf("%s: the page names %d checks, and the admin API %d", name, len(names), len(checks))
		}
		for i, found := range names {
			if found[1] == "" || checks[i].Name == "" || !strings.HasPrefix(strings.ToLower(found[1]), checks[i].Name) {
				t.Errorf("%s: the check number %d is %q in the panel and %q in the admin API", name, i+1, found[1], checks[i].Name)
			}
		}
	}
}

// The test of a token shows what is in it and for how long it is accepted, but only of one that is accepted: the text of another
// may have been made to be read.
func TestTokenTestShowsTheClaimsOfAnAcceptedToken(t *testing.T) {
	g := startPanel(t, nil, "")
	u := g.panelOperator()
	secret := u.create("acme")
	test := func(c claims) answer {
		return u.post("?messenger=acme&page=test", url.Values{"token": {sign(secret, c)}})
	}
	now := time.Now()
	accepted := test(claims{"identity": "mark", "exp": now.Add(2 * time.Hour).Unix(), "iat": now.Unix(), "name": "Mark <b>\u202e", "groups": []string{"a", "b"}})
	accepted.says(t, 200, "This token is accepted", "X-Contact-Identity mark", "It expires in 2 hours , and was issued just now .", "name Mark <b>\\u202e", `groups ["a","b"]`, "identity mark")
	if strings.Contains(accepted.body, "<b>") {
		t.Error("a claim is markup")
	}
	u.save("acme", func(f url.Values) { f.Set("require_claims", "") })
	test(claims{"identity": "mark"}).says(t, 200, "This token is accepted", "It never expires")
	if refused := test(claims{"identity": "mark", "exp": 1, "name": "unread"}); strings.Contains(refused.body, "unread") {
		t.Errorf("the claims of a refused token are shown: %s", refused.text())
	}
	if got := g.explain("acme", sign(secret, claims{"identity": "mark"})); !got.Accepted {
		t.Errorf("the admin API: %+v", got)
	}
}

// A page of the panel, and the log, hold nothing that reorders or hides text, whoever wrote it.
func TestInvisibleCharactersAreShownInPagesAndLogs(t *testing.T) {
	const evil = "a\u202eb\u2066c\u200bd\u009be\x7ff\u2028g"
	keys := newKeyServer(t)
	set := mustJSON(map[string]any{"keys": []any{publicJWK(rsaKey(0), evil+"kid"), map[string]any{"kty": "RSA", "kid": evil + "omitted"}}})
	keys.behave(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(set)) })
	g := startPanel(t, nil, "messenger {\njwks_internal_hosts 127.0.0.1\n}")
	u := g.panelOperator()
	g.operator().want(201, http.MethodPut, "messengers/acme", map[string]any{"identity_key": "sub", "jwks": map[string]any{"url": keys.url}, "audience": []string{evil + "aud"},
		"issuer": []string{evil + "iss"}, "require_claims": []string{"exp", evil + "claim"}})
	eventually(t, "the key set is fetched", func() bool { return g.refresh("acme") == 200 })
	signed := sign(rsaKey(0), claims{"sub": evil, "iss": evil, "aud": evil + "other", "exp": 99999999999})
	pages := map[string]answer{"list": u.get(""), "test": u.post("?messenger=acme&page=test", url.Values{"token": {signed}}),
		"conflict": u.post("?messenger=acme", fields("revision", "old", "audience", evil+"mine")), "error": u.post("?page=new", fields("name", evil, "audience", evil))}
	for _, page := range []string{"", "keys", "embed", "delete", "revocations", "history"} {
		pages["page "+page] = u.get("?messenger=acme&page=" + page)
	}
	for name, page := range pages {
		checkTerminal(t, name, page.body)
		if name != "list" && name != "page delete" && name != "page history" && name != "page revocations" && !strings.Contains(page.body, `\u202e`) {
			t.Errorf("%s: the page does not show that something is hidden: %s", name, page.text())
		}
	}
	g.get("/acme/", bearer(signed))
	checkTerminal(t, "the log", strings.Join(linesOf(g.logs(), "messenger"), ""))
}

// linesOf are the lines of the log that this module wrote.
func linesOf(log, logger string) (found []string) {
	for line := range strings.Lines(log) {
		if strings.Contains(line, `"logger":"`+logger) || strings.Contains(line, `"logger":"http.handlers.messenger`) {
			found = append(found, line)
		}
	}
	return found
}
