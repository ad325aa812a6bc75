package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// A shape is a Caddyfile in which directives of ours are somewhere. Every request to /chat/a is for the messenger
// support, and goes to the backend if it has a token.
type shape struct {
	named string // what is in front of the site: named routes and snippets
	site  string

	global string   // further global options
	count  int      // how many of our handlers there have to be; 0: as many as there are directives
	marked []string // headers with the value "on" that the backend (Up-…) or the client (Down-…) has to get
}

var ourDirective = regexp.MustCompile(`(?m)^\s*messenger_(auth|health|panel)\b`)

// serve runs the shape and attacks it.
func (s shape) serve(t *testing.T, g *gateway, up *upstream, m method) {
	t.Helper()
	s.load(t, g, m)
	s.attack(t, g, up, m)
}

// load runs the shape, and counts the handlers before that.
func (s shape) load(t *testing.T, g *gateway, m method) {
	t.Helper()
	text := g.caddyfile(m.messengers+"\n"+s.global, s.site)
	// Named routes are in front of the site, behind the global options.
	i := strings.Index(text, "\n}\n\n"+g.url) + len("\n}\n")
	text = text[:i] + s.named + "\n" + text[i:]
	config := g.conf(text)
	want := s.count
	if want == 0 {
		want = len(ourDirective.FindAllString(s.named+"\n"+s.site, -1))
	}
	if got := ourHandlers(t, config); got != want {
		t.Errorf("%d of our handlers are in the JSON, want %d:\n%s", got, want, config)
	}
	if err := caddy.Load(config, true); err != nil {
		t.Fatalf("loading: %v\n%s", err, text)
	}
}

// attack sends an identity that the client made up, without a token and beside a token.
func (s shape) attack(t *testing.T, g *gateway, up *upstream, m method) {
	t.Helper()
	evil := []string{"X-Contact-Identity: eve", "x-contact-messenger: sales"}
	if a := g.get("/chat/a", evil...); a.status != 401 || !strings.Contains(a.body, "token_missing") {
		t.Errorf("without a token: got %d %q, want 401 token_missing", a.status, a.body)
	}
	up.none(t)
	a := g.get("/chat/a", append(evil, bearer(sign(m.key, good("mark"))))...)
	if a.status != 200 {
		t.Errorf("with a token: got %d %q, want 200", a.status, a.body)
	}
	seen := up.take()
	if len(seen) != 1 {
		t.Errorf("with a token: what follows the directive was served %d times, want once", len(seen))
		return
	}
	wanted := map[string]string{"x-contact-identity": "mark", "x-contact-messenger": "support"}
	if got := ownHeaders(seen[0].header); !maps.Equal(got, wanted) {
		t.Errorf("with a token: the backend saw %v, want %v", got, wanted)
	}
	for _, name := range s.marked {
		header := a.header
		if strings.HasPrefix(name, "Up-") {
			header = seen[0].header
		}
		if header.Get(name) != "on" {
			t.Errorf("%s is missing: a directive beside ours was dropped", name)
		}
	}
}

// ourHandlers counts the handlers of ours anywhere in the servers.
func ourHandlers(t *testing.T, config []byte) (n int) {
	t.Helper()
	var all struct{ Apps struct{ HTTP any } }
	if err := json.Unmarshal(config, &all); err != nil {
		t.Fatal(err)
	}
	var count func(any)
	count = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				count(e)
			}
		case map[string]any:
			if name, _ := v["handler"].(string); strings.HasPrefix(name, "messenger_") {
				n++
			}
			for _, e := range v {
				count(e)
			}
		}
	}
	count(all.Apps.HTTP)
	return n
}

const (
	plainAuth  = "messenger_auth support\n"
	plainProxy = "reverse_proxy UPSTREAM\n"
)

// shapes are those that people write, and those in which Caddy drops, merges, sorts or skips something.
var shapes = map[string]shape{
	"the directive alone":                   {site: plainAuth + plainProxy},
	"route":                                 {site: "route {\n header Down-A on\n" + plainAuth + plainProxy + "}", marked: []string{"Down-A"}},
	"handle":                                {site: "handle {\n header Down-A on\n" + plainAuth + plainProxy + "}", marked: []string{"Down-A"}},
	"handle_path":                           {site: "handle_path /chat/* {\n" + plainAuth + plainProxy + "}"},
	"two matchers side by side":             {site: "messenger_auth /chat/* support\nmessenger_auth /talk/* support\n" + plainProxy},
	"three, two of them alike":              {site: "messenger_auth /chat/* support\nmessenger_auth /chat/* support\nmessenger_auth support\n" + plainProxy},
	"a snippet":                             {named: "(auth) {\n header Down-A on\n" + plainAuth + "}", site: "import auth\n" + plainProxy, marked: []string{"Down-A"}},
	"a snippet that is imported twice":      {named: "(auth) {\n" + plainAuth + "}", site: "handle /chat/* {\n import auth\n" + plainProxy + "}\nhandle {\n import auth\n" + plainProxy + "}", count: 2},
	"a matcher, beside health and panel":    {site: "@chat path /chat/*\nmessenger_health /healthz\nmessenger_panel /panel\nmessenger_auth @chat support\n" + plainProxy},
	"another order":                         {global: "order messenger_auth first", site: "header Down-A on\n" + plainAuth + plainProxy, marked: []string{"Down-A"}},
	"intercept beside it":                   {site: "intercept {\n @down status 502\n handle_response @down {\n respond down 502\n }\n}\n" + plainAuth + plainProxy},
	"in the block of an intercept too":      {site: "intercept {\n @down status 502\n handle_response @down {\n" + plainAuth + "respond down 502\n }\n}\n" + plainAuth + plainProxy},
	"in the block of a handle_response too": {site: plainAuth + "reverse_proxy UPSTREAM {\n @down status 502\n handle_response @down {\n header Down-B on\n" + plainAuth + "respond down 502\n }\n}"},
	"in handle_errors too":                  {site: plainAuth + plainProxy + "handle_errors {\n header Down-B on\n" + plainAuth + "}", count: 2},
	"try_files beside it":                   {site: "root * DIR\ntry_files {path} /chat/a\n" + plainAuth + plainProxy},

	"named: only ours":                           {named: "&(auth) {\n" + plainAuth + "}", site: "invoke auth\n" + plainProxy},
	"named: ours, then the proxy":                {named: "&(auth) {\n" + plainAuth + plainProxy + "}", site: "invoke auth"},
	"named: header, then ours":                   {named: "&(auth) {\n header -Server\n header Down-A on\n" + plainAuth + "}", site: "invoke auth\n" + plainProxy, marked: []string{"Down-A"}},
	"named: header and the proxy around ours":    {named: "&(auth) {\n header Down-A on\n" + plainAuth + plainProxy + "}", site: "invoke auth", marked: []string{"Down-A"}},
	"named: vars and request_header before ours": {named: "&(auth) {\n vars a b\n request_header Up-A on\n" + plainAuth + "}", site: "invoke auth\n" + plainProxy, marked: []string{"Up-A"}},
	"named: with a matcher":                      {named: "&(auth) {\n @chat path /chat/*\n header Down-A on\n messenger_auth @chat support\n}", site: "invoke auth\n" + plainProxy, marked: []string{"Down-A"}},
	"named: a matcher in line":                   {named: "&(auth) {\n header Down-A on\n messenger_auth /chat/* support\n}", site: "invoke auth\n" + plainProxy, marked: []string{"Down-A"}},
	"named: several side by side":                {named: "&(auth) {\n messenger_auth /talk/* support\n messenger_auth /chat/* support\n}", site: "invoke auth\n" + plainProxy},
	"named: several without a matcher":           {named: "&(auth) {\n" + plainAuth + plainAuth + plainAuth + "}", site: "invoke auth\n" + plainProxy},
	"named: several between neighbours":          {named: "&(auth) {\n header Down-A on\n messenger_auth /talk/* support\n" + plainAuth + plainProxy + "}", site: "invoke auth", marked: []string{"Down-A"}},
	"named: a matcher on the neighbour":          {named: "&(auth) {\n @chat path /chat/*\n header @chat Down-A on\n" + plainAuth + "}", site: "invoke auth\n" + plainProxy, marked: []string{"Down-A"}},
	"named: an empty matcher on the neighbour":   {named: "&(auth) {\n @all {\n }\n header @all Down-A on\n" + plainAuth + "}", site: "invoke auth\n" + plainProxy, marked: []string{"Down-A"}},
	"named: route":                               {named: "&(auth) {\n route {\n header Down-A on\n" + plainAuth + plainProxy + "}\n}", site: "invoke auth", marked: []string{"Down-A"}},
	"named: handle":                              {named: "&(auth) {\n handle {\n header Down-A on\n" + plainAuth + plainProxy + "}\n}", site: "invoke auth", marked: []string{"Down-A"}},
	"named: handle_path":                         {named: "&(auth) {\n header Down-A on\n handle_path /chat/* {\n" + plainAuth + plainProxy + "}\n}", site: "invoke auth", marked: []string{"Down-A"}},
	"named: two handles":                         {named: "&(auth) {\n header Down-A on\n handle /talk/* {\n" + plainAuth + "}\n handle {\n" + plainAuth + "}\n}", site: "invoke auth\n" + plainProxy, marked: []string{"Down-A"}},
	"named: a snippet in it":                     {named: "(auth) {\n header Down-A on\n" + plainAuth + "}\n&(named) {\n import auth\n}", site: "invoke named\n" + plainProxy, marked: []string{"Down-A"}},
	"named: invoked in handle":                   {named: "&(auth) {\n header Down-A on\n" + plainAuth + "}", site: "handle /chat/* {\n invoke auth\n" + plainProxy + "}\nhandle {\n respond other\n}", marked: []string{"Down-A"}},
	"named: invoked in route":                    {named: "&(auth) {\n header Down-A on\n" + plainAuth + "}", site: "route {\n invoke auth\n" + plainProxy + "}", marked: []string{"Down-A"}},
	"named: invoked in handle_path":              {named: "&(auth) {\n header Down-A on\n" + plainAuth + "}", site: "handle_path /chat/* {\n invoke auth\n" + plainProxy + "}", marked: []string{"Down-A"}},
	"named: invoked with a matcher":              {named: "&(auth) {\n header Down-A on\n" + plainAuth + "}", site: "@chat path /chat/*\ninvoke @chat auth\n" + plainProxy, marked: []string{"Down-A"}},
	"named: invoked in a snippet":                {named: "&(auth) {\n header Down-A on\n" + plainAuth + "}\n(use) {\n invoke auth\n}", site: "import use\n" + plainProxy, marked: []string{"Down-A"}},
	"named: two of them":                         {named: "&(auth) {\n header Down-A on\n" + plainAuth + "}\n&(proxy) {\n request_header Up-A on\n" + plainProxy + "header Down-B on\n}", site: "route {\n invoke auth\n reverse_proxy UPSTREAM\n}", marked: []string{"Down-A"}},
	"named: one in another, the inner one first": {named: "&(inner) {\n header Down-A on\n" + plainAuth + "}\n&(outer) {\n invoke inner\n}", site: "invoke outer\n" + plainProxy, marked: []string{"Down-A"}},
	"named: one in another, the outer one first": {named: "&(outer) {\n invoke inner\n}\n&(inner) {\n header Down-A on\n" + plainAuth + "}", site: "invoke outer\n" + plainProxy, marked: []string{"Down-A"}},
	"named: one in another, both with ours":      {named: "&(outer) {\n" + plainAuth + "invoke inner\n}\n&(inner) {\n header Down-A on\n" + plainAuth + plainProxy + "}", site: "invoke outer", marked: []string{"Down-A"}},
	"named: health and panel before it":          {named: "&(auth) {\n messenger_health /healthz\n messenger_panel /panel\n header Down-A on\n" + plainAuth + "}", site: "invoke auth\n" + plainProxy, marked: []string{"Down-A"}},
	"named: another order":                       {global: "order messenger_auth first", named: "&(auth) {\n header Down-A on\n" + plainAuth + "}", site: "invoke auth\n" + plainProxy, marked: []string{"Down-A"}},
	"named: an intercept around it":              {named: "&(auth) {\n intercept {\n @down status 502\n handle_response @down {\n respond down\n }\n }\n" + plainAuth + plainProxy + "}", site: "invoke auth"},
	"named: a handle_response around another":    {named: "&(auth) {\n" + plainAuth + "reverse_proxy UPSTREAM {\n @down status 502\n handle_response @down {\n header Down-B on\n" + plainAuth + "respond down 502\n }\n }\n}", site: "invoke auth"},
	"named: beside one that is not ours":         {named: "&(plain) {\n header Down-A on\n request_header Up-A on\n}\n&(auth) {\n request_header Up-B on\n" + plainAuth + "}", site: "invoke plain\ninvoke auth\n" + plainProxy, marked: []string{"Up-B"}},
	"named: on two sites":                        {named: "&(auth) {\n header Down-A on\n" + plainAuth + plainProxy + "}\nhttp://other.example.com {\n invoke auth\n}", site: "invoke auth", marked: []string{"Down-A"}, count: 2},

	// Caddy numbers the groups of handle blocks anew for the sites: those of the two must not be taken for one.
	"named: handles, invoked in a group of handles": {
		named: "&(auth) {\n handle /talk/* {\n respond talk\n }\n handle {\n" + plainAuth + "}\n}",
		site:  "handle /chat/* {\n invoke auth\n" + plainProxy + "}\nhandle {\n respond other\n}",
	},
	"named: handles of no concern, and then a group of handles of the site with ours": {
		named: "&(plain) {\n handle /chat/* {\n vars a b\n }\n handle {\n vars a c\n }\n}",
		site:  "route {\n invoke plain\n handle /chat/* {\n" + plainAuth + "}\n handle {\n" + plainAuth + "}\n" + plainProxy + "}",
	},
	"named: handles with ours, and then a group of handles of the site with ours": {
		named: "&(auth) {\n handle /chat/* {\n" + plainAuth + "}\n handle {\n" + plainAuth + "}\n}",
		site:  "route {\n invoke auth\n handle /chat/* {\n" + plainAuth + plainProxy + "}\n handle {\n respond other\n }\n}",
	},
}

// messenger_auth vanished from named routes: Caddy keeps one handler of what it merges there. A client that made up its
// identity was then believed by the backend, and nothing was logged.
func TestEveryShapeOfACaddyfileKeepsTheGateway(t *testing.T) {
	up, m := newUpstream(t), methods(t)[0]
	for _, name := range slices.Sorted(maps.Keys(shapes)) {
		t.Run(name, func(t *testing.T) { shapes[name].serve(t, newGateway(t, up, "http://"), up, m) })
	}
}

// All combinations of what is beside the directive, what is around it in the named route, what is around the invoke, and
// where the proxy is. Where Caddy itself drops what is around the directive, the Caddyfile is refused.
func TestCombinationsOfNamedRoutesKeepTheGateway(t *testing.T) {
	up, m := newUpstream(t), methods(t)[0]
	neighbours := []string{"", "header Down-A on\n", "vars a b\nrequest_header Up-A on\n", "root * DIR\nheader Down-A on\n", "@x path /chat/*\nheader @x Down-A on\n"}
	inner := []string{"%s", "handle {\n%s}\n", "route {\n%s}\n", "handle /chat/* {\n%s}\n", "handle_path /chat/* {\n%s}\n", "handle {\nroute {\n%s}\n}\n", "INVOKE"}
	outer := []string{"%s", "handle {\n%s}\n", "handle /chat/* {\n%s}\nhandle {\nrespond other\n}\n", "route {\n%s}\n", "handle_path /chat/* {\nhandle {\n%s}\n}\n"}
	refused := 0
	for _, beside := range neighbours {
		for _, in := range inner {
			for _, behind := range []bool{false, true} { // the proxy is behind the invoke
				guarded := plainAuth
				site := "invoke auth\n"
				if behind {
					site += plainProxy
				} else {
					guarded += plainProxy
				}
				named, further := beside+fmt.Sprintf(strings.ReplaceAll(in, "INVOKE", "invoke deep\n%.0s"), guarded), ""
				if in == "INVOKE" {
					further = "&(deep) {\n" + guarded + "}\n"
				}
				for _, out := range outer {
					if strings.HasPrefix(out, "handle_path") && strings.Contains(in+beside, "/chat/*") {
						continue // the path is stripped already
					}
					s := shape{named: "&(auth) {\n" + named + "}\n" + further, site: fmt.Sprintf(out, site)}
					for _, mark := range []string{"Down-A", "Up-A"} {
						if strings.Contains(named, mark) {
							s.marked = append(s.marked, mark)
						}
					}
					// Without a matcher anywhere, Caddy keeps the first of the named route's directives only.
					plain := !strings.Contains(beside, "@x") && beside != ""
					if plain && (strings.HasPrefix(in, "handle {") || strings.HasPrefix(in, "route {") || in == "INVOKE") {
						s.refuse(t, m)
						refused++
						continue
					}
					if ok := t.Run("", func(t *testing.T) { s.serve(t, newGateway(t, up, "http://"), up, m) }); !ok {
						t.Logf("it was\n%s\n%s", s.named, s.site)
					}
				}
			}
		}
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
}

// refuse wants the shape not to run.
func (s shape) refuse(t *testing.T, m method) {
	t.Helper()
	g := newGateway(t, nil, "http://")
	text := g.caddyfile(m.messengers, s.site)
	i := strings.Index(text, "\n}\n\n"+g.url) + len("\n}\n")
	config, err := adapt(strings.NewReplacer("DIR", t.TempDir(), "UPSTREAM", "127.0.0.1:1").Replace(text[:i] + s.named + "\n" + text[i:]))
	if err == nil {
		if err = caddy.Load(config, true); err == nil {
			_ = caddy.Stop()
		}
	}
	if err == nil {
		t.Errorf("it runs without the gateway:\n%s\n%s", s.named, s.site)
	} else if !strings.Contains(err.Error(), "named route") {
		t.Errorf("the error does not tell the cause: %v\n%s\n%s", err, s.named, s.site)
	}
}

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
func TestHealthAndPanelSurviveNamedRoutes(t *testing.T) {
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
func TestShapesThatDropTheGatewayAreRefused(t *testing.T) {
	m := methods(t)[0]
	for name, s := range map[string]shape{
		"a handle behind a header":              {named: "&(auth) {\n header A b\n handle {\n" + plainAuth + "}\n}", site: "invoke auth\nrespond chat"},
		"a proxy behind a handle":               {named: "&(auth) {\n handle {\n" + plainAuth + "}\n respond chat\n}", site: "invoke auth"},
		"a route behind a header":               {named: "&(auth) {\n header A b\n route {\n" + plainAuth + "}\n}", site: "invoke auth\nrespond chat"},
		"a route behind a header, two deep":     {named: "&(auth) {\n header A b\n handle {\n handle /a {\n" + plainAuth + "}\n}\n}", site: "invoke auth\nrespond chat"},
		"in a snippet":                          {named: "(auth) {\n header A b\n handle {\n" + plainAuth + "}\n}\n&(named) {\n import auth\n}", site: "invoke named\nrespond chat"},
		"an invoke behind a header":             {named: "&(outer) {\n header A b\n invoke auth\n}\n&(auth) {\n" + plainAuth + "}", site: "invoke outer\nrespond chat"},
		"an invoke of an invoke":                {named: "&(outer) {\n invoke middle\n}\n&(middle) {\n header A b\n invoke auth\n}\n&(auth) {\n" + plainAuth + "}", site: "invoke outer\nrespond chat"},
		"the panel in a handle behind a header": {named: "&(ops) {\n header A b\n handle {\nmessenger_panel\n}\n}", site: "invoke ops"},
		"health behind a header and an invoke":  {named: "&(outer) {\n header A b\n invoke ops\n}\n&(ops) {\nmessenger_health\n}", site: "invoke outer"},
		"health and panel for every request":    {named: "&(ops) {\nmessenger_health\nmessenger_panel\n}", site: "invoke ops"},
		"an intercept behind a header":          {named: "&(auth) {\n header A b\n intercept {\n @down status 502\n handle_response @down {\n" + plainAuth + "}\n}\n}", site: "invoke auth\nrespond chat"},
	} {
		t.Run(name, func(t *testing.T) { s.refuse(t, m) })
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
