package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
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
func TestProxyingErrorRouteGetsNoForgedHeaders(t *testing.T) {
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
	token := sign(m.key, valid("mark"))
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
func TestErrorRouteHandlesOnlyItsErrors(t *testing.T) {
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
	if g.get("/", bearer(sign(m.key, valid("mark")))); up.one(t).header.Get("X-Contact-Identity") != "mark" {
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
func TestRefusedRequestDoesNotContinueAfterASubroute(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	g := newGateway(t, up, "http://")
	adapted := g.conf(g.caddyfile(m.messengers, "messenger_auth support\nrespond hello"))
	backend := `{"handler": "reverse_proxy", "upstreams": [{"dial": "` + up.addr + `"}]}`
	auth := `{"handler": "messenger_auth", "messenger": "support", "match": [{"expression": "int({http.request.uri.query.n}) >= 0"}]}`
	fails := `{"handler": "subroute", "routes": [` + jsonRoute("{http.request.uri.path} == '/fails'", `{"handler": "error", "status_code": 409}`) + `]}`
	on404 := jsonRoute("{http.error.status_code} == 404", jsonErrorPage)
	on401 := jsonRoute("{http.error.status_code} == 401", jsonErrorPage)
	for name, test := range map[string]struct {
		handlers     string
		server       string // its error routes
		missing, bad int    // the statuses without a token, and if the matcher fails
	}{
		"for another status":         {jsonWithin(auth, on404), "", 401, 500},
		"and one of the server":      {jsonWithin(auth, on404), on401, 418, 500},
		"a header alone":             {jsonWithin(auth, jsonRoute("{http.error.status_code} == 401", `{"handler": "headers", "response": {"set": {"X-Page": ["yes"]}}}`)), "", 401, 500},
		"for this status":            {jsonWithin(auth, on401), "", 418, 500},
		"in two subroutes":           {jsonWithin(jsonWithin(auth, on404), on401), "", 418, 500},
		"in two, the other way":      {jsonWithin(jsonWithin(auth, on401), on404), "", 418, 500},
		"two directives":             {jsonWithin(auth+","+auth, on404), "", 401, 500},
		"after a failure in between": {jsonWithin(auth+","+fails, on404), "", 401, 500},
		"a failure in front":         {jsonWithin(fails+","+auth, on404), "", 401, 500},
		"no error route":             {jsonWithin(auth), "", 401, 500},
		"none, one of the server":    {jsonWithin(auth), on401, 418, 500},
		"none at all":                {strings.Replace(jsonWithin(auth), `"errors": {"routes": []}`, `"errors": {}`, 1), on401, 418, 500},
	} {
		g.replace(withRoutes(t, adapted, jsonRoute("", test.handlers+","+backend), test.server, ""))
		up.take()
		forged := bearer(sign(newSecret(), valid("mark")))
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
		if a := g.get("/?n=1", bearer(sign(m.key, valid("mark")))); a.status != 200 || up.one(t).header.Get("X-Contact-Identity") != "mark" {
			t.Errorf("%s, with a token: got %d", name, a.status)
		}
		// What failed otherwise goes where it always went, and never with what the client wrote.
		for _, lines := range [][]string{nil, {bearer(sign(m.key, valid("mark")))}} {
			g.get("/fails?n=1", append(lines, "X-Contact-Identity: evil", "X_Contact_Identity: evil")...)
			for _, seen := range up.take() {
				if got := ownHeaders(seen.header); len(got) > 0 && got["x-contact-identity"] != "mark" {
					t.Errorf("%s, after another failure: the backend saw %v", name, got)
				}
			}
		}
	}
}

// A subroute with errors around an invoke goes on behind a refusal in the named route, which cannot know of it: such a configuration
// is refused, whatever is in between, and says what to write.
func TestErrorsAroundAnInvokeAreRefused(t *testing.T) {
	m := methods(t)[0]
	g := newGateway(t, newUpstream(t), "http://")
	adapted := g.conf(g.caddyfile(m.messengers, "messenger_auth support\nrespond hello"))
	const auth, invoke, say = `{"handler": "messenger_auth", "messenger": "support"}`, `{"handler": "invoke", "name": "page"}`, jsonErrorPage
	response := `{"handler": "intercept", "handle_response": [{"routes": [` + jsonRoute("", invoke) + `]}]}`
	for name, test := range map[string]struct {
		handlers, server, named string
		works                   bool
	}{
		"around it":                    {jsonWithin(invoke, jsonRoute("", say)), "", auth, false},
		"without a route":              {jsonWithin(invoke), "", auth, false},
		"around a subroute with it":    {jsonWithin(`{"handler": "subroute", "routes": [` + jsonRoute("", invoke) + `]}`), "", auth, false},
		"around a response":            {jsonWithin(response), "", auth, false},
		"in an error route":            {jsonWithin(say, jsonRoute("", invoke)), "", auth, true},
		"around one in an error route": {jsonWithin(say, jsonRoute("", jsonWithin(invoke))), "", auth, false},
		"in an error route of all":     {say, jsonRoute("", jsonWithin(invoke)), auth, false},
		"written in another case":      {strings.NewReplacer(`"errors"`, `"Errors"`, `"name"`, `"Name"`).Replace(jsonWithin(invoke)), "", auth, false},
		"a handler that guards none":   {jsonWithin(invoke), "", `{"handler": "messenger_health"}`, true},
		"errors in the named route":    {invoke, "", jsonWithin(auth, jsonRoute("", say)), true},
		"errors of the server":         {invoke, jsonRoute("", say), auth, true},
		"an invoke beside it":          {invoke + "," + jsonWithin(say), "", auth, true},
		"nothing of ours is invoked":   {jsonWithin(invoke) + "," + auth, "", say, true},
		"errors around what is direct": {jsonWithin(auth, jsonRoute("", say)) + "," + invoke, "", say, true},
	} {
		config := withRoutes(t, adapted, jsonRoute("", test.handlers), test.server, test.named)
		if test.works {
			g.replace(config)
		} else if err := caddy.Load(config, true); err == nil || !strings.Contains(err.Error(), "a subroute that has errors invokes the named route page") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// A page of the messenger's own reads why it was refused, in every shape of error routes.
func TestRefusalsAreReadableInEveryShapeOfErrorRoutes(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	g := newGateway(t, up, "http://")
	adapted := g.conf(g.caddyfile(allowing(m, "https://www.example.com"), "messenger_auth support\nrespond hello"))
	on404 := jsonRoute("{http.error.status_code} == 404", jsonErrorPage)
	on401 := jsonRoute("{http.error.status_code} == 401", jsonErrorPage)
	in := func(handlers string) string {
		return jsonRoute("", `{"handler": "subroute", "routes": [`+handlers+`]}`)
	}
	fails := `{"handler": "subroute", "routes": [` + jsonRoute("{http.request.uri.path} == '/fails'", `{"handler": "error", "status_code": 401}`) + `]}`
	for _, option := range []string{"", `, "cors": {}`, `, "cors": {"exposed_headers": ["X-Cursor"]}`, `, "cors": {}, "token_from": [{"from": "cookie", "name": "chat"}]`} {
		auth := `{"handler": "messenger_auth", "messenger": "support"` + option + `},` + fails
		for name, test := range map[string]struct{ handlers, server, named string }{
			"no error route":                     {auth, "", ""},
			"an error route of the server":       {auth, on401, ""},
			"for another status":                 {auth, on404, ""},
			"a subroute in it":                   {auth, in(on404 + "," + on401), ""},
			"of a subroute":                      {jsonWithin(auth, on401), "", ""},
			"of a subroute, for another status":  {jsonWithin(auth, on404), "", ""},
			"of a subroute, and of the server":   {jsonWithin(auth, on404), on401, ""},
			"of two subroutes":                   {jsonWithin(jsonWithin(auth, on404), on401), "", ""},
			"of two subroutes, the other way":    {jsonWithin(jsonWithin(auth, on401), on404), "", ""},
			"an error route that fails as well":  {auth, jsonRoute("", jsonWithin(`{"handler": "error", "status_code": 401}`, on401)), ""},
			"a named route":                      {`{"handler": "invoke", "name": "page"}`, "", jsonWithin(auth, on401)},
			"a named route, for another status":  {`{"handler": "invoke", "name": "page"}`, "", jsonWithin(auth, on404)},
			"a named route, and of the server":   {`{"handler": "invoke", "name": "page"}`, on401, jsonWithin(auth, on404)},
			"a named route with a subroute":      {`{"handler": "invoke", "name": "page"}`, "", jsonWithin(auth, in(on401))},
			"a named route that is invoked here": {jsonWithin(auth, jsonRoute("", `{"handler": "invoke", "name": "page"}`)), "", jsonErrorPage},
		} {
			g.replace(withRoutes(t, adapted, jsonRoute("", test.handlers), test.server, test.named))
			if a := g.get("/fails", bearer(sign(m.key, valid("mark"))), "Cookie: chat="+sign(m.key, valid("mark")), "Origin: https://www.example.com"); !strings.Contains(a.header.Get("Cache-Control"), "private") {
				t.Errorf("%s, %s, an error for a contact: got %d %v", option, name, a.status, a.header)
			} else if got := fmt.Sprint(a.header["Access-Control-Allow-Origin"]); option != "" && got != "[https://www.example.com]" {
				t.Errorf("%s, %s, an error for a contact: the page is %s", option, name, got)
			}
			for what, lines := range map[string][]string{"no token": nil, "a forged one": {bearer(sign(newSecret(), valid("mark")))}, "a cookie": {"Cookie: chat=x.y.z"}} {
				for origin, want := range map[string]string{"https://www.example.com": "[https://www.example.com] [true] [Origin]", "https://evil.example.com": "[] [] [Origin]"} {
					a := g.get("/", append(lines, "Origin: "+origin)...)
					got := fmt.Sprint(a.header["Access-Control-Allow-Origin"], " ", a.header["Access-Control-Allow-Credentials"], " ", a.header["Vary"])
					if got != want || (a.status != 401 && a.status != 418) {
						t.Errorf("%s, %s, %s, %s: got %d with %s, want %s", option, name, what, origin, a.status, got, want)
					}
					exposed := strings.Join(a.header["Access-Control-Expose-Headers"], "|")
					if (want[1] == 'h') != (strings.Contains(exposed, "WWW-Authenticate") && !strings.Contains(exposed, "|")) {
						t.Errorf("%s, %s, %s, %s: exposed are %q", option, name, what, origin, exposed)
					}
				}
			}
		}
	}
}

const jsonErrorPage = `{"handler": "static_response", "body": "an error page", "status_code": 418}`

// jsonRoute returns a route for requests that match an expression, or for all if there is none.
func jsonRoute(match, handlers string) string {
	if match != "" {
		match = `"match": [{"expression": "` + match + `"}], `
	}
	return `{` + match + `"handle": [` + handlers + `]}`
}

// jsonWithin returns a subroute with handlers, and its error routes.
func jsonWithin(handlers string, errors ...string) string {
	return `{"handler": "subroute", "routes": [` + jsonRoute("", handlers) + `], "errors": {"routes": [` + strings.Join(errors, ",") + `]}}`
}

// withRoutes returns a configuration with other routes, error routes and one named route, "page", whose texts may be empty.
func withRoutes(t *testing.T, adapted []byte, routes, errors, named string) []byte {
	t.Helper()
	list := func(text string) (list []any) {
		if err := json.Unmarshal([]byte(`[`+text+`]`), &list); err != nil {
			t.Fatal(err)
		}
		return list
	}
	var config map[string]any
	if err := json.Unmarshal(adapted, &config); err != nil {
		t.Fatal(err)
	}
	for _, server := range config["apps"].(map[string]any)["http"].(map[string]any)["servers"].(map[string]any) {
		server := server.(map[string]any)
		server["routes"], server["errors"] = list(routes), map[string]any{"routes": list(errors)}
		if named != "" {
			server["named_routes"] = map[string]any{"page": map[string]any{"handle": list(named)}}
		}
	}
	return []byte(asJSON(t, config))
}
