package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
)

// proxiedErrors is an error route that asks a backend for the page, as a site with pretty error pages does.
const proxiedErrors = `
	handle_errors {
		reverse_proxy UPSTREAM {
			header_up X-Code {http.messenger_auth.code}
			header_up X-User {http.auth.user.id}
		}
	}
`

// An error route that proxies is a second way to a backend. A request comes to it after any failure: ours, that of a
// handler behind us, that of a handler in front of us, or one that Caddy finds before any handler runs. The backend must
// not learn an identity from the client, or a token, on any of them.
func TestErrorRouteThatProxiesSeesNothingOfTheClient(t *testing.T) {
	up, m := newUpstream(t), methods(t)[0]
	messengers := m.messengers + "\nmessenger other {\n identity_key identity\n shared_token {file." + write(t, "other", []byte(newSecret())) + "}\n}\n"
	g := start(t, up, messengers+permitUnusual, `
		handle /early* {
			route {
				error 418
				messenger_auth support
			}
		}
		handle /later* {
			messenger_auth support
			error 503
		}
		handle /messengers/* {
			messenger_auth {path.1} {
				token_from header Authorization Bearer
				token_from query token
			}
			reverse_proxy UPSTREAM
		}
		handle {
			messenger_auth support
			reverse_proxy UPSTREAM
		}
	`+proxiedErrors)
	token := sign(m.key, good("mark"))
	host := "Host: " + g.addr + "\r\nConnection: close, X-Contact-Identity\r\n"
	evil := "X-Contact-Identity: evil\r\nX_Contact_Identity: evil\r\nX.Contact.Identity: evil\r\nX-Contact-Messenger: sales\r\n"
	nobody := map[string]string{}
	for _, test := range []struct {
		name, request string
		code          string
		want          map[string]string
		keepsToken    bool // it never came to us, and goes where it was sent
	}{
		{"our own refusal", "GET /a HTTP/1.1\r\n" + host + evil, "token_missing", nobody, false},
		{"our own refusal of an invalid token", "GET /a HTTP/1.1\r\n" + host + evil + bearer(token+"x") + "\r\n", "signature_invalid", nobody, false},
		{"a handler behind us", "GET /later HTTP/1.1\r\n" + host + evil + bearer(token) + "\r\n", "", map[string]string{"x-contact-identity": "mark", "x-contact-messenger": "support"}, false},
		{"a handler in front of us", "GET /early HTTP/1.1\r\n" + host + evil, "", nobody, false},
		{"a handler in front of us, with a token", "GET /early HTTP/1.1\r\n" + host + evil + bearer(token) + "\r\n", "", nobody, true},
		{"Caddy itself, which refuses the method", strings.Repeat("LONG", 9) + " /a HTTP/1.1\r\n" + host + evil, "", nobody, false},
		{"an unknown messenger", "GET /messengers/nobody/a?token=" + token + "&x=1 HTTP/1.1\r\n" + host + evil + bearer(token) + "\r\n", "messenger_unknown", nobody, false},
		{"a CONNECT", "CONNECT " + g.addr + " HTTP/1.1\r\n" + host + evil + bearer(token) + "\r\n", "protocol_not_allowed", nobody, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			g.raw(test.request + "\r\n")
			r := up.one(t)
			if got := ownHeaders(r.header); !maps.Equal(got, test.want) {
				t.Errorf("the upstream saw %v, want %v", got, test.want)
			}
			if got := r.header.Get("X-Code"); got != test.code {
				t.Errorf("{http.messenger_auth.code}: got %q, want %q", got, test.code)
			}
			if got, want := r.header.Get("X-User"), test.want["x-contact-identity"]; got != want {
				t.Errorf("{http.auth.user.id}: got %q, want %q", got, want)
			}
			if !test.keepsToken && (r.header.Get("Authorization") != "" || strings.Contains(r.uri, "token")) {
				t.Errorf("the upstream saw the token: %s %v", r.uri, r.header)
			}
		})
	}
}

// What the answer to a refusal says must not depend on what other sites, or error routes for other errors, do.
func TestErrorRouteAnswersOnlyWhatItIsFor(t *testing.T) {
	m := methods(t)[0]
	for _, test := range []struct {
		name, site string
		status     int
		body       string // "" is our problem
	}{
		{"no error route", "", 401, ""},
		{"for all errors", "handle_errors {\n respond \"sorry, {err.status_code}: {http.messenger_auth.code}\" 403\n}", 403, "sorry, 401: token_missing"},
		{"for this error", "handle_errors 401 {\n respond \"sorry\" 401\n}", 401, "sorry"},
		{"for other errors", "handle_errors 404 5xx {\n respond \"sorry\"\n}", 401, ""},
		{"of another site", "}\nhttp://another.example.com:PORT {\n handle_errors {\n respond \"sorry\"\n}", 401, ""},
		{"for this error, with a matcher", "handle_errors {\n @lost expression {err.status_code} == 401\n respond @lost \"lost\" 401\n}", 401, "lost"},
		{"for other errors, with a matcher", "handle_errors {\n @lost expression {err.status_code} == 404\n respond @lost \"lost\" 404\n}", 401, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			up := newUpstream(t)
			g := newGateway(t, up, "http://")
			port := g.addr[strings.LastIndex(g.addr, ":")+1:]
			g.load(m.messengers, "messenger_auth support\nreverse_proxy UPSTREAM\n"+strings.ReplaceAll(test.site, "PORT", port))
			a := g.get("/")
			if a.status != test.status {
				t.Errorf("status: got %d, want %d", a.status, test.status)
			}
			if test.body != "" && a.body != test.body {
				t.Errorf("body: got %q, want %q", a.body, test.body)
			}
			if test.body == "" && a.code(t) != "token_missing" {
				t.Errorf("body: got %q", a.body)
			}
			for name, want := range map[string]string{"Www-Authenticate": `Bearer realm="support"`, "Cache-Control": "no-store"} {
				if got := a.header.Get(name); got != want {
					t.Errorf("%s: got %q, want %q", name, got, want)
				}
			}
			up.none(t)
		})
	}
}

// A messenger_auth in an error route guards the backend behind that route; its refusal is an answer like any other.
func TestErrorRouteCanBeGuardedItself(t *testing.T) {
	up, m := newUpstream(t), methods(t)[0]
	g := start(t, up, m.messengers, "error 502\nhandle_errors {\n messenger_auth support\n reverse_proxy UPSTREAM\n}")
	if a := g.get("/", "X-Contact-Identity: evil"); a.status != 401 || a.code(t) != "token_missing" {
		t.Errorf("got %d %s, want 401 token_missing", a.status, a.body)
	}
	up.none(t)
	if g.get("/", bearer(sign(m.key, good("mark")))); up.one(t).header.Get("X-Contact-Identity") != "mark" {
		t.Error("the identity did not arrive")
	}
}

// The body of a refused request is for the error route that answers it, also if the client closes the connection afterwards: what the
// gateway would read of it for its own answer is missing there.
func TestErrorRouteGetsTheWholeBody(t *testing.T) {
	up, m := &upstream{}, methods(t)[0]
	got := make(chan int, 1)
	up.listen(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		got <- int(n)
		w.WriteHeader(http.StatusUnauthorized)
	})
	g := start(t, up, m.messengers, "messenger_auth support\nreverse_proxy UPSTREAM\n"+proxiedErrors)
	const size = 100 << 10
	a := g.raw(fmt.Sprintf("POST / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", g.addr, size, strings.Repeat("x", size)))
	if n := <-got; n != size || a.status != http.StatusUnauthorized {
		t.Errorf("the backend of the error route got %d bytes of %d, and the client %d", n, size, a.status)
	}
}

// The error routes of a subroute are for other errors than a refusal, or answer nothing. Caddy goes on with what follows the subroute then:
// no request that was refused reaches a backend there, and one that failed otherwise goes where it always went.
func TestRefusedRequestDoesNotGoOnBehindASubroute(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	g := newGateway(t, up, "http://")
	adapted := g.conf(g.caddyfile(m.messengers, "messenger_auth support\nrespond hello"))
	route := func(match, handlers string) string {
		if match != "" {
			match = `"match": [{"expression": "` + match + `"}], `
		}
		return `{` + match + `"handle": [` + handlers + `]}`
	}
	const say, onlyHeader = `{"handler": "static_response", "body": "an error page", "status_code": 418}`, `{"handler": "headers", "response": {"set": {"X-Page": ["yes"]}}}`
	backend := `{"handler": "reverse_proxy", "upstreams": [{"dial": "` + up.addr + `"}]}`
	auth := `{"handler": "messenger_auth", "messenger": "support", "match": [{"expression": "int({http.request.uri.query.n}) >= 0"}]}`
	fails := `{"handler": "subroute", "routes": [` + route("{http.request.uri.path} == '/fails'", `{"handler": "error", "status_code": 409}`) + `]}`
	within := func(inside string, errors ...string) string {
		return `{"handler": "subroute", "routes": [` + route("", inside) + `], "errors": {"routes": [` + strings.Join(errors, ",") + `]}}`
	}
	for name, test := range map[string]struct {
		handlers     string
		server       string // its error routes
		missing, bad int    // the statuses without a token, and if the matcher fails
	}{
		"for another status":         {within(auth, route("{http.error.status_code} == 404", say)), "", 401, 500},
		"and one of the server":      {within(auth, route("{http.error.status_code} == 404", say)), route("{http.error.status_code} == 401", say), 418, 500},
		"a header alone":             {within(auth, route("{http.error.status_code} == 401", onlyHeader)), "", 401, 500},
		"for this status":            {within(auth, route("{http.error.status_code} == 401", say)), "", 418, 500},
		"in two subroutes":           {within(within(auth, route("{http.error.status_code} == 404", say)), route("{http.error.status_code} == 401", say)), "", 418, 500},
		"in two, the other way":      {within(within(auth, route("{http.error.status_code} == 401", say)), route("{http.error.status_code} == 404", say)), "", 418, 500},
		"two directives":             {within(auth+","+auth, route("{http.error.status_code} == 404", say)), "", 401, 500},
		"after a failure in between": {within(auth+","+fails, route("{http.error.status_code} == 404", say)), "", 401, 500},
	} {
		var config map[string]any
		if err := json.Unmarshal(adapted, &config); err != nil {
			t.Fatal(err)
		}
		var routes, errors []any
		for text, list := range map[string]*[]any{`[` + route("", test.handlers+","+backend) + `]`: &routes, `[` + test.server + `]`: &errors} {
			if err := json.Unmarshal([]byte(text), list); err != nil {
				t.Fatal(err)
			}
		}
		for _, server := range config["apps"].(map[string]any)["http"].(map[string]any)["servers"].(map[string]any) {
			server := server.(map[string]any)
			server["routes"], server["errors"] = routes, map[string]any{"routes": errors}
		}
		g.replace([]byte(asJSON(t, config)))
		up.take()
		forged := bearer(sign(newSecret(), good("mark")))
		for what, want := range map[string][2]any{
			"/?n=1": {test.missing, ""}, "/?n=x": {test.bad, ""}, "/?n=1 ": {test.missing, forged}, "/?n=x ": {test.bad, forged},
		} {
			var lines []string
			if want[1] != "" {
				lines = append(lines, want[1].(string))
			}
			if a := g.get(strings.TrimSpace(what), lines...); a.status != want[0] {
				t.Errorf("%s, %q: got %d %s, want %d", name, what, a.status, a.body, want[0])
			}
			up.none(t)
		}
		if a := g.get("/?n=1", bearer(sign(m.key, good("mark")))); a.status != 200 || up.one(t).header.Get("X-Contact-Identity") != "mark" {
			t.Errorf("%s, with a token: got %d", name, a.status)
		}
	}
}
