package integration

import (
	"fmt"
	"strings"
	"testing"
)

// One contact floods the gateway. Another one of the same messenger, one of the same name at another messenger, and an attacker
// who sends forged tokens of that contact change nothing for anyone else.
func TestContactLimitOfRequests(t *testing.T) {
	secret, up, mark := newSecret(), newUpstream(t), unusedName("mark")
	messenger := func(name string) string {
		return "messenger " + name + " {\n identity_key identity\n audience " + name + "\n shared_token {file." + write(t, "secret", []byte(secret)) + "}\n}\n"
	}
	g := start(t, up, "metrics\n"+messenger("support")+messenger("sales"), `
		handle /report/* {
			messenger_auth {path.1} {
				mode report
				contact_limit {
					requests 2/1h
				}
			}
			reverse_proxy UPSTREAM
		}
		handle {
			messenger_auth {path.0} {
				contact_limit {
					requests 3/1h
				}
			}
			reverse_proxy UPSTREAM
		}
	`)
	const refused = `caddy_messenger_auth_requests_total{code="too_many_requests",messenger="support"`
	const reported = refused + `,method="shared_token",mode="report"}`
	refusedBefore, reportedBefore := g.metric(refused), g.metric(reported) // by other tests of this process
	token := func(messenger, identity string, more claims) string {
		return bearer(sign(secret, with(valid(identity), with(claims{"aud": messenger}, more))))
	}
	for range 5 { // not counted, because they are not the contact's
		for _, line := range []string{bearer(forge(newSecret(), `{"alg":"HS256"}`, `{"identity":"`+mark+`","aud":"support"}`)), token("support", mark, claims{"exp": 1}), token("sales", mark, nil)} {
			if a := g.get("/support/", line); a.status != 401 {
				t.Fatalf("an invalid token got %d", a.status)
			}
		}
	}
	for i := range 6 {
		a := g.get("/support/", token("support", mark, claims{"jti": fmt.Sprint(i)})) // a new token has no new allowance
		if want := map[bool]int{true: 200, false: 429}[i < 3]; a.status != want {
			t.Fatalf("request %d got %d, want %d", i, a.status, want)
		}
		if a.status == 429 && (a.code(t) != "too_many_requests" || a.header.Get("Retry-After") != "1200" && a.header.Get("Retry-After") != "1199" || a.header.Get("WWW-Authenticate") != "") {
			t.Errorf("got %v %s", a.header, a.body)
		}
	}
	if n := len(up.take()); n != 3 {
		t.Errorf("%d requests reached the backend", n)
	}
	for _, other := range []string{token("support", mark+" ", nil), token("support", strings.ToUpper(mark), nil), token("support", "eve", nil)} {
		if a := g.get("/support/", other); a.status == 429 {
			t.Errorf("another contact is limited: %s", a.body)
		}
	}
	if a := g.get("/sales/", token("sales", mark, nil)); a.status != 200 {
		t.Errorf("the same name at another messenger got %d", a.status)
	}
	up.take()
	if n := g.metric(refused) - refusedBefore; n != 3 {
		t.Errorf("%v refusals were counted, want 3", n)
	}
	for range 4 {
		if a := g.get("/report/support/", token("support", mark, nil)); a.status != 200 || up.one(t).header.Get("X-Contact-Identity") != mark {
			t.Errorf("in report: got %d", a.status)
		}
	}
	if n := g.metric(reported) - reportedBefore; n != 2 {
		t.Errorf("in report %v were counted, want 2", n)
	}
}

// A contact opens sockets and streams until it may not. Those that it has go on, and one that it closes makes room.
func TestContactLimitOfConnections(t *testing.T) {
	m, up := methods(t)[0], newChat(t)
	g := start(t, up.upstream, "metrics\n"+m.messengers, "messenger_auth support {\n websocket_rejection close\n contact_limit {\n connections 2\n }\n}\nreverse_proxy UPSTREAM")
	token := bearer(sign(m.key, valid("mark")))
	open := func(line string) *socket {
		t.Helper()
		s, status := protocols[0].open(g, "/echo", line)
		if status != 101 {
			t.Fatalf("got %d", status)
		}
		return s
	}
	const refused = `caddy_messenger_auth_requests_total{code="too_many_connections"`
	before := g.metric(refused) // by other tests of this process
	first := open(token)
	stream := g.stream(version{"HTTP/1.1", plainClient}, "/quiet", token, "Accept: text/event-stream")
	if got := open(bearer(sign(m.key, with(valid("mark"), claims{"jti": "2"})))).ended(); got != "4429 too_many_connections" {
		t.Errorf("the third connection ends with %q", got)
	}
	if a := g.get("/quiet", token, "Accept: text/event-stream"); a.status != 429 || a.code(t) != "too_many_connections" || a.header.Get("Retry-After") != "15" {
		t.Errorf("the third stream got %d %v", a.status, a.header)
	}
	if a := g.get("/hello", token); a.status != 200 {
		t.Errorf("a request got %d", a.status)
	}
	// Only its answer says that it is a stream.
	if a := g.get("/quiet", token); a.status != 200 || !strings.Contains(a.body, "event: auth\ndata: too_many_connections") {
		t.Errorf("a stream that was not asked for got %d %q", a.status, a.body)
	}
	other := open(bearer(sign(m.key, valid("eve"))))
	for name, s := range map[string]*socket{"the first": first, "another contact's": other} {
		s.send(1, "hello")
		if got := string(s.next().payload); got != "hello" {
			t.Errorf("%s: got %q", name, got)
		}
	}
	if n := g.metric(refused) - before; n != 2 {
		t.Errorf("%v refusals were counted, want 2", n)
	}
	_ = stream.Body.Close()
	patiently(t, "the closed stream makes room", func() bool {
		s := open(token)
		defer s.close()
		s.send(1, "hello")
		return s.next().opcode == 1
	})
	other.close()
	first.close()
}

// A request was verified, and the next messenger_auth does not find its messenger. Nothing is counted and nothing is signed.
func TestLimitsOfAMessengerThatIsNotFound(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	g := start(t, up, "messenger {\n assertion_issuer https://chat.example.com\n}\n"+m.messengers, `
		route {
			messenger_auth support
			messenger_auth {path.0} {
				contact_limit {
					requests 3/1h
					connections 1
				}
				assertion {
					audience chat-backend
				}
			}
			reverse_proxy UPSTREAM
		}
	`)
	for range 5 {
		if a := g.get("/elsewhere/x", bearer(sign(m.key, valid("mark")))); a.status != 404 || a.code(t) != "messenger_unknown" {
			t.Fatalf("got %d %s", a.status, a.body)
		}
	}
	if n := len(up.take()); n != 0 {
		t.Errorf("%d requests reached the backend", n)
	}
}

// A request passes one messenger_auth and is over the limit of the next. The backend of an error page must not read who it is from:
// it would serve the flood of one contact under its identity. The same goes for one whose messenger the second does not find.
func TestRefusedContactsAreHiddenFromErrorRoutes(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	g := start(t, up, m.messengers, `
		route {
			messenger_auth support {
				claim_header name X-Contact-Name
			}
			messenger_auth {path.0} {
				contact_limit {
					requests 1/1h
				}
			}
			reverse_proxy UPSTREAM
		}
		handle_errors {
			reverse_proxy UPSTREAM {
				header_up X-Placeholder "<{http.auth.user.id}{http.messenger_auth.identity}{http.messenger_auth.claim.name}>"
			}
		}
	`)
	who := unusedName("mark")
	token := bearer(sign(m.key, with(valid(who), claims{"name": "Mark"})))
	for i, path := range []string{"/support/a", "/support/a", "/elsewhere/a"} {
		g.get(path, token)
		h := up.one(t).header
		want := map[bool]string{true: who + " Mark", false: " <>"}[i == 0]
		if got := h.Get("X-Contact-Identity") + " " + h.Get("X-Contact-Name") + h.Get("X-Placeholder"); got != want || (i > 0) != (h.Get("X-Contact-Messenger") == "") {
			t.Errorf("request %d to %s: the backend reads %q, want %q", i, path, got, want)
		}
	}
}

// Whatever becomes of a connection, it is counted for as long as it is open. The backend refuses handshakes, is away, or ends
// the stream; the client goes away in the middle of it: none of that takes a place for longer.
func TestContactLimitForgetsConnections(t *testing.T) {
	m, up := methods(t)[0], newChat(t)
	limited := "messenger_auth support {\n contact_limit {\n connections 1\n }\n}\n"
	g := startTLS(t, up.upstream, m.messengers, "handle /down/* {\n"+limited+"reverse_proxy 127.0.0.1:1\n}\nhandle /text/* {\n"+limited+"respond text\n}\nhandle {\n"+limited+"reverse_proxy UPSTREAM\n}")
	// Each case has a contact of its own: the gateway notices a little later that a connection of the case before was closed.
	contact := func(name string) string { return bearer(sign(m.key, valid(name))) }
	free := func(token, after string) {
		t.Helper()
		patiently(t, "a place is free after "+after, func() bool {
			s, status := protocols[1].open(g, "/echo", token)
			defer s.close()
			return status == 101
		})
	}
	for _, v := range g.versions() {
		token := contact("an aborted stream over " + v.name)
		stream := g.stream(v, "/quiet", token, "Accept: text/event-stream")
		s, status := protocols[1].open(g, "/echo", token)
		s.close()
		if status != 429 {
			t.Errorf("%s: beside a stream a WebSocket got %d", v.name, status)
		}
		if a := g.send(v.client, "HEAD", "/text/", token, "Accept: text/event-stream"); a.status != 200 {
			t.Errorf("%s: a HEAD, which opens nothing, got %d", v.name, a.status)
		}
		_ = stream.Body.Close()
		free(token, "an aborted stream over "+v.name)
	}
	for _, p := range protocols {
		if !p.tls || strings.HasPrefix(p.name, "HTTP/2") {
			continue // HTTP/2 needs a process of its own
		}
		for _, path := range []string{"/down/", "/text/", "/echo"} {
			token := contact(p.name + " to " + path)
			s, _ := p.open(g, path, token)
			s.close()
			free(token, p.name+" to "+path)
		}
	}
}
