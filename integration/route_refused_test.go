package integration

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// Caddy compiles a server's error routes before it provisions named routes. A messenger_auth in a named route protects
// the backend of an error page too, from requests that failed before they came to it.
func TestErrorRouteIsCleanedByANamedRoute(t *testing.T) {
	up, m := newUpstream(t), methods(t)[0]
	errorPages := map[string]string{
		"one error route":            "handle_errors {\n reverse_proxy UPSTREAM\n}\n",
		"one for each status":        "handle_errors 418 {\n reverse_proxy UPSTREAM\n}\nhandle_errors {\n header Down-A on\n reverse_proxy UPSTREAM\n}\n",
		"with handle":                "handle_errors {\n handle {\n header Down-A on\n reverse_proxy UPSTREAM\n }\n}\n",
		"with a named route":         "handle_errors {\n invoke proxy\n}\n",
		"with the named route":       "handle_errors {\n invoke auth\n reverse_proxy UPSTREAM\n}\n",
		"in a site with a host, too": "handle_errors {\n reverse_proxy UPSTREAM\n}\n}\nhttp://other.example.com:PORT {\n invoke auth\n handle_errors {\n reverse_proxy UPSTREAM\n }\n",
	}
	for name, pages := range errorPages {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, up, "http://")
			pages = strings.ReplaceAll(pages, "PORT", g.addr[strings.LastIndex(g.addr, ":")+1:])
			s := shape{
				named: "&(auth) {\n header Down-A on\n" + plainAuth + "}\n&(proxy) {\n" + plainProxy + "}",
				site:  "route {\n error /early* 418\n error /other* 404\n invoke auth\n" + plainProxy + "}\n" + pages,
			}
			s.load(t, g, m)
			for _, request := range []string{"GET /early", "GET /other", strings.Repeat("LONG", 9) + " /a"} {
				g.raw(request + " HTTP/1.1\r\nHost: " + g.addr + "\r\nConnection: close\r\nX-Contact-Identity: eve\r\nx-contact-messenger: sales\r\n\r\n")
				seen := up.take()
				if len(seen) != 1 && name != "with the named route" { // which answers in place of the backend
					t.Errorf("%s: the backend of the error page was reached %d times, want once", request, len(seen))
				}
				for _, seen := range seen {
					if got := ownHeaders(seen.header); len(got) != 0 {
						t.Errorf("%s: the backend of the error page saw %v", request, got)
					}
				}
			}
		})
	}
}

// Health and panel answer in a named route as they do in a site, whatever is beside them.
func TestHealthAndPanelWorkInNamedRoutes(t *testing.T) {
	if !alone(t) {
		return
	}
	m := methods(t)[0]
	for _, directive := range []string{"messenger_health", "messenger_health /ops", "messenger_panel", "messenger_panel /ops", "messenger_panel @ops support"} {
		g := newGateway(t, nil, "http://")
		shape{site: "@ops path /ops\n" + directive + "\n"}.load(t, g, m)
		want := g.get("/ops")
		for name, s := range map[string]shape{
			"alone":                       {named: "&(ops) {\n@ops path /ops\n" + directive + "\n}", site: "invoke ops"},
			"behind others":               {named: "&(ops) {\n@ops path /ops\nheader Down-A on\nvars a b\n" + directive + "\n}", site: "invoke ops"},
			"before an answer":            {named: "&(ops) {\n@ops path /ops\n" + directive + "\nrespond other\n}", site: "invoke ops"},
			"before messenger_auth":       {named: "&(ops) {\n@ops path /ops\nroute {\n" + directive + "\n" + plainAuth + "}\n}", site: "invoke ops"},
			"the specific one goes first": {named: "&(ops) {\n@ops path /ops\n@else path /else\nmessenger_panel @else\nrespond other\n" + directive + "\n}", site: "invoke ops"},
		} {
			t.Run(directive+", "+name, func(t *testing.T) {
				g := newGateway(t, nil, "http://")
				s.load(t, g, m)
				got := g.get("/ops")
				if got.status != want.status || got.header.Get("Content-Type") != want.header.Get("Content-Type") || got.body == "other" {
					t.Errorf("got %d %s %.100q, want %d %.100q", got.status, got.header.Get("Content-Type"), got.body, want.status, want.body)
				}
				if strings.Contains(s.named, "Down-A") && got.header.Get("Down-A") != "on" {
					t.Error("the directive beside it was dropped")
				}
			})
		}
	}
}

// What cannot work does not load, and says so.
func TestConfigurationsThatDropTheGatewayAreRefused(t *testing.T) {
	m := methods(t)[0]
	const lost = "&(chat) {\n header A b\n invoke auth\n}\n"
	for name, s := range map[string]shape{
		"a handle behind a header":                       {named: "&(auth) {\n header A b\n handle {\n" + plainAuth + "}\n}", site: "invoke auth\nrespond chat"},
		"a proxy behind a handle":                        {named: "&(auth) {\n handle {\n" + plainAuth + "}\n respond chat\n}", site: "invoke auth"},
		"a route behind a header":                        {named: "&(auth) {\n header A b\n route {\n" + plainAuth + "}\n}", site: "invoke auth\nrespond chat"},
		"a route behind a header, two deep":              {named: "&(auth) {\n header A b\n handle {\n handle /a {\n" + plainAuth + "}\n}\n}", site: "invoke auth\nrespond chat"},
		"in a snippet":                                   {named: "(auth) {\n header A b\n handle {\n" + plainAuth + "}\n}\n&(named) {\n import auth\n}", site: "invoke named\nrespond chat"},
		"an invoke behind a header":                      {named: "&(outer) {\n header A b\n invoke auth\n}\n&(auth) {\n" + plainAuth + "}", site: "invoke outer\nrespond chat"},
		"an invoke of an invoke":                         {named: "&(outer) {\n invoke middle\n}\n&(middle) {\n header A b\n invoke auth\n}\n&(auth) {\n" + plainAuth + "}", site: "invoke outer\nrespond chat"},
		"the panel in a handle behind a header":          {named: "&(ops) {\n header A b\n handle {\nmessenger_panel\n}\n}", site: "invoke ops"},
		"health behind a header and an invoke":           {named: "&(outer) {\n header A b\n invoke ops\n}\n&(ops) {\nmessenger_health\n}", site: "invoke outer"},
		"an invoke of what the site invokes too":         {named: lost + "&(auth) {\n" + plainAuth + "}", site: "handle /chat/* {\n invoke chat\n respond chat\n}\nhandle {\n invoke auth\n respond other\n}"},
		"the same, the other way around":                 {named: "&(auth) {\n" + plainAuth + "}\n" + lost, site: "handle {\n invoke auth\n respond other\n}\nhandle /chat/* {\n invoke chat\n respond chat\n}"},
		"the same, with ours in the site":                {named: lost + "&(auth) {\n" + plainAuth + "}", site: plainAuth + "handle /chat/* {\n invoke chat\n}\nhandle {\n invoke auth\n}"},
		"the same, on another site of the server":        {named: lost + "&(auth) {\n" + plainAuth + "}\nhttp://other.example.com {\n invoke auth\n}", site: "invoke chat\nrespond chat"},
		"the same, in an error route":                    {named: lost + "&(auth) {\n" + plainAuth + "}", site: "invoke auth\nhandle_errors {\n invoke chat\n respond chat\n}"},
		"the same, in a snippet and with a matcher":      {named: lost + "&(auth) {\n" + plainAuth + "}\n(use) {\n invoke /chat/* chat\n}", site: "import use\ninvoke /other/* auth\nrespond chat"},
		"the same, in a handle_response":                 {named: lost + "&(auth) {\n" + plainAuth + "}", site: "invoke auth\nreverse_proxy UPSTREAM {\n @down status 502\n handle_response @down {\n invoke chat\n }\n}"},
		"the same, two deep":                             {named: "&(outer) {\n invoke chat\n}\n" + lost + "&(auth) {\n invoke inner\n}\n&(inner) {\n" + plainAuth + "}", site: "invoke outer\ninvoke auth\nrespond chat"},
		"the same, and what it leads to has lost it too": {named: lost + "&(auth) {\n vars a b\n invoke inner\n}\n&(inner) {\n" + plainAuth + "}", site: "invoke chat\ninvoke inner\nrespond chat"},
		"the same, with the same invoke in what is kept": {named: "&(chat) {\n intercept {\n @down status 502\n handle_response @down {\n invoke auth\n }\n }\n invoke auth\n}\n&(auth) {\n" + plainAuth + "}", site: "invoke chat\nrespond chat"},
		"the same, and ours is the panel":                {named: "&(chat) {\n header A b\n invoke auth\n}\n&(auth) {\nmessenger_panel\n}", site: "invoke chat\ninvoke auth"},
		"health and panel for every request":             {named: "&(ops) {\nmessenger_health\nmessenger_panel\n}", site: "invoke ops"},
		"an intercept behind a header":                   {named: "&(auth) {\n header A b\n intercept {\n @down status 502\n handle_response @down {\n" + plainAuth + "}\n}\n}", site: "invoke auth\nrespond chat"},
	} {
		t.Run(name, func(t *testing.T) { s.refuse(t, m) })
	}
}

// What Caddy drops from named routes that do not concern the gateway is no reason to refuse it.
func TestUnrelatedInvokesLoad(t *testing.T) {
	up, m := newUpstream(t), methods(t)[0]
	const named = "&(chat) {\n header Down-B on\n invoke plain\n}\n&(plain) {\n header Down-C on\n}\n&(auth) {\n header Down-A on\n" + plainAuth + "}\n"
	for name, s := range map[string]shape{
		"what is dropped is not ours":       {named: named, site: "invoke chat\ninvoke plain\ninvoke auth\n" + plainProxy, marked: []string{"Down-A", "Down-B", "Down-C"}},
		"what has lost ours is not invoked": {named: named + "&(unused) {\n header A b\n invoke auth\n}\n", site: "invoke auth\n" + plainProxy, marked: []string{"Down-A"}},
		"all is in one route":               {named: named + "&(kept) {\n route {\n header Down-B on\n invoke auth\n }\n}\n", site: "invoke kept\nroute /other {\n invoke auth\n}\n" + plainProxy, marked: []string{"Down-A", "Down-B"}},
		"a matcher keeps it":                {named: named + "&(kept) {\n @chat path /chat/*\n header @chat Down-B on\n invoke auth\n}\n", site: "invoke kept\nroute /other {\n invoke auth\n}\n" + plainProxy, marked: []string{"Down-A", "Down-B"}},
		"alone":                             {named: named + "&(kept) {\n invoke auth\n}\n", site: "invoke kept\nroute /other {\n invoke auth\n}\n" + plainProxy, marked: []string{"Down-A"}},
	} {
		t.Run(name, func(t *testing.T) { s.serve(t, newGateway(t, up, "http://"), up, m) })
	}
}

// The same in JSON: a named route that nothing invokes, and an error route into which a named route cannot reach.
func TestJSONOfNamedRoutesThatCannotWork(t *testing.T) {
	t.Setenv("MESSENGER_TEST_TOKEN", newSecret())
	const auth, proxy, invoke = `{"handler": "messenger_auth"}`, `{"handler": "reverse_proxy", "upstreams": [{"dial": "127.0.0.1:1"}]}`, `{"handler": "invoke", "name": "auth"}`
	const response = `{"handler": "reverse_proxy", "upstreams": [{"dial": "127.0.0.1:1"}], "handle_response": [{"routes": [{"handle": [` + invoke + `]}]}]}`
	const interceptor = `{"handler": "intercept", "handle_response": [{"routes": [{"handle": [` + invoke + `]}]}]}`
	for name, test := range map[string]struct {
		site, errors string
		want         string // "" loads
	}{
		"invoked":                        {site: invoke},
		"invoked in a subroute":          {site: `{"handler": "subroute", "routes": [{"handle": [` + invoke + `]}]}`},
		"invoked in a subroute's error":  {site: `{"handler": "subroute", "errors": {"routes": [{"handle": [` + invoke + `]}]}}`},
		"invoked for a response":         {site: response},
		"invoked for an intercept":       {site: interceptor},
		"invoked in an error route":      {site: proxy, errors: invoke, want: "error route 0"},
		"not invoked":                    {site: proxy, want: "nothing invokes the named route auth"},
		"the error route proxies":        {site: invoke, errors: proxy, want: "error route 0"},
		"the error route answers itself": {site: invoke, errors: `{"handler": "static_response", "body": "sorry"}, ` + proxy},
		"the error route has a clean":    {site: auth + `, ` + invoke, errors: proxy},
		"that is for other headers":      {site: `{"handler": "messenger_auth", "identity_header": "X-Other"}, ` + invoke, errors: proxy, want: "error route 0"},
		"the error route is a subroute":  {site: invoke, errors: `{"handler": "subroute", "routes": [{"handle": [` + proxy + `]}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			text := `{"apps": {"messenger": {"messengers": {"support": {"identity_key": "identity", "shared_token": {"token": "{env.MESSENGER_TEST_TOKEN}"}}}},
				"http": {"servers": {"chat": {"listen": ["127.0.0.1:0"], "routes": [{"handle": [` + test.site + `]}],
				"errors": {"routes": [{"handle": [` + test.errors + `]}]}, "named_routes": {"auth": {"handle": [` + auth + `]}}}}}}}`
			err := caddy.Validate(mustConfig(t, []byte(text)))
			if test.want == "" && err != nil {
				t.Errorf("it does not load: %v", err)
			}
			if test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got the error %v, want one that says %q", err, test.want)
			}
		})
	}
}
