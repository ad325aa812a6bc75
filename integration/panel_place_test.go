package integration

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// Where a panel may be: behind a proxy that ends TLS, with links of the operator's.

// startAnywhere runs a gateway with a panel at / under every host name, and returns its operator. options are for the whole server.
func startAnywhere(t *testing.T, options, site string) panelUser {
	t.Helper()
	g := newGateway(t, nil, "http://")
	g.load("messenger support {\nidentity_key identity\nshared_token\n}\n"+options, "respond 204\n}\nhttp://:"+portOf(g.addr)+" {\n"+site)
	return panelUser{g, "/", "operator"}
}

// A proxy in front ends TLS and says so. A client that says the same by itself is not believed: it may be a page that makes its own
// name resolve to 127.0.0.1, or a person whose password would cross the network unencrypted.
func TestPanelBehindAProxyThatEndsTLS(t *testing.T) {
	const site = "basic_auth bcrypt {\noperator " + panelHash + "\n}\nmessenger_panel"
	const notSaid = "the proxy in front of it does not report HTTPS"
	for name, test := range map[string]struct {
		lines            []string // of the proxy
		trusted, unknown string   // what is answered if the proxy is trusted, and if it is unknown; "" is the panel
	}{
		"https":                              {[]string{"X-Forwarded-Proto: https"}, "", "only under the name localhost"},
		"wss":                                {[]string{"X-Forwarded-Proto: wss"}, "", "only under the name localhost"},
		"https of the first of two proxies":  {[]string{"X-Forwarded-Proto: https, http"}, "", "only under the name localhost"},
		"http":                               {[]string{"X-Forwarded-Proto: http"}, notSaid, "only under the name localhost"},
		"http of the first of two proxies":   {[]string{"X-Forwarded-Proto: http, https"}, notSaid, "only under the name localhost"},
		"a scheme that is none":              {[]string{"X-Forwarded-Proto: httpsx"}, notSaid, "only under the name localhost"},
		"an empty first element":             {[]string{"X-Forwarded-Proto: ,https"}, notSaid, "only under the name localhost"},
		"Forwarded, which is not read":       {[]string{"Forwarded: proto=https"}, notSaid, "only under the name localhost"},
		"nothing":                            {nil, "only under the name localhost", "only under the name localhost"},
		"nothing but a host":                 {[]string{"X-Forwarded-Host: localhost"}, "only under the name localhost", "only under the name localhost"},
		"http, and a name of this machine":   {[]string{"X-Forwarded-Proto: http", "Host: localhost"}, notSaid, ""},
		"gopher, and a name of this machine": {[]string{"X-Forwarded-Proto: gopher", "Host: localhost"}, notSaid, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, side := range []struct{ options, want string }{{"servers {\n trusted_proxies static 127.0.0.1/32\n}", test.trusted}, {"", test.unknown}} {
				u := startAnywhere(t, side.options, site)
				a := u.get("", append([]string{"Host: panel.example.com"}, test.lines...)...)
				if side.want == "" {
					a.says(t, 200, "support")
					continue
				}
				a.says(t, 403, side.want)
				if strings.Contains(a.text(), "support") {
					t.Errorf("the page shows messengers: %s", a.text())
				}
				u.post("?page=new", fields("name", "evil"), append([]string{"Host: panel.example.com", "Origin: https://panel.example.com"}, test.lines...)...).says(t, 403)
			}
		})
	}
}

// A form comes from a page of the panel, under the address that the proxy says. Browsers that do not send Sec-Fetch-Site send Origin.
func TestFormsBehindAProxyThatEndsTLS(t *testing.T) {
	u := startAnywhere(t, "servers {\n trusted_proxies static 127.0.0.1/32\n}", "basic_auth bcrypt {\noperator "+panelHash+"\n}\nmessenger_panel")
	https := "X-Forwarded-Proto: https"
	for name, test := range map[string]struct {
		lines []string
		want  int
	}{
		"the browser says that it is the same origin":           {[]string{https, "Sec-Fetch-Site: same-origin"}, 303},
		"the origin of the panel":                               {[]string{https, "Origin: https://panel.example.com"}, 303},
		"the origin of the panel, with the usual port":          {[]string{https, "Origin: https://panel.example.com:443"}, 303},
		"the origin that the proxy names":                       {[]string{https, "Host: inner:9000", "X-Forwarded-Host: panel.example.com", "Origin: https://panel.example.com"}, 303},
		"another site":                                          {[]string{https, "Sec-Fetch-Site: cross-site", "Origin: https://panel.example.com"}, 403},
		"another subdomain":                                     {[]string{https, "Sec-Fetch-Site: same-site", "Origin: https://panel.example.com"}, 403},
		"the origin of another site":                            {[]string{https, "Origin: https://evil.example"}, 403},
		"the name of the panel without TLS, which anyone fakes": {[]string{https, "Origin: http://panel.example.com"}, 403},
		"a page whose name resolves to this machine":            {[]string{https, "Host: evil.example", "Origin: http://evil.example"}, 403},
		"the inner address":                                     {[]string{https, "Host: inner:9000", "X-Forwarded-Host: panel.example.com", "Origin: https://inner:9000"}, 403},
		"an opaque origin":                                      {[]string{https, "Origin: null"}, 403},
		"no origin":                                             {[]string{https}, 403},
	} {
		t.Run(name, func(t *testing.T) {
			a := u.send(http.MethodPost, "?page=new", fields("name", "acme"), append([]string{"Host: panel.example.com"}, test.lines...)...)
			if a.status != test.want {
				t.Fatalf("got %d, want %d: %s", a.status, test.want, a.text())
			}
			if a.status == 303 {
				local := []string{"Host: localhost", "Sec-Fetch-Site: same-origin"}
				revision := u.get("?page=delete&messenger=acme", "Host: localhost").revision(t)
				u.post("?page=delete&messenger=acme", map[string][]string{"typed": {"acme"}, "revision": {revision}}, local...)
			}
			u.get("?messenger=acme", "Host: localhost").says(t, 404)
		})
	}
}

// A whole way: the browser speaks TLS with a proxy and has a session at a login service, whose cookie passes the proxy.
func TestPanelBehindCaddyWithALogin(t *testing.T) {
	login := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := r.Cookie("session"); err != nil || c.Value != "alice" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Remote-User", "alice")
	}))
	defer login.Close()
	front := freeAddr(t)
	u := startAnywhere(t, "skip_install_trust\nservers {\n trusted_proxies static 127.0.0.1/32\n}",
		"forward_auth "+strings.TrimPrefix(login.URL, "http://")+" {\nuri /\ncopy_headers Remote-User\n}\nmessenger_panel {\nuser {header.Remote-User}\nsign_out https://login.example/out?a=1&b=2\nhelp /help\n}\n"+
			"}\nhttps://localhost:"+portOf(front)+" {\nbind 127.0.0.1\ntls internal\nreverse_proxy ADDR")
	u.g.url, u.name = "https://localhost:"+portOf(front), ""
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	eventually(t, "the proxy answers", func() bool {
		resp, err := client.Get(u.g.url)
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	if a := u.g.send(client, http.MethodGet, "/"); a.status != 401 || strings.Contains(a.body, "support") {
		t.Errorf("without a session: %d %s", a.status, a.body)
	}
	page := u.g.send(client, http.MethodGet, "/?messenger=support&page=keys", "Cookie: session=alice")
	page.says(t, 200, "Signed in as alice", "Sign out", "Help")
	for _, link := range []string{`<a href="https://login.example/out?a=1&amp;b=2">Sign out</a>`, `<a href="/help">Help</a>`} {
		if !strings.Contains(page.body, link) {
			t.Errorf("the page has no %s", link)
		}
	}
	u.g.send(client, http.MethodGet, "/?messenger=nobody", "Cookie: session=alice").says(t, 404, "Sign out", "Help")
	for site, want := range map[string]int{"same-origin": 200, "cross-site": 403} {
		form := "action=generate&revision=" + page.revision(t)
		r, err := http.NewRequest(http.MethodPost, u.g.url+"/?messenger=support&page=keys", strings.NewReader(form))
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Cookie": {"session=alice"}, "Sec-Fetch-Site": {site}, "Origin": {u.g.url}}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("a form that the browser says to be %s: %d", site, resp.StatusCode)
		}
	}
}

// A link of the operator's is on every page: it cannot run a script on it, and leads nowhere that its text does not say.
func TestPanelLinksCannotRunScripts(t *testing.T) {
	for _, link := range []string{"javascript:alert(1)", "JavaScript:alert(1)", "data:text/html,x", "vbscript:x", "blob:https://a.example/1", "file:///etc/passwd", "http://login.example/out", "//evil.example/",
		`/\evil.example`, `\\evil.example`, "https:evil.example", "https:///out", "https://", "https://user:secret@login.example/", "logout", "?page=new", "https://login.example/\u202eout", "{query.to}", "https://{http.request.host}/",
		"/log out", "mailto:help@example.com", "https://a b.example/", "/%zz"} {
		for _, option := range []string{"sign_out", "help"} {
			if got := loadError(t, "", "messenger_panel {\n"+option+" "+quoteToken(link)+"\n}"); !strings.Contains(got, "Caddyfile:") || !strings.Contains(got, "messenger_panel: "+option) || !strings.Contains(got, "https://") {
				t.Errorf("%s %s: %s", option, link, got)
			}
			// Configurations in JSON pass no adapter.
			config := mustJSON(map[string]any{"admin": map[string]any{"disabled": true}, "apps": map[string]any{"http": map[string]any{"servers": map[string]any{
				"s": map[string]any{"listen": []string{freeAddr(t)}, "routes": []any{map[string]any{"handle": []any{map[string]any{"handler": "messenger_panel", option: link}}}}}}}}})
			if err := caddy.Validate(mustConfig(t, json.RawMessage(config))); err == nil || !strings.Contains(err.Error(), "messenger_panel: "+option) {
				t.Errorf("%s %s in JSON: %v", option, link, err)
			}
		}
	}
	for _, option := range []string{"sign_out a b", "help", "sign_out /a\nsign_out /b"} {
		if got := loadError(t, "", "messenger_panel {\n"+option+"\n}"); !strings.Contains(got, strings.Fields(option)[0]) {
			t.Errorf("%s: %s", option, got)
		}
	}
}
