package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fallbackAuth is the directive of a site that has a second backend.
const fallbackAuth = `messenger_auth support {
	token_from header Authorization Bearer
	token_from websocket_protocol jwt
	logout_path /logout
	contact_limit {
		connections 2
	}
}
`

// fallbacks are the ways in which a request that was verified reaches a second backend when the first has failed: outside of what the
// directive itself calls. All of them are configurations of Caddy's own.
var fallbacks = map[string]string{
	"an error route":                          fallbackAuth + "reverse_proxy 127.0.0.1:1\nhandle_errors 502 {\n reverse_proxy UPSTREAM\n}",
	"an error route with the directive":       fallbackAuth + "reverse_proxy 127.0.0.1:1\nhandle_errors 502 {\n messenger_auth support\n reverse_proxy UPSTREAM\n}",
	"a named route":                           "invoke chat\nhandle_errors 502 {\n reverse_proxy UPSTREAM\n}",
	"errors of a subroute":                    "handle {\n" + fallbackAuth + "reverse_proxy 127.0.0.1:1\n}\nhandle_errors 502 {\n reverse_proxy UPSTREAM\n}",
	"a response route with the directive":     "route {\n intercept {\n @bad status 5xx\n handle_response @bad {\n messenger_auth support\n reverse_proxy UPSTREAM\n }\n }\n" + fallbackAuth + "respond 503\n}",
	"a response route behind the directive":   fallbackAuth + "intercept {\n @bad status 5xx\n handle_response @bad {\n reverse_proxy UPSTREAM\n }\n }\nrespond 503",
	"an error route, and a second directive":  "route {\n" + fallbackAuth + "messenger_auth support\nreverse_proxy 127.0.0.1:1\n}\nhandle_errors 502 {\n reverse_proxy UPSTREAM\n}",
	"an error route, where the client is let": strings.Replace(fallbackAuth, "logout_path", "mode optional\nlogout_path", 1) + "reverse_proxy 127.0.0.1:1\nhandle_errors 502 {\n reverse_proxy UPSTREAM\n}",
}

// loadFallback runs the fallback of that name.
func (g *gateway) loadFallback(name, messengers string) {
	g.t.Helper()
	text := g.caddyfile(messengers, fallbacks[name])
	if name == "a named route" {
		i := strings.Index(text, "\n}\n\n"+g.url[:4]) + len("\n}\n")
		text = text[:i] + "&(chat) {\n route {\n" + fallbackAuth + "reverse_proxy 127.0.0.1:1\n}\n}\n" + text[i:]
	}
	config := g.conf(text)
	if name == "errors of a subroute" {
		config = withErrorsInside(g.t, config)
	}
	g.replace(config)
	g.keepConfig()
}

// withErrorsInside moves the error routes of the only server into its first subroute with handlers of ours.
func withErrorsInside(t testing.TB, config []byte) []byte {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal(config, &all); err != nil {
		t.Fatal(err)
	}
	for _, server := range all["apps"].(map[string]any)["http"].(map[string]any)["servers"].(map[string]any) {
		server := server.(map[string]any)
		var find func(v any) bool
		find = func(v any) bool {
			switch v := v.(type) {
			case []any:
				for _, e := range v {
					if find(e) {
						return true
					}
				}
			case map[string]any:
				if routes := v["routes"]; v["handler"] == "subroute" && strings.Contains(asJSON(t, routes), `"handler":"messenger_auth"`) &&
					!strings.Contains(asJSON(t, routes), `"handler":"subroute"`) {
					v["errors"] = server["errors"]
					return true
				}
				for _, e := range v {
					if find(e) {
						return true
					}
				}
			}
			return false
		}
		if !find(server["routes"]) {
			t.Fatalf("there is no subroute in %s", config)
		}
		delete(server, "errors")
	}
	return []byte(asJSON(t, all))
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A second backend answers for the first that has failed, and gets the same headers of the same contact. The connections that it opens
// are like any other: they are counted, listed and limited, and end with the token, by an operator and by a logout. Their handshake
// selects the marker of the token.
func TestConnectionsOfFallbacksAreGuarded(t *testing.T) {
	if !alone(t) {
		return
	}
	messengers, secret := strict(t, "")
	eachProtocol(t, map[string]string{"": "respond loading"}, messengers, func(t *testing.T, p protocol, g *gateway, up *chat) {
		for i, name := range slices.Sorted(maps.Keys(fallbacks)) {
			if !sampled(i) {
				continue
			}
			t.Run(name, func(t *testing.T) {
				g.t = t
				g.loadFallback(name, messengers)
				open := func(path, identity, life string) *socket {
					token, _ := lasting(secret, identity, map[string]time.Duration{"short": time.Second, "long": time.Hour}[life])
					s, status := p.open(g, path, "Sec-WebSocket-Protocol: jwt, "+strings.TrimPrefix(token, bearer("")))
					if got := s.header.Get("Sec-Websocket-Protocol"); status != 101 || got != "jwt" {
						t.Fatalf("the handshake was answered with %d and selects %q", status, got)
					}
					return s
				}
				first, second := open("/echo", "mark", "long"), open("/stream", "mark", "long")
				if n := g.connections().Open; n != 2 {
					t.Errorf("%d connections are counted, want 2", n)
				}
				token, _ := lasting(secret, "mark", time.Hour)
				if s, status := p.open(g, "/echo", token); status != 429 {
					t.Errorf("a third was answered with %d", status)
				} else {
					s.close()
				}
				first.lives(t, "mark")
				g.operator().want(200, "POST", "connections/end", `{"messenger":"support","identity":"mark"}`)
				for _, s := range []*socket{first, second} {
					if got := s.ended(); got != "4403 token_revoked" {
						t.Errorf("ended by an operator: got %q", got)
					}
				}
				if name != "an error route" {
					return
				}
				s := open("/stream?after=900ms", "zoe", "short")
				if got := s.ended(); got != "4401 token_expired" {
					t.Errorf("at the end of the token: got %q", got)
				}
				if p.tls {
					return // the client of the next request has no certificate
				}
				s = open("/stream", "zoe", "long")
				other, _ := lasting(secret, "zoe", time.Hour)
				if a := g.do("POST", "/logout", other); a.status != 204 {
					t.Errorf("the logout was answered with %d", a.status)
				}
				if got := s.ended(); got != "4403 token_revoked" {
					t.Errorf("at a logout: got %q", got)
				}
			})
		}
		eventually(t, "no connection is counted", func() bool { return g.connections().Open == 0 })
	})
}

// The same for event streams. Whatever the client accepts, they end with the token.
func TestEventStreamsOfFallbacksAreGuarded(t *testing.T) {
	if !alone(t) {
		return
	}
	messengers, secret := strict(t, "")
	up := newChat(t)
	for _, scheme := range []string{"http://", "https://"} {
		g := newGateway(t, up.upstream, scheme)
		g.unlogged = true
		g.load(messengers, "respond loading")
		versions := []version{{"HTTP/1.1", plainClient}}
		if scheme == "https://" {
			versions = g.versions()
		}
		for i, name := range slices.Sorted(maps.Keys(fallbacks)) {
			if !sampled(i) {
				continue
			}
			t.Run(scheme+" "+name, func(t *testing.T) {
				g.t = t
				g.loadFallback(name, messengers)
				var all sync.WaitGroup // two event streams of a contact are as many as the limit allows
				for i, v := range versions {
					for _, accept := range []string{"*/*", "text/event-stream"} {
						token, _ := lasting(secret, fmt.Sprint("mark", i), time.Second)
						resp := g.stream(v, "/events", token, "Accept: "+accept)
						if got := resp.Header.Get("Cache-Control"); got != "private" {
							t.Errorf("%s: Cache-Control is %q", v.name, got)
						}
						all.Go(func() {
							if body, err := io.ReadAll(resp.Body); err != nil || !strings.HasSuffix(string(body), lastEvent) {
								t.Errorf("%s, accepting %s: %v, and it ends with %q", v.name, accept, err, body[max(0, len(body)-60):])
							}
						})
					}
				}
				all.Wait()
			})
		}
	}
}

// While nothing guards a request, it says nothing of its contact: not to a backend that is asked after the directive has returned, by a
// handler in front of it. If the directive stands there too, the backend is told.
func TestUnguardedRequestsHaveNoContactHeaders(t *testing.T) {
	up, m := newUpstream(t), methods(t)[0]
	told := map[string]string{"x-contact-identity": "mark", "x-contact-messenger": "support", "x-contact-name": "Mark Twain"}
	for name, test := range map[string]struct {
		again string
		want  map[string]string
	}{
		"without the directive": {"", map[string]string{}},
		"with the directive":    {"messenger_auth support\n", told},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, up, m.messengers, "route {\n intercept {\n @bad status 5xx\n handle_response @bad {\n"+test.again+"reverse_proxy UPSTREAM\n }\n }\n"+
				"messenger_auth support {\n claim_header name X-Contact-Name\n }\n respond 503\n}")
			token := bearer(sign(m.key, with(valid("mark"), claims{"name": "Mark Twain"})))
			evil := []string{"X-Contact-Identity: evil", "X_Contact_Name: evil"}
			if g.get("/", append(evil, token)...); !maps.Equal(ownHeaders(up.one(t).header), test.want) {
				t.Errorf("the backend was not told %v", test.want)
			}
			if a := g.get("/", evil...); a.status != 401 {
				t.Errorf("without a token: got %d", a.status)
			}
			up.none(t)
		})
	}
}

// A request that fails before it reaches the directive is answered by the error routes of its subroute, which are not those of the
// server. What the client forged is not there for them, and neither is a token that was refused.
func TestSubrouteErrorsGetNoForgedHeaders(t *testing.T) {
	up, m := newUpstream(t), methods(t)[0]
	g := newGateway(t, up, "http://")
	g.replace(withErrorsInside(t, g.conf(g.caddyfile(m.messengers, `
		handle {
			route {
				@early path /early
				error @early 418
				messenger_auth support {
					claim_header name X-Contact-Name
				}
				@later path /later
				error @later 503
				reverse_proxy UPSTREAM
			}
		}
		handle_errors {
			reverse_proxy UPSTREAM
		}
	`))))
	token := bearer(sign(m.key, with(valid("mark"), claims{"name": "Mark Twain"})))
	evil := []string{"X-Contact-Identity: evil", "X_Contact_Identity: evil", "X-Contact-Messenger: sales", "X.Contact.Name: evil"}
	for path, want := range map[string]map[string]string{
		"/early": {},
		"/later": {"x-contact-identity": "mark", "x-contact-messenger": "support", "x-contact-name": "Mark Twain"},
	} {
		g.get(path, append(evil, token)...)
		if got := ownHeaders(up.one(t).header); !maps.Equal(got, want) {
			t.Errorf("%s: the backend saw %v, want %v", path, got, want)
		}
	}
}

// What an operator's handlers have made of the headers for the first backend is what the second is told too.
func TestFallbacksGetTheHeadersOfTheFirstBackend(t *testing.T) {
	m, first, second := methods(t)[0], newUpstream(t), newUpstream(t)
	token := bearer(sign(m.key, with(valid("mark"), claims{"name": "Mark Twain"})))
	for name, change := range map[string]string{
		"nothing":             "",
		"set":                 "request_header X-Contact-Identity anonymous\nrequest_header X-Contact-Name hidden",
		"set to itself":       "request_header X-Contact-Identity {http.messenger_auth.identity}",
		"set to something of": "request_header X-Contact-Identity tenant:{http.messenger_auth.identity}",
		"removed":             "request_header -X-Contact-Identity\nrequest_header -X-Contact-Name",
		"added":               "request_header +X-Contact-Name second",
		"replaced in it":      "request_header X-Contact-Identity mark masked",
	} {
		for way, routes := range map[string]string{
			"an error route":                    "handle_errors {\n reverse_proxy UPSTREAM\n}",
			"an error route with the directive": "handle_errors {\n messenger_auth support {\n claim_header name X-Contact-Name\n }\n reverse_proxy UPSTREAM\n}",
		} {
			g := start(t, second, m.messengers, "route {\n messenger_auth support {\n claim_header name X-Contact-Name\n }\n"+change+
				"\nreverse_proxy /first "+first.addr+"\nreverse_proxy 127.0.0.1:1\n}\n"+routes)
			g.get("/first", token)
			want := ownHeaders(first.one(t).header)
			g.get("/second", token)
			if got := ownHeaders(second.one(t).header); !maps.Equal(got, want) {
				t.Errorf("%s, %s: the first was told %v, the second %v", name, way, want, got)
			}
		}
	}
}

// Matchers in an error route see the headers of the contact, and an answer that is chosen by them is as readable to pages as any other.
func TestErrorRoutesMatchTheContact(t *testing.T) {
	messengers, secret := strict(t, "allowed_origin https://page.example.com")
	up := &upstream{}
	up.listen(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "https://page.example.com")
		w.WriteHeader(http.StatusTeapot)
	})
	token, _ := lasting(secret, "mark", time.Hour)
	for _, match := range []string{"header X-Contact-Identity *", "header X-Contact-Identity mark", "expression `{http.messenger_auth.identity} == \"mark\"`", "path *", "header X-Contact-Identity zoe"} {
		g := start(t, up, messengers, "messenger_auth support {\n cors\n}\nreverse_proxy 127.0.0.1:1\nhandle_errors {\n@known "+match+"\nreverse_proxy @known UPSTREAM\n}")
		a := g.get("/", token, "Origin: https://page.example.com")
		want := map[bool]int{true: http.StatusTeapot, false: http.StatusBadGateway}[!strings.HasSuffix(match, "zoe")]
		if allowed := a.header["Access-Control-Allow-Origin"]; a.status != want || len(allowed) != 1 {
			t.Errorf("%s: got %d, and Access-Control-Allow-Origin is %q", match, a.status, allowed)
		}
	}
}
