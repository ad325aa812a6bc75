package integration

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// A contact is logged in at the site, and holds a token that the gateway accepts. On a site that has a panel as well the
// token opens it nowhere: not behind messenger_auth, where the contact has a name, not in front of it, and not where an
// operator's password comes along.
func TestContactIsNoOperator(t *testing.T) {
	secret := newSecret()
	messenger := "messenger support {\nidentity_key identity\nshared_token {file." + write(t, "secret", []byte(secret)) + "}\n%s}"
	token := sign(secret, good("operator"))
	for name, site := range map[string]string{
		"behind messenger_auth":             "messenger_auth support\nmessenger_panel",
		"behind an optional messenger_auth": "messenger_auth support {\nmode optional\n}\nmessenger_panel",
		"behind one that only reports":      "messenger_auth support {\nmode report\n}\nmessenger_panel",
		"in front of messenger_auth":        "route {\nmessenger_panel\nmessenger_auth support\n}",
		"in front, named by a header":       "route {\nmessenger_panel {\nuser {header.X-Contact-Identity}\n}\nmessenger_auth support\n}",
		"behind, named by a header":         "messenger_auth support\nmessenger_panel {\nuser {header.X-Contact-Identity}\n}",
		"in an error route":                 "messenger_auth support\nerror 500\nhandle_errors {\nmessenger_panel\n}",
		"beside an authentication":          "messenger_auth support {\ntoken_from cookie chat\n}\nbasic_auth bcrypt {\noperator " + panelHash + "\n}\nmessenger_panel",
		"scoped to the contact's identity":  "messenger_auth support\nmessenger_panel {http.auth.user.id}",
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, nil, fmt.Sprintf(messenger, ""), site)
			headers := []string{"Authorization: Bearer " + token, "X-Contact-Identity: operator"}
			u := panelUser{g, "/", ""}
			if strings.Contains(site, "basic_auth") {
				u.name = "operator"
				headers = []string{"Cookie: chat=" + token}
			}
			for _, query := range []string{"", "?messenger=support", "?page=new", "?asset=panel.css"} {
				a := u.get(query, headers...)
				if a.status != 403 {
					t.Errorf("GET %s: got %d, want 403: %s", query, a.status, a.text())
				}
			}
			u.post("?page=new", fields("name", "mine"), headers...).says(t, 403)
		})
	}
}

// Somebody writes the header by which a service in front names its users. Where that service does not answer for it, the
// header is no name; where it does, its own answer counts.
func TestForgedRemoteUserIsNobody(t *testing.T) {
	login := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Cookie") == "session=alice" {
			w.Header().Set("Remote-User", "alice")
		}
	}))
	defer login.Close()
	forward := "forward_auth " + strings.TrimPrefix(login.URL, "http://") + " {\nuri /verify\ncopy_headers Remote-User\n}\n"
	for _, test := range []struct {
		name, site, cookie string
		status             int
	}{
		{"no service in front", "messenger_panel {\nuser {header.Remote-User}\n}", "", 403},
		{"the service does not know the visitor", forward + "messenger_panel {\nuser {header.Remote-User}\n}", "", 403},
		{"the service knows the visitor", forward + "messenger_panel {\nuser {header.Remote-User}\n}", "session=alice", 200},
		{"its answer is asked directly", forward + "messenger_panel {\nuser {http.reverse_proxy.header.Remote-User}\n}", "session=alice", 200},
		{"its answer is asked directly, and empty", forward + "messenger_panel {\nuser {http.reverse_proxy.header.Remote-User}\n}", "", 403},
		{"another name than the service copies", forward + "messenger_panel {\nuser {header.X-Remote-User}\n}", "session=alice", 403},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := start(t, nil, "messenger support {\nidentity_key identity\nshared_token\n}", test.site)
			a := panelUser{g, "/", ""}.get("", "Remote-User: root", "X-Remote-User: root", "Cookie: "+test.cookie)
			a.says(t, test.status)
			if test.status == 200 {
				a.says(t, 200, "Signed in as alice")
			}
		})
	}
}

// The owner of one messenger uses every URL and every form of another, and those that only an operator of all has. The
// answers are the same whether there is such a messenger or not, and nothing changes.
func TestOwnerOfOneMessengerReachesNoOther(t *testing.T) {
	g := startPanel(t, nil, "messenger fixed {\nidentity_key identity\nshared_token\n}")
	operator, owner := g.panelOperator(), g.owner("acme")
	operator.create("acme")
	token := operator.create("other")
	owner.get("").says(t, 200, "acme", "Signed in as acme")
	owner.get("?messenger=acme").says(t, 200, "Save settings")
	if text := owner.get("").text(); strings.Contains(text, "other") || strings.Contains(text, "fixed") {
		t.Errorf("the list names messengers of others: %s", text)
	}
	before := operator.get("?page=keys&messenger=other").body
	settings, ring := operator.get("?messenger=other").revision(t), operator.get("?page=keys&messenger=other").revision(t)
	for _, name := range []string{"other", "fixed", "nobody", "acme%00", "ACME", "..%2Fother"} {
		for _, page := range []string{"", "keys", "test", "embed", "delete"} {
			a := owner.get("?page=" + page + "&messenger=" + name)
			a.says(t, 404, "There is no such page, or it is not yours.")
		}
	}
	for page, form := range map[string]url.Values{
		"":       fields("revision", settings, "audience", "mine"),
		"keys":   {"action": {"reset"}, "confirm": {"yes"}, "revision": {ring}},
		"test":   {"token": {sign(token, good("mark"))}},
		"delete": {"typed": {"other"}, "revision": {settings}},
	} {
		owner.post("?page="+page+"&messenger=other", form).says(t, 404)
		// The name is taken from one place only, and a second one changes nothing.
		form.Set("messenger", "other")
		owner.post("?page="+page+"&messenger=nobody&messenger=other", form).says(t, 404)
	}
	owner.post("?page=keys&messenger=acme&messenger=other", url.Values{"action": {"generate"}, "revision": {ring}, "messenger": {"other"}}).says(t, 409)
	for _, query := range []string{"?page=new", "?page=delete&messenger=acme", "?after=a&page=list"} {
		owner.get(query).says(t, 404)
	}
	owner.post("?page=new", fields("name", "acme2")).says(t, 404)
	owner.post("?page=delete&messenger=acme", url.Values{"typed": {"acme"}, "revision": {owner.get("?messenger=acme").revision(t)}}).says(t, 404)
	owner.post("?messenger=acme&page=new", fields("name", "acme2")).says(t, 404)
	if after := operator.get("?page=keys&messenger=other").body; after != before {
		t.Errorf("something changed")
	}
	operator.get("?messenger=acme2").says(t, 404)

	// Whose key made a signature is said to an operator of all messengers only.
	foreign := url.Values{"token": {sign(fixedToken(t, operator), good("mark"))}}
	operator.post("?page=test&messenger=acme", foreign).says(t, 200, "signed with the key of messenger fixed")
	if text := owner.post("?page=test&messenger=acme", foreign).text(); !strings.Contains(text, "This token is refused") || strings.Contains(text, "fixed") {
		t.Errorf("the owner is told: %s", text)
	}

	// An owner cannot create what was not created, nor be everybody by having a name that is none.
	g.owner("other").get("?messenger=other").says(t, 200)
	g.owner("Not-A-Name").get("").says(t, 403, "No messenger is yours here.")
	g.owner("Not-A-Name").get("?messenger=acme").says(t, 403)
	if a := operator.post("?page=delete&messenger=acme", url.Values{"typed": {"acme"}, "revision": {operator.get("?page=delete&messenger=acme").revision(t)}}); a.status != 303 {
		t.Fatalf("deleting: %d", a.status)
	}
	owner.get("").says(t, 200, "There is no messenger of this name yet.")
	owner.post("?messenger=acme", fields("revision", "x")).says(t, 404)
	owner.post("?messenger=acme", fields()).says(t, 404)
	operator.get("?messenger=acme").says(t, 404)
}

func fixedToken(t *testing.T, operator panelUser) string {
	t.Helper()
	return operator.change("fixed", "generate").secret(t)
}

// Nobody is logged in, or with the wrong password: there is nothing to see.
func TestPanelIsForPeopleWithAName(t *testing.T) {
	g := start(t, nil, "messenger support {\nidentity_key identity\nshared_token\n}", "messenger_panel")
	for _, query := range []string{"", "?messenger=support", "?messenger=support&page=keys", "?page=new"} {
		panelUser{g, "/", "operator"}.get(query).says(t, 403, "Nobody is logged in here.")
	}
}

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

// Every answer, refusals included, forbids to be framed, kept, guessed at, or to run what is not the panel's own script.
func TestPanelPagesCannotBeFramedOrKept(t *testing.T) {
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
		for _, link := range regexp.MustCompile(`\s(?:href|src|action)="([^"]*)"`).FindAllStringSubmatch(a.body, -1) {
			if !strings.HasPrefix(link[1], "?") && !strings.HasPrefix(link[1], "#") {
				t.Errorf("%s: the page leads away from the panel: %s", query, link[1])
			}
		}
	}
}

// Script in every text field stays text, on every page that shows it.
func TestScriptInEveryFieldStaysText(t *testing.T) {
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
		"require_claims", "max_lifetime", "clock_skew", "allowed_origin", "mode", "revision", "discard", "typed", "token", "action", "overlap"} {
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

// A page of another site makes its own name resolve to 127.0.0.1, and then speaks with the panel as with itself (DNS
// rebinding). The browser names the page's host.
func TestForeignHostIsRefused(t *testing.T) {
	// No host is named, as people write it: every name leads here.
	g := newGateway(t, nil, "http://")
	config, err := adapt("{\nadmin unix/" + g.sock + "\nlog default {\noutput file " + g.log + "\n}\n}\nhttp://:" + portOf(g.addr) +
		" {\nbasic_auth bcrypt {\noperator " + panelHash + "\n}\nmessenger_panel\n}\n")
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(config, true); err != nil {
		t.Fatal(err)
	}
	u := panelUser{g, "/", "operator"}
	port := ":" + portOf(g.addr)
	for _, host := range []string{"evil.example", "evil.example" + port, "localhost.evil.example", "127.0.0.1.evil.example", "0.0.0.0", "10.0.0.1", "notlocalhost"} {
		u.get("", "Host: "+host).says(t, 403, "no other name than localhost")
		u.post("?page=new", fields("name", "evil"), "Host: "+host, "Origin: http://"+host).says(t, 403)
	}
	for _, host := range []string{"localhost" + port, "127.0.0.1" + port, "[::1]" + port, "LOCALHOST", "panel.localhost"} {
		u.get("", "Host: "+host).says(t, 200)
	}
}

// Somebody on the network asks for the panel by plain HTTP, on which passwords and shared tokens would be read.
func TestPlainHTTPFromAnotherAddressIsRefused(t *testing.T) {
	g := startPanel(t, nil, "")
	outside := ""
	addrs, _ := net.InterfaceAddrs()
	for _, addr := range addrs {
		if ip, ok := addr.(*net.IPNet); ok && !ip.IP.IsLoopback() && ip.IP.To4() != nil {
			outside = ip.IP.String()
		}
	}
	if outside == "" {
		t.Skip("this machine has no address but loopback ones")
	}
	conn, err := net.Dial("tcp", net.JoinHostPort(outside, portOf(g.addr)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r, err := http.NewRequest(http.MethodGet, "http://"+g.addr+"/panel", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("operator", panelPassword)
	if err := r.Write(conn); err != nil {
		t.Fatal(err)
	}
	readAnswer(t, conn).says(t, 403, "over plain HTTP only from this machine to itself")
}

// Two people have the form open. The second to save sees both versions, and loses nothing of what was typed.
func TestStaleFormIsShownAndNotLost(t *testing.T) {
	g := startPanel(t, nil, "")
	u := g.panelOperator()
	u.create("acme")
	stale := u.get("?messenger=acme").revision(t)
	if a := u.post("?messenger=acme", fields("revision", stale, "audience", "theirs", "max_lifetime", "1h")); a.status != 303 {
		t.Fatalf("%d %s", a.status, a.text())
	}
	a := u.post("?messenger=acme", fields("revision", stale, "audience", "mine", "issuer", "my-issuer"))
	a.says(t, 409, "Nothing was saved: this messenger was changed since you opened the form.", "Audience mine theirs", "Longest lifetime empty 1h", "Issuer my-issuer empty")
	if !strings.Contains(a.body, ">mine</textarea>") || !strings.Contains(a.body, ">my-issuer</textarea>") {
		t.Errorf("what was typed is lost")
	}
	u.get("?messenger=acme").says(t, 200, "theirs")
	if a := u.post("?messenger=acme", fields("revision", a.revision(t), "audience", "mine", "issuer", "my-issuer")); a.status != 303 {
		t.Errorf("sent again on purpose: %d %s", a.status, a.text())
	}
	u.post("?messenger=acme", fields("audience", "mine")).says(t, 400, "The form does not say what it changes.")

	// The shared tokens go with the method, which has to be meant.
	change := fields("revision", u.get("?messenger=acme").revision(t), "method", "public_key", "key", string(publicPEM(rsaKey(0))))
	u.post("?messenger=acme", change).says(t, 422, "Another method discards the shared tokens")
	change.Set("discard", "yes")
	if a := u.post("?messenger=acme", change); a.status != 303 {
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
		{"action": {"generate"}}, {"action": {"rotate"}, "overlap": {"1h"}}, {"action": {"reset"}, "confirm": {"yes"}},
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

// What a client or a contact chooses names neither an operator nor a messenger, and the configuration does not load.
func TestPanelRefusesNamesThatClientsChoose(t *testing.T) {
	for site, want := range map[string]string{
		"messenger_panel {\nuser operator\n}":                            "is not exactly one placeholder",
		"messenger_panel {\nuser {query.user}\n}":                        "is what a client or a contact chooses",
		"messenger_panel {\nuser {cookie.user}\n}":                       "is what a client or a contact chooses",
		"messenger_panel {\nuser {http.messenger_auth.identity}\n}":      "is what a client or a contact chooses",
		"messenger_panel {\nuser {http.auth.user.id}{query.user}\n}":     "is not exactly one placeholder",
		"messenger_panel {header.X-Messenger}":                           "is what a client or a contact chooses",
		"messenger_panel {http.messenger_auth.identity}":                 "is what a client or a contact chooses",
		"messenger_panel team-{query.team}":                              "is what a client or a contact chooses",
		"messenger_panel Support":                                        "must begin with a lower-case letter",
		"messenger_panel support support":                                `names "support" twice`,
		"messenger_panel {\nuser {http.auth.user.id}\nuser {vars.x}\n}":  "user is set twice",
		"messenger_panel {\nusers {http.auth.user.id}\n}":                `unknown option "users"`,
		"messenger_panel support {\nuser\n}":                             "user takes exactly one value",
		"messenger_panel {http.request.host.labels.2}{http.request.uri}": "is what a client or a contact chooses",
	} {
		if got := loadError(t, "", site); !strings.Contains(got, want) {
			t.Errorf("%s\ngot  %s\nwant %s", site, got, want)
		}
	}
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}
