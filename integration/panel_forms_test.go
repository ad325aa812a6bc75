package integration

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The page of another site makes the operator's browser send a form. The browser says where it is from, and what says
// nothing is refused too.
func TestCrossSitePostChangesNothing(t *testing.T) {
	g := startPanel(t, nil, "")
	u := g.panelOperator()
	for _, headers := range [][]string{
		{"Sec-Fetch-Site: cross-site"},
		{"Sec-Fetch-Site: same-site"},
		{"Sec-Fetch-Site:", "Origin: https://evil.example"},
		{"Sec-Fetch-Site:", "Origin: null"},
		{"Sec-Fetch-Site:"},
		{"Sec-Fetch-Site: cross-site", "Origin: " + g.url},
	} {
		u.post("?page=new", fields("name", "evil"), headers...).says(t, 403)
	}
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions} {
		if a := u.send(method, "?page=new", fields("name", "evil"), "Sec-Fetch-Site: same-origin"); a.status != 405 {
			t.Errorf("%s: got %d, want 405", method, a.status)
		}
	}
	u.get("?page=new&" + fields("name", "evil").Encode())
	u.post("?page=new&"+fields("name", "evil").Encode(), url.Values{}).says(t, 422)
	u.post("?page=new", fields("name", "evil"), "Content-Type: text/plain").says(t, 415)
	u.post("?page=new", fields("name", "evil", "audience", strings.Repeat("x", 100<<10))).says(t, 413)
	u.get("?messenger=evil").says(t, 404)
	// An older browser says it by Origin alone.
	if a := u.post("?page=new", fields("name", "fine"), "Sec-Fetch-Site:", "Origin: "+g.url); a.status != 303 {
		t.Errorf("a form of the panel itself: %d %s", a.status, a.text())
	}
}

// A client closes the connection after the answer, as some proxies do, and is still sending when it is refused.
func TestClientStillSendingGetsTheAnswer(t *testing.T) {
	g := startPanel(t, nil, "")
	g.panelOperator().create("acme")
	login := base64.StdEncoding.EncodeToString([]byte("operator:" + panelPassword))
	const form = "application/x-www-form-urlencoded"
	for _, request := range []struct {
		network, address, target, site, kind string
		status                               int
	}{
		{"tcp", g.addr, "POST /panel?page=new", "same-origin", form, 413},
		{"tcp", g.addr, "POST /panel?page=new", "same-origin", "text/plain", 415},
		{"tcp", g.addr, "POST /panel?page=new", "cross-site", form, 403},
		{"unix", g.sock, "PUT /messenger/messengers/other", "", "application/json", 413},
		{"unix", g.sock, "PUT /messenger/messengers/other", "", "text/plain", 415},
		{"tcp", g.addr, "POST /acme/hello", "", "text/plain", 401}, // the Authorization is for the panel
	} {
		conn, err := net.Dial(request.network, request.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		const first, rest = 70 << 10, 100 << 10
		_, err = fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nAuthorization: Basic %s\r\nSec-Fetch-Site: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
			request.target, g.addr, login, request.site, request.kind, first+rest, strings.Repeat("x", first))
		for range rest >> 10 {
			if err == nil {
				time.Sleep(time.Millisecond)
				_, err = io.WriteString(conn, strings.Repeat("x", 1<<10))
			}
		}
		if err != nil {
			t.Errorf("%s, %s: sending: %v", request.target, request.kind, err)
			continue
		}
		if a := readAnswer(t, conn); a.status != request.status {
			t.Errorf("%s, %s: got %d, want %d", request.target, request.kind, a.status, request.status)
		}
	}
}

// Every answer, refusals included, forbids to be framed, kept, guessed at, or to run what is not the panel's own script.
func TestPanelPagesCannotBeFramedOrCached(t *testing.T) {
	g := startPanel(t, nil, "")
	u := g.panelOperator()
	u.create("acme")
	for _, query := range []string{"", "?page=new", "?messenger=acme", "?messenger=acme&page=keys", "?messenger=acme&page=test", "?messenger=acme&page=embed",
		"?messenger=acme&page=delete", "?messenger=nobody", "?asset=panel.css", "?asset=panel.js", "?asset=icon.svg", "?asset=../panel.go"} {
		a := u.get(query)
		for header, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
			"Cache-Control":           "no-store",
			"X-Content-Type-Options":  "nosniff",
			"Referrer-Policy":         "no-referrer",
			"X-Frame-Options":         "DENY",
		} {
			if got := a.header.Get(header); got != want {
				t.Errorf("%s: %s is %q", query, header, got)
			}
		}
		if !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
			continue
		}
		if inline := regexp.MustCompile(`(?i)<style|<script>|<script [^>]*>[^<]|\son[a-z]+=|\sstyle=`).FindString(a.body); inline != "" {
			t.Errorf("%s: the page has inline code: %s", query, inline)
		}
		own := []string{"https://login.example.com/logout", "/help"} // links of the operator's, each once
		for _, link := range regexp.MustCompile(`\s(?:href|src|action)="([^"]*)"`).FindAllStringSubmatch(a.body, -1) {
			if len(own) > 0 && link[1] == own[0] {
				own = own[1:]
				continue
			}
			if !strings.HasPrefix(link[1], "?") && !strings.HasPrefix(link[1], "#") {
				t.Errorf("%s: the page leads away from the panel: %s", query, link[1])
			}
		}
		if len(own) > 0 {
			t.Errorf("%s: the page does not have the links %v", query, own)
		}
	}
}

// Script in every text field stays text, on every page that shows it.
func TestScriptInEveryFieldIsEscaped(t *testing.T) {
	g := startPanel(t, nil, "")
	u := g.panelOperator()
	const evil = `"'><script>alert(1)</script><img src=x onerror=alert(1)>{{.}}`
	form := fields("name", "acme", "audience", evil+"aud", "issuer", evil+"iss", "require_claims", "exp\n"+evil,
		"method", "public_key", "key", string(publicPEM(rsaKey(0))), "kid", evil+"kid")
	if a := u.post("?page=new", form); a.status != 303 {
		t.Fatalf("%d %s", a.status, a.text())
	}
	check := func(where string, a answer) {
		t.Helper()
		if strings.Contains(a.body, "<script>") || strings.Contains(a.body, "<img src=x") || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
			t.Errorf("%s: what was typed is markup", where)
		}
	}
	for _, page := range []string{"", "keys", "test", "embed", "delete"} {
		a := u.get("?messenger=acme&page=" + page)
		a.says(t, 200)
		check(page, a)
	}
	check("list", u.get(""))
	all := url.Values{}
	for _, field := range []string{"name", "identity_key", "method", "key", "kid", "url", "refresh_interval", "stale_if_error", "timeout", "audience", "issuer",
		"require_claims", "max_lifetime", "clock_skew", "allowed_origin", "max_session", "fail_limit", "mode", "revision", "confirm", "typed", "token", "action", "overlap"} {
		all.Set(field, evil+field)
	}
	for _, method := range []string{"public_key", "jwks", "shared_token", evil} {
		all.Set("method", method)
		check("new with "+method, u.post("?page=new", all))
		check("save with "+method, u.post("?messenger=acme", all))
	}
	check("conflict", u.post("?messenger=acme", fields("revision", "old", "audience", evil)))
	for _, page := range []string{"keys", "test", "delete"} {
		check(page, u.post("?messenger=acme&page="+page, all))
	}
	check("test", u.post("?messenger=acme&page=test", url.Values{"token": {forge("x", `{"alg":"`+strings.ReplaceAll(evil, `"`, ``)+`"}`, "{}")}}))
	for _, query := range []string{"?messenger=", "?page=", "?done=", "?after=", "?asset="} {
		check(query, u.get(query+url.QueryEscape(evil)))
	}
}

// Two people have the form open. The second to save sees both versions, and loses nothing of what was typed.
func TestStaleFormKeepsItsInput(t *testing.T) {
	g := startPanel(t, nil, "")
	u := g.panelOperator()
	u.create("acme")
	stale := u.get("?messenger=acme").revision(t)
	if a := u.confirmed("acme", fields("revision", stale, "audience", "theirs", "max_lifetime", "1h")); a.status != 303 {
		t.Fatalf("%d %s", a.status, a.text())
	}
	a := u.post("?messenger=acme", fields("revision", stale, "audience", "mine", "issuer", "my-issuer", "max_lifetime", ""))
	a.says(t, 409, "Nothing was saved: this messenger was changed since you opened the form.", "Audience mine theirs", "Longest lifetime empty 1h", "Issuer my-issuer empty")
	if !strings.Contains(a.body, ">mine</textarea>") || !strings.Contains(a.body, ">my-issuer</textarea>") {
		t.Errorf("what was typed is lost")
	}
	u.get("?messenger=acme").says(t, 200, "theirs")
	if a := u.confirmed("acme", fields("revision", a.revision(t), "audience", "mine", "issuer", "my-issuer")); a.status != 303 {
		t.Errorf("sent again on purpose: %d %s", a.status, a.text())
	}
	u.post("?messenger=acme", fields("audience", "mine")).says(t, 400, "The form does not say which version it changes.")

	// The shared tokens go with the method, which has to be meant.
	change := fields("revision", u.get("?messenger=acme").revision(t), "method", "public_key", "key", string(publicPEM(rsaKey(0))))
	u.post("?messenger=acme", change).says(t, 422, "Another method removes the only shared token")
	if a := u.confirmed("acme", change); a.status != 303 {
		t.Errorf("%d %s", a.status, a.text())
	}

	// Deleted meanwhile: whoever may create messengers gets back what was typed.
	gone := fields("revision", u.get("?messenger=acme").revision(t), "audience", "kept")
	u.post("?page=delete&messenger=acme", url.Values{"typed": {"acme"}, "revision": {stale}}).says(t, 409, "Nothing was deleted")
	if a := u.post("?page=delete&messenger=acme", url.Values{"typed": {"acme"}, "revision": {gone.Get("revision")}}); a.status != 303 {
		t.Fatalf("%d %s", a.status, a.text())
	}
	a = u.post("?messenger=acme", gone)
	a.says(t, 409, "this messenger was deleted since you opened the form")
	if !strings.Contains(a.body, ">kept</textarea>") || !strings.Contains(a.body, `value="acme"`) {
		t.Errorf("what was typed is lost")
	}
	u.get("?messenger=acme").says(t, 404)
}

// The page that shows a new token is loaded again, by accident or from the history: the form that made it is sent a second
// time. Nothing is made, and no page shows the token again.
func TestResentFormMakesNoSecondToken(t *testing.T) {
	g := startPanel(t, nil, "")
	u := g.panelOperator()
	token := u.create("acme")
	for _, form := range []url.Values{
		{"action": {"generate"}}, {"action": {"rotate"}, "overlap": {"1h"}, "confirm": {"yes"}}, {"action": {"reset"}, "confirm": {"yes"}},
	} {
		form.Set("revision", u.get("?page=keys&messenger=acme").revision(t))
		made := u.post("?page=keys&messenger=acme", form)
		if made.secret(t) == token {
			t.Errorf("%s: the token is an old one", form.Get("action"))
		}
		again := u.post("?page=keys&messenger=acme", form)
		again.says(t, 409, "Nothing was changed now")
		if strings.Contains(again.body, "mst_") {
			t.Errorf("%s: the answer to the second form has a token", form.Get("action"))
		}
		if a := u.get("?page=keys&messenger=acme"); strings.Contains(a.body, "mst_") {
			t.Errorf("%s: the page of keys has a token", form.Get("action"))
		}
	}
	u.post("?page=keys&messenger=acme", url.Values{"action": {"generate"}}).says(t, 400)
}
