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
	g.replace(config)
}

// attack sends an identity that the client made up, without a token and beside a token.
func (s shape) attack(t *testing.T, g *gateway, up *upstream, m method) {
	t.Helper()
	evil := []string{"X-Contact-Identity: eve", "x-contact-messenger: sales"}
	if a := g.get("/chat/a", evil...); a.status != 401 || !strings.Contains(a.body, "token_missing") {
		t.Errorf("without a token: got %d %q, want 401 token_missing", a.status, a.body)
	}
	up.none(t)
	a := g.get("/chat/a", append(evil, bearer(sign(m.key, valid("mark"))))...)
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
	"named: handles that invoke ours, behind a group of handles of the site": {
		named: "&(chat) {\n handle /chat/* {\n invoke auth\n }\n handle {\n invoke auth\n }\n}\n&(auth) {\n" + plainAuth + "}",
		site:  "route {\n handle /chat/* {\n vars a b\n }\n handle {\n vars a c\n }\n invoke chat\n" + plainProxy + "}",
	},
	"named: handles of no concern, and then a group of handles of the site that invokes ours": {
		named: "&(plain) {\n handle /chat/* {\n vars a b\n }\n handle {\n vars a c\n }\n}\n&(auth) {\n" + plainAuth + "}",
		site:  "route {\n invoke plain\n handle /chat/* {\n invoke auth\n }\n handle {\n invoke auth\n }\n" + plainProxy + "}",
	},
	"named: handles that invoke ours, behind those of another named route": {
		named: "&(plain) {\n handle /chat/* {\n vars a b\n }\n handle {\n vars a c\n }\n}\n&(chat) {\n handle /chat/* {\n invoke auth\n }\n handle {\n invoke auth\n }\n}\n&(auth) {\n" + plainAuth + "}",
		site:  "route {\n invoke plain\n invoke chat\n" + plainProxy + "}",
	},
}

// messenger_auth vanished from named routes: Caddy keeps one handler of what it merges there. A client that made up its
// identity was then believed by the backend, and nothing was logged.
func TestEveryShapeOfACaddyfileKeepsTheGateway(t *testing.T) {
	if !alone(t) {
		return
	}
	up, m := newUpstream(t), methods(t)[0]
	for i, name := range slices.Sorted(maps.Keys(shapes)) {
		if sampled(i) {
			t.Run(name, func(t *testing.T) { shapes[name].serve(t, newGateway(t, up, "http://"), up, m) })
		}
	}
}

// Combinations of what is beside the directive, what is around it in the named route, what is around the invoke, and where
// the proxy is: every pair of these, and with MESSENGER_SOAK=1 all. Where Caddy itself drops what is around the directive,
// the Caddyfile is refused.
func TestCombinationsOfNamedRoutesKeepTheGateway(t *testing.T) {
	if !alone(t) {
		return
	}
	up, m := newUpstream(t), methods(t)[0]
	neighbours := []string{"", "header Down-A on\n", "vars a b\nrequest_header Up-A on\n", "root * DIR\nheader Down-A on\n", "@x path /chat/*\nheader @x Down-A on\n"}
	inner := []string{"%s", "handle {\n%s}\n", "route {\n%s}\n", "handle /chat/* {\n%s}\n", "handle_path /chat/* {\n%s}\n", "handle {\nroute {\n%s}\n}\n", "INVOKE"}
	outer := []string{"%s", "handle {\n%s}\n", "handle /chat/* {\n%s}\nhandle {\nrespond other\n}\n", "route {\n%s}\n", "handle_path /chat/* {\nhandle {\n%s}\n}\n"}
	refused := 0
	for i, beside := range neighbours {
		for j, in := range inner {
			for k, behind := range []bool{false, true} { // the proxy is behind the invoke
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
				for l, out := range outer {
					if (i+j+k+l)%3 != 0 && !soaking() || !sampled(i*len(inner)+j+(k+l)/3) {
						continue
					}
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
	config, err := adapt(replaceWords(text[:i]+s.named+"\n"+text[i:], "DIR", t.TempDir(), "UPSTREAM", "127.0.0.1:1"))
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
