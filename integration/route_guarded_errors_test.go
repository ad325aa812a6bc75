package integration

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// The error routes of a subroute can be guarded like other routes, wherever in them messenger_auth is: without a valid token no request gets
// through, and nothing that the client wrote.
func TestErrorRoutesOfASubrouteCanBeGuarded(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	g := newGateway(t, up, "http://")
	adapted := g.conf(g.caddyfile(m.messengers, "messenger_auth support\nrespond hello"))
	const auth, other = `{"handler": "messenger_auth", "messenger": "support"}`, `{"handler": "messenger_auth", "messenger": "support", "identity_header": "X-Other"}`
	const pages = `{"handler": "messenger_auth", "messenger": "support", "cors": {}}`
	backend := `{"handler": "reverse_proxy", "upstreams": [{"dial": "` + up.addr + `"}]}`
	fails := func(status int) string { return fmt.Sprintf(`{"handler": "error", "status_code": %d}`, status) }
	on := func(status int, handlers string) string {
		return jsonRoute(fmt.Sprint("{http.error.status_code} == ", status), handlers)
	}
	for name, handlers := range map[string]string{
		"with the backend":         jsonWithin(fails(404), jsonRoute("", auth+","+backend)),
		"in front of it":           jsonWithin(fails(404), jsonRoute("", auth)) + "," + backend,
		"the second one":           jsonWithin(fails(404), on(409, jsonErrorPage), jsonRoute("", auth)) + "," + backend,
		"the first of three":       jsonWithin(fails(404), on(404, auth), on(404, backend), jsonRoute("", jsonErrorPage)),
		"all of them":              jsonWithin(fails(404), on(409, auth+","+jsonErrorPage), on(404, auth+","+backend)),
		"and the routes":           jsonWithin(auth+","+fails(404), jsonRoute("", auth+","+backend)),
		"and the routes otherwise": jsonWithin(other+","+fails(404), jsonRoute("", auth+","+backend)),
		"a subroute in one":        jsonWithin(fails(404), jsonRoute("", jsonWithin(auth+","+fails(409), jsonRoute("", backend)))),
		"one of a subroute in one": jsonWithin(jsonWithin(fails(404), jsonRoute("", auth+","+backend)), jsonRoute("", jsonErrorPage)),
		"behind a subroute in it":  auth + "," + jsonWithin(pages+","+fails(404)) + "," + backend,
		"one that fails as well":   jsonWithin(fails(404), jsonRoute("", jsonWithin(fails(409), jsonRoute("", auth+","+backend)))),
	} {
		g.replace(withRoutes(t, adapted, jsonRoute("", handlers), "", ""))
		up.take()
		for _, lines := range [][]string{nil, {bearer(sign(newSecret(), valid("mark")))}} {
			if a := g.get("/", append(lines, "X-Contact-Identity: evil")...); a.status != 401 && a.status != 418 {
				t.Errorf("%s: got %d %s", name, a.status, a.body)
			}
			up.none(t)
		}
		a := g.get("/", bearer(sign(m.key, valid("mark"))), "X-Contact-Identity: evil")
		got := up.one(t).header
		contact := got.Get("X-Contact-Identity") + got.Get("X-Other")
		if a.status != 200 || contact != "mark" && !(contact == "" && name == "a subroute in one") { // an error of an error route has no contact
			t.Errorf("%s, with a token: got %d %s, and the backend %v", name, a.status, a.body, got)
		}
	}
}

// The answer to a request that failed for a contact is private, whichever error route gives it. Headers for pages come once, and those that
// the operator has set stay.
func TestErrorsOfAContactArePrivate(t *testing.T) {
	m, page := methods(t)[0], &upstream{}
	page.listen(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.WriteHeader(http.StatusNotFound)
	})
	g := newGateway(t, page, "http://")
	adapted := g.conf(g.caddyfile(allowing(m, "https://www.example.com"), "messenger_auth support\nrespond hello"))
	proxied := `{"handler": "reverse_proxy", "upstreams": [{"dial": "` + page.addr + `"}]}`
	const fails, exposing = `{"handler": "error", "status_code": 404}`, `{"handler": "headers", "response": {"set": {"Access-Control-Expose-Headers": ["X-Cursor"]}}}`
	terminal := func(subroute string) string {
		return strings.Replace(subroute, `"routes": [{}]`, `"routes": [{"terminal": true}]`, 1)
	}
	for _, option := range []string{"", `, "cors": {}`} {
		auth := `{"handler": "messenger_auth", "messenger": "support"` + option + `}`
		own := "[]"
		if option != "" {
			own = "[https://www.example.com]"
		}
		for name, test := range map[string]struct{ handlers, server, origin, exposed string }{
			"Caddy's own answer":               {auth + "," + fails, "", own, ""},
			"behind a subroute":                {jsonWithin(auth+","+fails) + "," + fails, "", "", ""},
			"an error route that ends":         {terminal(jsonWithin(auth+","+fails, "{}")), "", own, ""},
			"one of the server that ends":      {auth + "," + fails, `{"terminal": true}`, own, ""},
			"a page of a backend":              {auth + "," + fails, jsonRoute("", proxied), "[*]", ""},
			"the same, the operator exposes":   {exposing + "," + auth + "," + fails, jsonRoute("", proxied), "[*]", "X-Cursor"},
			"after another failure":            {jsonWithin(fails) + "," + auth + "," + fails, jsonRoute("", proxied), "[*]", ""},
			"in an error route":                {jsonWithin(jsonWithin(fails, jsonRoute("", auth+","+fails)), jsonRoute("", proxied)), "", "[*]", ""},
			"behind a subroute, and a backend": {jsonWithin(jsonWithin(auth+","+fails)+","+fails, jsonRoute("", proxied)), "", "[*]", ""},
		} {
			g.replace(withRoutes(t, adapted, jsonRoute("", test.handlers), test.server, ""))
			a := g.get("/", bearer(sign(m.key, valid("mark"))), "Origin: https://www.example.com")
			if got := fmt.Sprint(a.header["Cache-Control"]); a.status != 404 || got != "[private]" {
				t.Errorf("%q, %s: got %d with %s", option, name, a.status, got)
			}
			if got := fmt.Sprint(a.header["Access-Control-Allow-Origin"]); test.origin != "" && got != test.origin {
				t.Errorf("%q, %s: the page is %s, want %s", option, name, got, test.origin)
			}
			if got := strings.Join(a.header["Access-Control-Expose-Headers"], "|"); test.exposed != "" && got != test.exposed {
				t.Errorf("%q, %s: exposed is %s", option, name, got)
			}
		}
	}
}
