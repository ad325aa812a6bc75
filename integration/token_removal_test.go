package integration

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// sourcesOnly is a directive that takes tokens from every kind of place.
func sourcesOnly(option string) string {
	return `
	messenger_auth support {
		token_from header Authorization Bearer
		token_from header X-Chat-Token
		token_from cookie chat
		token_from query token
		token_from websocket_protocol jwt
		` + option + `
	}
	`
}

// everySource is a route with all sources, behind a rewrite, as many sites have one, that tells the upstream what Caddy's
// own placeholders say of the request. Its error route asks the same backend.
var everySource = "uri replace /rewrite-me/ /\n" + sourcesOnly("") + `
	reverse_proxy UPSTREAM {
		header_up X-URI {http.request.uri}
		header_up X-Query {http.request.uri.query}
		header_up X-Original-URI {http.request.orig_uri}
		header_up X-Original-Query {http.request.orig_uri.query}
		header_up X-Parameter {http.request.uri.query.token}
		header_up X-Cookie {http.request.cookie.chat}
		header_up X-Header {http.request.header.Authorization}
	}
	handle_errors {
		reverse_proxy UPSTREAM {
			header_up X-URI {http.request.uri}
			header_up X-Original-URI {http.request.orig_uri}
		}
	}
`

// A placing is a request with TOKEN in it, and what of the places around it must reach the upstream.
type placing struct {
	name   string
	target string
	lines  []string
	uri    string // "" is target
	want   map[string][]string
}

// watchedHeaders are the headers in which a token can stand.
var watchedHeaders = []string{"Authorization", "X-Chat-Token", "Cookie", "Referer", "Sec-Websocket-Protocol"}

var placings = []placing{
	{"alone in the default header", "/a?x=1", []string{"Authorization: Bearer TOKEN"}, "", nil},
	{"with another spelling of the scheme", "/a", []string{"authorization: bEARER  TOKEN"}, "", nil},
	{"in a header of its own", "/a", []string{"x-chat-token: TOKEN", "Authorization: Basic bWFyazptYXJr"}, "", map[string][]string{"Authorization": {"Basic bWFyazptYXJr"}}},
	{"as the only cookie", "/a", []string{"Cookie: chat=TOKEN"}, "", nil},
	{"as the first cookie", "/a", []string{"Cookie: chat=TOKEN; a=1;b=2"}, "", map[string][]string{"Cookie": {"a=1;b=2"}}},
	{"as the last cookie", "/a", []string{"Cookie: a=1; chat=TOKEN"}, "", map[string][]string{"Cookie": {"a=1"}}},
	{"among odd cookies", "/a", []string{`Cookie: a="x, y=z";  b=%zz ;chat=TOKEN; chat2=keep; Chat=keep; xchat=keep; =; novalue`}, "",
		map[string][]string{"Cookie": {`a="x, y=z";  b=%zz ; chat2=keep; Chat=keep; xchat=keep; =; novalue`}}},
	{"in one of two Cookie headers", "/a", []string{"Cookie: a=1", "Cookie: chat=TOKEN", "Cookie: b=2"}, "", map[string][]string{"Cookie": {"a=1", "b=2"}}},
	{"as the only parameter", "/a?token=TOKEN", nil, "/a", nil},
	{"as the first parameter", "/a?token=TOKEN&x=1", nil, "/a?x=1", nil},
	{"as the last parameter", "/a?x=1&token=TOKEN", nil, "/a?x=1", nil},
	{"among odd parameters", "/a%2Fb?x=%zz&a+b=c%20d&&token=TOKEN&Token=keep&token2=keep&=&y=%41;z=1&q={env.HOME}", nil, "/a%2Fb?x=%zz&a+b=c%20d&&Token=keep&token2=keep&=&y=%41;z=1&q={env.HOME}", nil},
	{"in a parameter with an escaped name", "/a?x=1&t%6Fken=TOKEN&y=2", nil, "/a?x=1&y=2", nil},
	{"in a parameter of an address that was rewritten", "/rewrite-me/a?token=TOKEN&x=1", nil, "/a?x=1", nil},
	{"in a parameter twice", "/a?token=TOKEN&x=1&token=TOKEN", nil, "/a?x=1", nil},
	{"in the address of the page as well", "/a?token=TOKEN", []string{"Referer: https://www.example.com/p?x=%zz&token=TOKEN&y=2#top"}, "/a",
		map[string][]string{"Referer": {"https://www.example.com/p?x=%zz&y=2#top"}}},
	{"in an address of the page that is no URL", "/a", []string{"Authorization: Bearer TOKEN", "Referer: https://www.example.com/100%?token=TOKEN&y=2"}, "",
		map[string][]string{"Referer": {"https://www.example.com/100%?y=2"}}},
	{"in the address of the page as its only parameter", "/a", []string{"Authorization: Bearer TOKEN", "Referer: https://www.example.com/p?token=TOKEN"}, "",
		map[string][]string{"Referer": {"https://www.example.com/p"}}},
	{"in every place at once", "/a?token=TOKEN", []string{"Authorization: Bearer TOKEN", "X-Chat-Token: TOKEN", "Cookie: chat=TOKEN; a=1", "Sec-WebSocket-Protocol: chat.v1, jwt, TOKEN"}, "/a",
		map[string][]string{"Cookie": {"a=1"}, "Sec-Websocket-Protocol": {"chat.v1"}}},
	{"as a subprotocol", "/a", []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Protocol: jwt, TOKEN"}, "", nil},
	{"as a subprotocol in a line of its own", "/a", []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Protocol: chat.v1,jwt", "Sec-WebSocket-Protocol: TOKEN , chat.v2"}, "", map[string][]string{"Sec-Websocket-Protocol": {"chat.v1, chat.v2"}}},
}

// The upstream has no use for the token, and its logs, its cache keys and its error reports are where tokens leak from.
// Whatever stands beside the token is not ours and stays as it was, byte for byte.
func TestOnlyTheTokenIsRemoved(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	g := start(t, up, m.messengers, everySource)
	token := sign(m.key, valid("mark"))
	expired := sign(m.key, with(valid("mark"), claims{"exp": 1}))
	for _, p := range placings {
		for name, sent := range map[string]string{"a valid token": token, "a refused token, for the error route": expired} {
			t.Run(name+" "+p.name, func(t *testing.T) {
				request := "GET " + p.target + " HTTP/1.1\r\nHost: " + g.addr + "\r\nConnection: close\r\n" + strings.Join(append(slices.Clone(p.lines), "\r\n"), "\r\n")
				g.raw(strings.ReplaceAll(request, "TOKEN", sent))
				r := up.one(t)
				if strings.Contains(fmt.Sprint(r), sent[:20]) {
					t.Errorf("the token reached the upstream: %+v", r)
				}
				if got, want := ownHeaders(r.header)["x-contact-identity"], map[bool]string{true: "mark"}[sent == token]; got != want {
					t.Errorf("the identity arrives as %q, want %q", got, want)
				}
				want := cmp.Or(p.uri, p.target)
				if sent == expired && strings.HasPrefix(p.target, "/rewrite-me/") {
					want = "/rewrite-me" + want // Caddy's error routes begin with the original address
				}
				if r.uri != want {
					t.Errorf("the target became %q, want %q", r.uri, want)
				}
				checkWatched(t, r.header, p.want)
			})
		}
	}
}

func checkWatched(t *testing.T, header http.Header, want map[string][]string) {
	t.Helper()
	got := make(map[string][]string)
	for _, name := range watchedHeaders {
		if values, found := header[name]; found {
			got[name] = values
		}
	}
	if !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("the upstream saw %q, want %q", got, want)
	}
}

// A backend that wants the token itself gets the request as it was sent.
func TestForwardTokenChangesNothing(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	g := start(t, up, m.messengers, sourcesOnly("forward_token")+"reverse_proxy UPSTREAM")
	token := sign(m.key, valid("mark"))
	for _, p := range placings {
		t.Run(p.name, func(t *testing.T) {
			want, handshake := make(map[string][]string), false
			request := "GET " + p.target + " HTTP/1.1\r\nHost: " + g.addr + "\r\nConnection: close\r\n"
			for _, line := range p.lines {
				line = strings.ReplaceAll(line, "TOKEN", token)
				name, value, _ := strings.Cut(line, ": ")
				name = http.CanonicalHeaderKey(name)
				if slices.Contains(watchedHeaders, name) {
					want[name] = append(want[name], value)
				}
				handshake = handshake || name == "Upgrade"
				request += line + "\r\n"
			}
			a := g.raw(strings.ReplaceAll(request, "TOKEN", token) + "\r\n")
			r := up.one(t)
			if a.status != 200 && !handshake || r.header.Get("X-Contact-Identity") != "mark" {
				t.Errorf("got %d %s, and the identity %q", a.status, a.body, r.header.Get("X-Contact-Identity"))
			}
			if want := strings.ReplaceAll(p.target, "TOKEN", token); r.uri != want {
				t.Errorf("the target became %q, want %q", r.uri, want)
			}
			checkWatched(t, r.header, want)
		})
	}
}

// An attacker who can add one thing to a victim's request, a cookie of a sibling domain or a parameter of a link, adds
// their own token: the victim then writes into the attacker's account (login CSRF; RFC 6750 section 2 allows one method
// per request). Two tokens that differ are none, in whatever two places, and in whatever order.
func TestTwoDifferentTokensAreRefused(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	g := start(t, up, m.messengers, everySource)
	mark, eve := sign(m.key, valid("mark")), sign(m.key, valid("eve"))
	for _, test := range []placing{
		{name: "two Authorization headers", target: "/", lines: []string{"Authorization: Bearer MARK", "Authorization: Bearer EVE"}},
		{name: "the same Authorization header twice", target: "/", lines: []string{"Authorization: Bearer MARK", "Authorization: Bearer MARK"}},
		{name: "two Authorization headers, one of another scheme", target: "/", lines: []string{"Authorization: Basic x", "Authorization: Bearer MARK"}},
		{name: "two headers", target: "/", lines: []string{"Authorization: Bearer MARK", "X-Chat-Token: EVE"}},
		{name: "a header and a cookie", target: "/", lines: []string{"Authorization: Bearer MARK", "Cookie: chat=EVE"}},
		{name: "a header and a parameter", target: "/?token=EVE", lines: []string{"Authorization: Bearer MARK"}},
		{name: "a valid and an invalid one", target: "/?token=x", lines: []string{"Authorization: Bearer MARK"}},
		{name: "two cookies in a line", target: "/", lines: []string{"Cookie: chat=MARK; chat=EVE"}},
		{name: "two cookies in two lines", target: "/", lines: []string{"Cookie: chat=MARK", "Cookie: chat=EVE"}},
		{name: "a parameter twice", target: "/?token=MARK&token=EVE"},
		{name: "a parameter twice, escaped", target: "/?token=MARK&%74oken=EVE"},
		{name: "a parameter twice, the first one empty", target: "/?token=&token=MARK"},
		{name: "a parameter twice, the last one empty", target: "/?token=MARK&a=1&token"},
		{name: "two cookies, the first one empty", target: "/", lines: []string{"Cookie: chat=; chat=MARK"}},
		{name: "two cookies, the last one empty", target: "/", lines: []string{"Cookie: chat=MARK", "Cookie: chat="}},
		{name: "two headers of one name, the first one empty", target: "/", lines: []string{"X-Chat-Token:", "X-Chat-Token: MARK"}},
		{name: "a scheme alone and a cookie", target: "/", lines: []string{"Authorization: Bearer", "Cookie: chat=MARK"}},
		{name: "two subprotocols", target: "/", lines: []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Protocol: jwt, MARK, jwt, EVE"}},
		{name: "the marker twice", target: "/", lines: []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Protocol: jwt, MARK, jwt"}},
		{name: "a subprotocol and a header", target: "/", lines: []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Protocol: jwt, MARK", "Authorization: Bearer EVE"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			request := "GET " + test.target + " HTTP/1.1\r\nHost: " + g.addr + "\r\nConnection: close\r\n" + strings.Join(append(test.lines, "\r\n"), "\r\n")
			g.raw(strings.NewReplacer("MARK", mark, "EVE", eve).Replace(request))
			r := up.one(t) // through the error route
			if len(ownHeaders(r.header)) != 0 || strings.Contains(fmt.Sprint(r), mark[:20]) {
				t.Errorf("the upstream saw %+v", r)
			}
		})
	}
	plain := start(t, up, m.messengers, sourcesOnly("")+"reverse_proxy UPSTREAM")
	a := plain.get("/?token="+eve, bearer(mark))
	if a.status != 400 || a.code(t) != "token_ambiguous" {
		t.Errorf("got %d %s, want 400 token_ambiguous", a.status, a.body)
	}
	// Some backends read these as the same parameter.
	for _, target := range []string{"/?token=MARK&token[]=x", "/?token%5B0%5D=x&token=MARK", "/?a=1;token=x&token=MARK", "/?token=MARK&+token=x"} {
		if a := plain.get(strings.ReplaceAll(target, "MARK", mark)); a.status != 400 || a.code(t) != "token_ambiguous" {
			t.Errorf("%s: got %d %s, want 400 token_ambiguous", target, a.status, a.body)
		}
	}
	up.none(t)
}

// A browser cannot set headers on a WebSocket. It offers the token as a subprotocol behind its marker, in whatever order
// the page lists them, and hangs up unless the answer selects one that it offered: the backend's choice, or the marker.
func TestTokenInASubprotocol(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	const site = "messenger_auth support {\n token_from websocket_protocol jwt\n}\nreverse_proxy UPSTREAM"
	g := start(t, up, m.messengers, site)
	token := sign(m.key, valid("mark"))
	for _, test := range []struct {
		name     string
		offered  []string
		selected string // the upstream of these tests speaks chat.v1
		upstream string
	}{
		{"nothing beside it", []string{"jwt", token}, "jwt", ""},
		{"the backend's protocol in front", []string{"chat.v1", "jwt", token}, "chat.v1", "chat.v1"},
		{"the backend's protocol behind", []string{"jwt", token, "chat.v1"}, "chat.v1", "chat.v1"},
		{"around it", []string{"chat.v2", "jwt", token, "chat.v1"}, "chat.v1", "chat.v2, chat.v1"},
		{"a protocol that the backend does not speak", []string{"chat.v2", "jwt", token}, "jwt", "chat.v2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			conn, _, err := websocket.Dial(ctx, g.url+"/socket", &websocket.DialOptions{Subprotocols: test.offered})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.CloseNow()
			if got := conn.Subprotocol(); got != test.selected {
				t.Errorf("the answer selects %q, want %q", got, test.selected)
			}
			echo(t, conn)
			h := up.one(t).header
			if got := h.Get("Sec-Websocket-Protocol"); got != test.upstream {
				t.Errorf("the upstream was offered %q, want %q", got, test.upstream)
			}
			if got := h.Get("X-Contact-Identity"); got != "mark" {
				t.Errorf("the identity arrives as %q", got)
			}
		})
	}
	for name, offered := range map[string][]string{
		"no token": {"chat.v1"}, "the marker at the end": {"chat.v1", "jwt"}, "a token without its marker": {"chat.v1", token}, "something between them": {"jwt", "chat.v1", token},
	} {
		_, resp, err := websocket.Dial(context.Background(), g.url+"/socket", &websocket.DialOptions{Subprotocols: offered})
		if err == nil || resp == nil || resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: got %v, %v, want a 401", name, resp, err)
		}
		up.none(t)
	}
	// An answer that completes no handshake selects nothing.
	if a := g.get("/", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Protocol: jwt, "+token); a.status == 101 || a.header.Get("Sec-Websocket-Protocol") != "" {
		t.Errorf("a handshake that the backend refuses is answered with %d and the subprotocol %q", a.status, a.header.Get("Sec-Websocket-Protocol"))
	}
}

// echo sends a message through the WebSocket and waits for it to come back.
func echo(t testing.TB, conn *websocket.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := conn.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
		t.Fatalf("writing: %v", err)
	}
	if _, message, err := conn.Read(ctx); err != nil || string(message) != "hello" {
		t.Fatalf("got %q, %v, want an echo", message, err)
	}
}

// Over HTTP/3 a WebSocket is an extended CONNECT (RFC 9220) and its answer a 200. The subprotocols are the same.
func TestTokenInASubprotocolOverHTTP3(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	g := startTLS(t, up, m.messengers, "messenger_auth support {\n token_from websocket_protocol jwt\n}\nreverse_proxy UPSTREAM")
	g.waitForTLS()
	token := sign(m.key, valid("mark"))
	for offered, want := range map[string]string{"jwt, " + token: "jwt", "jwt, " + token + ", chat.v1": "chat.v1"} {
		s, status := socketsOverHTTP3.open(g, "/socket", "Sec-WebSocket-Protocol: "+offered)
		s.close()
		if got := s.header.Get("Sec-Websocket-Protocol"); status != 101 || got != want {
			t.Errorf("got %d and the subprotocol %q, want 101 and %q", status, got, want)
		}
		if got := up.one(t).header.Get("X-Contact-Identity"); got != "mark" {
			t.Errorf("the identity arrives as %q", got)
		}
	}
}
