package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A route has a messenger_auth of its own behind that of its site. The first verifies the contact. The limits and the assertion of
// the second apply as well, and no assertion for one backend reaches another.
func TestSecondHandlerAppliesLimitsAndAssertion(t *testing.T) {
	m, up, chat, second := methods(t)[0], newUpstream(t), newChat(t), unusedName("second")
	g := start(t, up, "messenger {\n assertion_issuer https://chat.example.com\n}\n"+strings.ReplaceAll(m.messengers, "identity_key identity", "identity_key identity\n contact_claims vip"), `
		messenger_auth support {
			claim_header plan X-Contact-Plan
			claim_header name X-Contact-Name
			contact_limit {
				requests 1000/1h
				connections 9
			}
			assertion {
				audience chat-backend
				header X-First-Proof
			}
		}
		handle /files/* {
			messenger_auth support {
				claim_header name X-Contact-Name
				contact_limit {
					requests 3/1h
				}
				assertion {
					audience file-backend
				}
			}
			reverse_proxy UPSTREAM
		}
		handle /same/* {
			messenger_auth support {
				contact_limit {
					requests 1000/1h
					connections 9
				}
			}
			reverse_proxy UPSTREAM
		}
		handle /one/* {
			messenger_auth support {
				claim_header plan X-Other-Plan
				contact_limit {
					connections 1
				}
			}
			reverse_proxy `+chat.addr+`
		}
		handle {
			reverse_proxy UPSTREAM
		}
	`)
	token := func(identity string) string {
		return bearer(sign(m.key, with(valid(identity), claims{"name": "Mark", "plan": "gold", "vip": true})))
	}
	forged := []string{"X-First-Proof: forged", "X-Contact-Assertion: forged"}
	for i := range 4 {
		a := g.get("/files/hello", append(forged, token(second))...)
		if want := map[bool]int{true: 200, false: 429}[i < 3]; a.status != want {
			t.Fatalf("request %d got %d, want %d", i, a.status, want)
		}
	}
	reached := up.take()
	if len(reached) != 3 {
		t.Fatalf("%d requests reached the backend", len(reached))
	}
	h := reached[0].header
	said := payloadOf(t, h.Get("X-Contact-Assertion"))
	if got := fmt.Sprintln(said["aud"], said["sub"], said["claims"], h["X-First-Proof"]); got != "file-backend "+second+" map[name:Mark vip:true] []\n" {
		t.Errorf("the backend of the files reads %s", got)
	}
	if a := g.get("/hello", append(forged, token(second))...); a.status != 200 {
		t.Errorf("elsewhere: got %d", a.status)
	}
	h = up.one(t).header
	if said := payloadOf(t, h.Get("X-First-Proof")); fmt.Sprintln(said["aud"], said["claims"], h["X-Contact-Assertion"]) != "chat-backend map[name:Mark plan:gold vip:true] []\n" {
		t.Errorf("the backend of the chat reads %v and %v", said, h)
	}
	if a := g.get("/same/hello", token(second)); a.status != 200 || payloadOf(t, up.one(t).header.Get("X-First-Proof"))["aud"] != "chat-backend" {
		t.Errorf("with the same limit: got %d", a.status)
	}

	// The first tracks the connection before the second sees the request: it is not a connection that the contact has already.
	first, status := protocols[0].open(g, "/one/echo", token(second))
	if status != 101 {
		t.Fatalf("the only connection got %d", status)
	}
	for _, line := range []string{"Accept: */*", "Accept: text/event-stream"} {
		a := g.get("/one/quiet", token(second), line)
		if refused := a.status == 429 && a.code(t) == "too_many_connections"; !refused && !strings.Contains(a.body, "event: auth\ndata: too_many_connections") {
			t.Errorf("a second one, %s: got %d %s", line, a.status, a.body)
		}
	}
	stream := g.stream(version{"HTTP/1.1", plainClient}, "/one/quiet", token("another"), "Accept: text/event-stream")
	if stream.StatusCode != 200 {
		t.Errorf("another contact got %d", stream.StatusCode)
	}
	first.close()
	patiently(t, "a closed connection makes room", func() bool {
		s, status := protocols[0].open(g, "/one/echo", token(second))
		defer s.close()
		return status == 101
	})
	if !strings.Contains(g.logs(), "an earlier messenger_auth verifies the requests of this one, whose own headers are not set") {
		t.Error("the log does not say that a claim_header has no effect")
	}
	if a := g.get("/one/hello", token(second)); a.status != 200 {
		t.Errorf("got %d", a.status)
	}
}

// Both directives have an assertion, in headers of different names, and the backend of the second fails. The error route is told of the
// second assertion only, whatever a handler in between writes into the header of the first.
func TestErrorRouteGetsTheSecondAssertionOnly(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	for _, change := range []string{"", "request_header X-First-Proof 1", "request_header X-Second-Proof 1", "request_header -X-Second-Proof"} {
		g := start(t, up, "messenger {\n assertion_issuer https://chat.example.com\n}\n"+m.messengers, `
			route {
				messenger_auth support {
					assertion {
						audience first
						header X-First-Proof
					}
				}
				messenger_auth support {
					assertion {
						audience second
						header X-Second-Proof
					}
				}
				`+change+`
				reverse_proxy 127.0.0.1:1
			}
			handle_errors {
				reverse_proxy UPSTREAM
			}
		`)
		g.get("/", bearer(sign(m.key, valid("mark"))))
		h := up.one(t).header
		if len(h["X-First-Proof"]) > 0 || h.Get("X-Contact-Identity") != "mark" {
			t.Errorf("%q: the backend saw %v", change, h)
		}
		switch second := h["X-Second-Proof"]; {
		case change == "request_header -X-Second-Proof" && len(second) == 0:
		case change == "request_header X-Second-Proof 1" && len(second) == 1 && second[0] == "1":
		case len(second) == 1 && payloadOf(t, second[0])["aud"] == "second":
		default:
			t.Errorf("%q: the second assertion is %q", change, second)
		}
	}
}

// A second directive refuses a handshake that the first has let through, by opening the WebSocket and closing it.
func TestSecondHandlerClosesTheHandshake(t *testing.T) {
	if !alone(t) {
		return
	}
	messengers, secret := strict(t, "")
	site := map[string]string{"": "route {\n messenger_auth support\n messenger_auth support {\n websocket_rejection close\n contact_limit {\n connections 1\n }\n }\n reverse_proxy UPSTREAM\n}"}
	eachProtocol(t, site, messengers, func(t *testing.T, p protocol, g *gateway, _ *chat) {
		token, _ := lasting(secret, "mark", time.Hour)
		first, status := p.open(g, "/echo", token)
		if status != 101 {
			t.Fatalf("the first got %d", status)
		}
		second, status := p.open(g, "/echo", token)
		if status != 101 {
			t.Fatalf("the second got %d", status)
		}
		if got := second.ended(); got != "4429 too_many_connections" {
			t.Errorf("the second was told %q", got)
		}
		first.lives(t, "mark")
		eventually(t, "one connection is counted", func() bool { return g.connections().Open == 1 })
	})
}

// A request reaches the directives of two messengers, with a valid token for each. It is refused, and neither contact nor token is told
// to an error route.
func TestErrorRouteOfTwoMessengersGetsNoContact(t *testing.T) {
	secret, other := newSecret(), newSecret()
	up := newUpstream(t)
	g := start(t, up, "messenger support {\n identity_key identity\n shared_token {file."+write(t, "support", []byte(secret))+"}\n}\n"+
		"messenger sales {\n identity_key identity\n shared_token {file."+write(t, "sales", []byte(other))+"}\n}",
		"route {\n messenger_auth support\n messenger_auth sales {\n token_from header X-Chat-Token\n }\n reverse_proxy UPSTREAM\n}\nhandle_errors {\n reverse_proxy UPSTREAM\n}")
	g.get("/", bearer(sign(secret, valid("mark"))), "X-Chat-Token: "+sign(other, valid("zoe")))
	h := up.one(t).header
	if got := ownHeaders(h); len(got) != 0 || h.Get("X-Chat-Token") != "" || h.Get("Authorization") != "" {
		t.Errorf("the error route's backend is told %v, and gets %v", got, h)
	}
}

// A request that two messengers would verify is not verified for the second in an error route either, while the connection of the first
// is guarded: what it opened there would end with the first contact's token.
func TestSubrouteErrorsVerifyNoSecondContact(t *testing.T) {
	secret, other := newSecret(), newSecret()
	up := newUpstream(t)
	g := newGateway(t, up, "http://")
	g.replace(withErrorsInside(t, g.conf(g.caddyfile("messenger support {\n identity_key identity\n shared_token {file."+write(t, "support", []byte(secret))+"}\n}\n"+
		"messenger sales {\n identity_key identity\n shared_token {file."+write(t, "sales", []byte(other))+"}\n}",
		`route {
			messenger_auth support
			route {
				messenger_auth sales {
					token_from header X-First
				}
				reverse_proxy UPSTREAM
			}
		}
		handle_errors {
			messenger_auth sales {
				token_from header X-Chat-Token
			}
			reverse_proxy UPSTREAM
		}`))))
	for _, second := range []string{"X-Chat-Token: " + sign(other, valid("zoe")), "X-Other: 1"} {
		a := g.get("/", bearer(sign(secret, valid("mark"))), second)
		if up.none(t); a.status != 500 {
			t.Errorf("%.10s: got %d", second, a.status)
		}
	}
}

// The second directive reads tokens elsewhere than the first, which verifies the request. Neither lets one reach the backend.
func TestTokensOfBothDirectivesAreRemoved(t *testing.T) {
	messengers, secret := strict(t, "")
	up := newUpstream(t)
	g := start(t, up, messengers, "messenger_auth support\nhandle /second/* {\n messenger_auth support {\n token_from cookie chat\n token_from query token\n }\n reverse_proxy UPSTREAM\n}")
	token := sign(secret, valid("zoe"))
	g.get("/second/a?x=1&token="+token, bearer(sign(secret, valid("mark"))), "Cookie: a=b; chat="+token)
	got := up.one(t)
	if text := fmt.Sprint(got.uri, got.header); strings.Contains(text, token) || got.header.Get("Cookie") != "a=b" || got.uri != "/second/a?x=1" || got.header.Get("X-Contact-Identity") != "mark" {
		t.Errorf("the backend got %s", text)
	}
}

// The first directive verifies the header, and the second takes the token from the subprotocols. Its marker is selected, as if it had
// verified: a browser gives up on an answer that selects nothing.
func TestSecondDirectiveSelectsItsMarker(t *testing.T) {
	messengers, secret := strict(t, "")
	g := start(t, newChat(t).upstream, messengers, "messenger_auth support\nhandle {\n messenger_auth support {\n token_from websocket_protocol jwt\n }\n reverse_proxy UPSTREAM\n}")
	token := sign(secret, valid("mark"))
	s, status := g.upgrade(g.dial(), "/echo", []string{bearer(token), "Sec-WebSocket-Protocol: jwt, " + token})
	if status != 101 || s.header.Get("Sec-Websocket-Protocol") != "jwt" {
		t.Errorf("got %d, and %q is selected", status, s.header["Sec-Websocket-Protocol"])
	}
	s.close()
}

// Directives with the same limit of requests count a request once, whatever they say about connections.
func TestRequestCountsOnceInOneLimit(t *testing.T) {
	m, up, who := methods(t)[0], newUpstream(t), unusedName("mark")
	limit := func(lines string) string { return "messenger_auth support {\n contact_limit {\n" + lines + "\n}\n}\n" }
	g := start(t, up, m.messengers, "route {\n"+limit("requests 4/1h")+limit("requests 90/1h")+limit("requests 4/1h\nconnections 5")+"reverse_proxy UPSTREAM\n}")
	for i := range 6 {
		a := g.get("/", bearer(sign(m.key, valid(who))))
		if want := map[bool]int{true: 200, false: 429}[i < 4]; a.status != want {
			t.Errorf("request %d got %d, want %d", i, a.status, want)
		}
	}
}
