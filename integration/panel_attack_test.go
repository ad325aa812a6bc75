package integration

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// A contact is logged in at the site, and holds a token that the gateway accepts. On a site that has a panel as well the
// token opens it nowhere: not behind messenger_auth, where the contact has a name, not in front of it, and not where an
// operator's password comes along.
func TestContactIsNotAnOperator(t *testing.T) {
	secret := newSecret()
	messenger := "messenger support {\nidentity_key identity\nshared_token {file." + write(t, "secret", []byte(secret)) + "}\n%s}"
	token := sign(secret, valid("operator"))
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

// A client sends the header in which a service in front names its users. If that service is not asked, the header does not name a
// user; if it is asked, only its own answer counts.
func TestForgedRemoteUserIsNotLoggedIn(t *testing.T) {
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
func TestOwnerCannotAccessOtherMessengers(t *testing.T) {
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
		for _, page := range []string{"", "keys", "test", "embed", "delete", "revocations", "history"} {
			a := owner.get("?page=" + page + "&messenger=" + name)
			a.says(t, 404, "This page does not exist, or you have no access to it.")
		}
	}
	for page, form := range map[string]url.Values{
		"":       fields("revision", settings, "audience", "mine"),
		"keys":   {"action": {"reset"}, "confirm": {"yes"}, "revision": {ring}},
		"test":   {"token": {sign(token, valid("mark"))}},
		"delete": {"typed": {"other"}, "revision": {settings}},

		"revocations": {"what": {"all"}, "action": {"revoke"}},
		"enforce":     {"revision": {settings}, "confirm": {"yes"}},
		"embed":       {"address": {"https://chat.example.com/"}},
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
	foreign := url.Values{"token": {sign(fixedToken(t, operator), valid("mark"))}}
	operator.post("?page=test&messenger=acme", foreign).says(t, 200, "signed with the key of another messenger: it is that of fixed")
	if text := owner.post("?page=test&messenger=acme", foreign).text(); !strings.Contains(text, "This token is refused") || strings.Contains(text, "fixed") {
		t.Errorf("the owner is told: %s", text)
	}

	// An owner cannot create a messenger, and a name that is not valid does not give access to all messengers.
	g.owner("other").get("?messenger=other").says(t, 200)
	g.owner("Not-A-Name").get("").says(t, 403, "You have no messenger here.")
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
func TestPanelNeedsALogin(t *testing.T) {
	g := start(t, nil, "messenger support {\nidentity_key identity\nshared_token\n}", "messenger_panel")
	for _, query := range []string{"", "?messenger=support", "?messenger=support&page=keys", "?page=new"} {
		panelUser{g, "/", "operator"}.get(query).says(t, 403, "You are not logged in.")
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
	g.replace(config)
	u := panelUser{g, "/", "operator"}
	port := ":" + portOf(g.addr)
	for _, host := range []string{"evil.example", "evil.example" + port, "localhost.evil.example", "127.0.0.1.evil.example", "0.0.0.0", "10.0.0.1", "notlocalhost"} {
		u.get("", "Host: "+host).says(t, 403, "only under the name localhost")
		u.post("?page=new", fields("name", "evil"), "Host: "+host, "Origin: http://"+host).says(t, 403)
	}
	for _, host := range []string{"localhost" + port, "127.0.0.1" + port, "[::1]" + port, "LOCALHOST", "panel.localhost"} {
		u.get("", "Host: "+host).says(t, 200)
	}
	// Old clients need not name a host, and a proxy names it in the first line.
	login := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("operator:"+panelPassword)) + "\r\n"
	for name, test := range map[string]struct {
		head string
		want int
	}{
		"HTTP/1.0 without a host":           {"GET / HTTP/1.0\r\n" + login, 403},
		"HTTP/1.0 with a host":              {"GET / HTTP/1.0\r\nHost: localhost\r\n" + login, 200},
		"an absolute address of this host":  {"GET http://localhost/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n" + login, 200},
		"an absolute address of another":    {"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + login, 403},
		"a form of HTTP/1.0 without origin": {"POST /?page=new HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n" + login + "\r\nname=evil", 403},
	} {
		conn, err := net.Dial("tcp", g.addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(test.head + "\r\n")); err != nil {
			t.Fatal(err)
		}
		if a := readAnswer(t, conn); a.status != test.want {
			t.Errorf("%s: %d %s", name, a.status, a.text())
		}
		conn.Close()
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
	readAnswer(t, conn).says(t, 403, "over plain HTTP it answers only on the gateway's own machine")
}

// What a client or a contact chooses names neither an operator nor a messenger, and the configuration does not load.
func TestPanelRefusesNamesThatClientsChoose(t *testing.T) {
	for site, want := range map[string]string{
		"messenger_panel {\nuser operator\n}":                            "is not exactly one placeholder",
		"messenger_panel {\nuser {query.user}\n}":                        "is chosen by the client or the contact",
		"messenger_panel {\nuser {cookie.user}\n}":                       "is chosen by the client or the contact",
		"messenger_panel {\nuser {http.messenger_auth.identity}\n}":      "is chosen by the client or the contact",
		"messenger_panel {\nuser {http.auth.user.id}{query.user}\n}":     "is not exactly one placeholder",
		"messenger_panel {header.X-Messenger}":                           "is chosen by the client or the contact",
		"messenger_panel {http.messenger_auth.identity}":                 "is chosen by the client or the contact",
		"messenger_panel team-{query.team}":                              "is chosen by the client or the contact",
		"messenger_panel Support":                                        "must begin with a lower-case letter",
		"messenger_panel support support":                                `names "support" twice`,
		"messenger_panel {\nuser {http.auth.user.id}\nuser {vars.x}\n}":  "user is set twice",
		"messenger_panel {\nusers {http.auth.user.id}\n}":                `unknown option "users"`,
		"messenger_panel support {\nuser\n}":                             "user takes exactly one value",
		"messenger_panel {http.request.host.labels.2}{http.request.uri}": "is chosen by the client or the contact",
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
