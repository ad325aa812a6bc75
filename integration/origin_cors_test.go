package integration

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// pagesCORS are origins, and whether the messenger of the tests below has them in allowed_origin.
var pagesCORS = map[string]bool{
	"https://www.example.com": true, "https://app.example.com:8443": true, "capacitor://localhost": true,
	"": false, "null": false, "https://evil.example.com": false, "http://www.example.com": false, "https://www.example.com:8443": false,
	"https://www.example.com.evil.com": false, "https://evil-www.example.com": false, "https://www.example.com@evil.com": false,
	"https://www.example.com,https://evil.com": false, "https://www.example.com https://evil.com": false, "https://www.example.com/": false,
	"capacitor://localhost.evil.com": false, "capacitor://localhost:1": false, "https://localhost": false, "capacitor:localhost": false,
	"https://www.example.com.": false, "https://sub.www.example.com": false, "https://example.com": false, "https://wwwXexample.com": false, "wss://www.example.com": false,
	"https://evil.com#https://www.example.com": false, "https://evil.com?https://www.example.com": false, "https://www.example.com:443@evil.com": false, "file://": false,
	"chrome-extension://www.example.com": false, "https://www.example.com:0": false, "https://app.example.com": false, "https://*.example.com": false, "https://www.example.com:443": true,
	"HTTPS://WWW.EXAMPLE.COM": true, "https://www%2eexample.com": false, "https://www.example.com\t": true, // net/http trims it
}

const corsSite = `
	handle /own/* {
		messenger_auth support {
			cors X-Cursor
			token_from header Authorization Bearer
			token_from cookie chat
		}
		reverse_proxy UPSTREAM
	}
	handle /optional/* {
		messenger_auth support {
			mode optional
			cors
		}
		reverse_proxy UPSTREAM
	}
	handle /report/* {
		messenger_auth support {
			mode report
			cors
		}
		reverse_proxy UPSTREAM
	}
	handle /down/* {
		messenger_auth support {
			cors
		}
		reverse_proxy 127.0.0.1:1
	}
	handle {
		messenger_auth support {
			cors
		}
		reverse_proxy UPSTREAM
	}
`

// newCORSBackend is a backend that answers with the headers that the query names.
func newCORSBackend(t *testing.T) *upstream {
	u := &upstream{}
	u.listen(t, func(w http.ResponseWriter, r *http.Request) {
		u.mu.Lock()
		u.seen = append(u.seen, received{method: r.Method, uri: r.RequestURI, header: r.Header.Clone()})
		u.mu.Unlock()
		for name, values := range r.URL.Query() {
			w.Header()[http.CanonicalHeaderKey(name)] = values
		}
	})
	return u
}

// A page of another origin works at the first try: its preflight is answered, and it reads answers and refusals. A page that is
// not listed, and one that looks like a listed one, does neither; and no cache gives the answer for one page to another.
func TestCORS(t *testing.T) {
	m, up := methods(t)[0], newCORSBackend(t)
	g := start(t, up, allowing(m, "https://www.example.com https://app.example.com:8443 capacitor://localhost"), corsSite)
	token := bearer(sign(m.key, valid("mark")))
	origin := func(o string, more ...string) []string {
		if o != "" {
			more = append(more, "Origin: "+o)
		}
		return more
	}
	readable := func(a answer) string {
		h := a.header
		return strings.Join([]string{strings.Join(h["Access-Control-Allow-Origin"], "|"), h.Get("Access-Control-Allow-Credentials"), h.Get("Access-Control-Expose-Headers"), strings.Join(h["Vary"], "|")}, " ")
	}
	for o, allowed := range pagesCORS {
		up.take()
		asked := origin(o, "Access-Control-Request-Method: PATCH", "Access-Control-Request-Headers: authorization,x-own", "Access-Control-Request-Private-Network: true")
		for _, path := range []string{"/", "/own/", "/optional/", "/report/"} {
			a := g.do(http.MethodOptions, path, asked...)
			if len(a.header["Access-Control-Allow-Private-Network"]) > 0 {
				t.Errorf("%s: %q may read from a private network, which nobody has configured", path, o)
			}
			switch reached := len(up.take()); {
			case o == "":
				if want := map[string]int{"/": 401, "/own/": 401, "/optional/": 200, "/report/": 200}[path]; a.status != want {
					t.Errorf("%s: without an Origin it is not a preflight, and got %d, want %d", path, a.status, want)
				}
			case !allowed:
				// One that is not an origin at all makes it another request, which is refused for that, or anonymous.
				refused := (a.status == 403 || a.status == 401) && reached == 0
				if len(a.header["Access-Control-Allow-Origin"]) > 0 || !refused && (path == "/" || path == "/own/" || strings.HasSuffix(o, "evil.example.com")) && path != "/report/" {
					t.Errorf("%s: the preflight from %q got %d %v, and %d requests reached the backend", path, o, a.status, a.header, reached)
				}
			default:
				got := fmt.Sprint(a.status, a.header.Get("Access-Control-Allow-Origin") == strings.TrimSpace(o), a.header["Access-Control-Allow-Methods"], a.header["Access-Control-Allow-Headers"],
					a.header["Access-Control-Allow-Credentials"], a.header["Vary"], reached)
				credentials := map[bool]string{true: "[true]", false: "[]"}[path == "/own/"]
				if want := "204 true [PATCH] [authorization,x-own] " + credentials + " [Origin Access-Control-Request-Method Access-Control-Request-Headers] 0"; got != want {
					t.Errorf("%s: the preflight from %q got %s, want %s", path, o, got, want)
				}
			}
		}
		page := map[bool]string{true: strings.TrimSpace(o)}[allowed]
		for name, test := range map[string]struct {
			a    answer
			want string
		}{
			"an answer":              {g.get("/", origin(o, token)...), page + "  WWW-Authenticate, Retry-After Origin"},
			"an answer with cookies": {g.get("/own/", origin(o, token)...), page + " true WWW-Authenticate, Retry-After, X-Cursor Origin"},
			"of the backend's own":   {g.get("/?Access-Control-Allow-Origin=https://other.example&Vary=X", origin(o, token)...), "https://other.example   X"},
			"with Vary":              {g.get("/?Vary=Accept,%20origin", origin(o, token)...), page + "  WWW-Authenticate, Retry-After Accept, origin"},
			"anonymous":              {g.get("/optional/", origin(o)...), page + "  WWW-Authenticate, Retry-After Origin"},
			"report":                 {g.get("/report/", origin(o)...), page + "  WWW-Authenticate, Retry-After Origin"},
			"a refusal":              {g.get("/", origin(o)...), page + " true WWW-Authenticate, Retry-After Origin"},
			"Caddy's own error":      {g.get("/down/", origin(o, token)...), page + "  WWW-Authenticate, Retry-After Origin"},
		} {
			want := test.want
			if page == "" && !strings.HasPrefix(want, "https://other") {
				want = "   " + want[strings.LastIndex(want, "After ")+len("After "):]
				if name == "an answer with cookies" {
					want = "   Origin"
				}
			}
			if got := readable(test.a); got != want {
				t.Errorf("%s, from %q: got %d with %q, want %q", name, o, test.a.status, got, want)
			}
		}
	}
	up.take()
	// What is no preflight is not answered as one: the gateway's own answer would hide that it has reached nobody.
	for name, lines := range map[string][]string{
		"two origins":          {"Origin: https://www.example.com", "Origin: https://evil.example.com", "Access-Control-Request-Method: POST"},
		"a method override":    {"Origin: https://www.example.com", "Access-Control-Request-Method: POST", "X-HTTP-Method-Override: POST"},
		"no method asked for":  {"Origin: https://www.example.com"},
		"two methods":          {"Origin: https://www.example.com", "Access-Control-Request-Method: GET, POST"},
		"a method with a line": {"Origin: https://www.example.com", "Access-Control-Request-Method: G\tT"},
	} {
		if a := g.do(http.MethodOptions, "/", lines...); a.status != 401 {
			t.Errorf("%s: got %d", name, a.status)
		}
	}
	if a := g.do(http.MethodOptions, "/", "Origin: https://www.example.com", "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: a b"); a.status != 204 || len(a.header["Access-Control-Allow-Headers"]) > 0 {
		t.Errorf("headers that are none: got %d %v", a.status, a.header)
	}
	up.none(t)
}

// An error page that a backend makes is readable once, and the backend's own word about it stays.
func TestCORSOnErrorRoutes(t *testing.T) {
	m, up := methods(t)[0], newCORSBackend(t)
	g := start(t, up, allowing(m, "https://www.example.com"), "messenger_auth support {\n cors\n}\nreverse_proxy 127.0.0.1:1\nhandle_errors 502 {\n rewrite {query.page}\n reverse_proxy UPSTREAM\n}")
	for query, want := range map[string]string{"": "[https://www.example.com] [Origin]", "?Access-Control-Allow-Origin=*": "[*] []"} {
		a := g.get("/?page="+url.QueryEscape("/"+query), bearer(sign(m.key, valid("mark"))), "Origin: https://www.example.com")
		if got := fmt.Sprint(a.header["Access-Control-Allow-Origin"], " ", a.header["Vary"]); got != want || len(up.take()) != 1 {
			t.Errorf("%s: got %d with %s, want %s", query, a.status, got, want)
		}
	}
}

// A refusal that an error route hands to a backend is readable once, too.
func TestRefusalsOnErrorRoutesAreReadableOnce(t *testing.T) {
	m, up := methods(t)[0], newCORSBackend(t)
	for _, option := range []string{"", "cors"} {
		g := start(t, up, allowing(m, "https://www.example.com"), "messenger_auth support {\n "+option+"\n}\nrespond hello\nhandle_errors 401 {\n rewrite {query.page}\n reverse_proxy UPSTREAM\n}\nhandle_errors 400 {\n respond refused 400\n}")
		for page, want := range map[string]string{"/": "[https://www.example.com] [Origin]", "/?Access-Control-Allow-Origin=*": "[*] []"} {
			a := g.get("/?page="+url.QueryEscape(page), "Origin: https://www.example.com")
			if got := fmt.Sprint(a.header["Access-Control-Allow-Origin"], " ", a.header["Vary"]); got != want || len(up.take()) != 1 {
				t.Errorf("%q, %s: got %d with %s, want %s", option, page, a.status, got, want)
			}
		}
		a := g.get("/", bearer(sign(m.key, valid("mark"))), bearer(sign(m.key, valid("zoe"))), "Origin: https://www.example.com") // two tokens
		if a.status != 400 || a.body != "refused" || fmt.Sprint(a.header["Access-Control-Allow-Origin"]) != "[https://www.example.com]" {
			t.Errorf("%q, an error route without a backend: got %d %v", option, a.status, a.header)
		}
	}
}

// In a browser: two pages of other origins than the gateway, one of them listed.
func TestCORSInABrowser(t *testing.T) {
	if !alone(t) {
		return
	}
	m := methods(t)[0]
	chat := newChat(t)
	up := &upstream{}
	up.listen(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Upgrade") != "":
			chat.serveChat(w, r)
		case strings.HasPrefix(r.URL.Path, "/events"):
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprintf(w, "data: %s\n\n", r.Header.Get("X-Contact-Identity"))
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		default:
			w.Header().Set("X-Cursor", "7")
			fmt.Fprintf(w, "%s of %s", r.Method, r.Header.Get("X-Contact-Identity"))
		}
	})
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		http.SetCookie(w, &http.Cookie{Name: "chat", Value: sign(m.key, valid("mark")), Path: "/events"})
		fmt.Fprint(w, "<!doctype html><title>page</title>")
	})
	listed, foreign := httptest.NewServer(page), httptest.NewServer(page)
	defer listed.Close()
	defer foreign.Close()
	g := start(t, up, allowing(m, listed.URL), "messenger_auth support {\n cors X-Cursor\n token_from header Authorization Bearer\n token_from cookie chat\n token_from websocket_protocol jwt\n}\nreverse_proxy UPSTREAM")
	tab := newBrowser(t, anyChromium)
	token := sign(m.key, valid("mark"))
	for site, want := range map[string][]string{
		listed.URL:  {"200 PUT of mark 7", "401 token_missing Bearer realm=\"support\"", "mark", "open"},
		foreign.URL: {"TypeError", "TypeError", "error", "closed"},
	} {
		browse(t, tab, chromedp.Navigate(site))
		gateway := "http://" + g.addr
		for i, script := range []string{
			`fetch("` + gateway + `/x", {method: "PUT", headers: {Authorization: "Bearer ` + token + `", "X-Own": "1", "Content-Type": "application/json"}, body: "{}"}).then(async r => r.status + " " + await r.text() + " " + r.headers.get("X-Cursor")).catch(e => e.name)`,
			`fetch("` + gateway + `/x").then(async r => r.status + " " + (await r.json()).code + " " + r.headers.get("WWW-Authenticate")).catch(e => e.name)`,
			`new Promise(done => { const s = new EventSource("` + gateway + `/events", {withCredentials: true}); s.onmessage = e => { s.close(); done(e.data) }; s.onerror = () => { s.close(); done("error") } })`,
			`new Promise(done => { const s = new WebSocket("ws://` + g.addr + `/echo", ["jwt", "` + token + `"]); s.onopen = () => { s.close(); done("open") }; s.onclose = () => done("closed") })`,
		} {
			if got := evaluate[string](t, tab, script); got != want[i] {
				t.Errorf("a page of %s: got %q, want %q from %s", map[bool]string{true: "the listed origin", false: "another origin"}[site == listed.URL], got, want[i], script[:40])
			}
		}
	}
}
