package integration

import (
	"strings"
	"testing"
)

// Pages of visitors without a login send the scheme and what their variable is as text. Where a login is optional they are
// visitors like all others; elsewhere the answer says that what arrived is not a token, and the log says what to do.
func TestPagesThatSendTheSchemeWithoutAToken(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	for mode, site := range map[string]string{"required": "", "optional": " mode optional\n", "report": " mode report\n"} {
		g := start(t, up, "metrics\n"+m.messengers, "messenger_auth support {\n"+site+" token_from header Authorization Bearer\n token_from query token\n token_from cookie chat\n}\nreverse_proxy UPSTREAM")
		ask := func(line string) answer {
			target, line, _ := strings.Cut(line, " ")
			return g.raw("GET " + target + " HTTP/1.1\r\nHost: " + g.addr + "\r\nConnection: close\r\nX-Contact-Identity: eve\r\n" + line + "\r\n\r\n")
		}
		for _, line := range []string{
			"/ Authorization: Bearer", "/ Authorization: Bearer \t", "/ Authorization: Bearer undefined", "/ authorization: bearer null", "/ Authorization: Bearer [object Object]", "/ Authorization: Bearer \t [object Promise]",
			"/?token=undefined A: b", "/ Cookie: a=1; chat=null",
		} {
			anonymous := func() float64 {
				return g.metric(`caddy_messenger_auth_requests_total{code="token_missing",messenger="support",method="shared_token",mode="optional"}`)
			}
			before := 0.0
			if mode == "optional" {
				before = anonymous()
			}
			a := ask(line)
			seen := up.take()
			if mode == "required" {
				if a.status != 401 || a.code(t) != "token_malformed" || len(seen) != 0 {
					t.Errorf("%s, %s: got %d %s, want 401 token_malformed", mode, line, a.status, a.body)
				}
				continue
			}
			if a.status != 200 || len(seen) != 1 || len(ownHeaders(seen[0].header)) != 0 || seen[0].header.Get("Authorization") != "" || strings.Contains(seen[0].uri, "token") {
				t.Errorf("%s, %s: got %d %s, and the upstream saw %+v", mode, line, a.status, a.body, seen)
			}
			if mode == "optional" && anonymous() != before+1 {
				t.Errorf("%s: is not counted", line)
			}
		}
		g.waitForLog("leave the Authorization header out while the visitor is not logged in")
		g.waitForLog(map[string]string{"required": "refused: token_malformed", "optional": "passed as anonymous", "report": "would be refused: token_malformed"}[mode])
		// Any other text counts as an invalid token.
		for _, line := range []string{"/ Authorization: Bearer:" + sign(m.key, valid("mark")), "/ Authorization: Bearer: undefined", "/ Authorization: Bearer undefined1", "/ Authorization: Bearer \"null\"", "/ Authorization: Bearer=x", "/ Authorization: Bearer,x"} {
			a := ask(line)
			seen := up.take()
			if mode != "report" && (a.status != 401 || a.code(t) != "token_malformed" || len(seen) != 0) {
				t.Errorf("%s, %s: got %d %s, want 401 token_malformed", mode, line, a.status, a.body)
			}
			if mode == "report" && (len(seen) != 1 || len(ownHeaders(seen[0].header)) != 0 || seen[0].header.Get("Authorization") != "") {
				t.Errorf("%s, %s: the upstream saw %+v", mode, line, seen)
			}
		}
		// Another scheme says nothing about contacts, and stays.
		for _, line := range []string{"/ Authorization: Basic eDp5", "/ Authorization: Bearer-2 x", "/ Authorization: BearerT1"} {
			a := ask(line)
			seen := up.take()
			if mode == "required" && (a.status != 401 || a.code(t) != "token_missing") || mode != "required" && (a.status != 200 || len(seen) != 1 || seen[0].header.Get("Authorization") == "") {
				t.Errorf("%s, %s: got %d %s, and the upstream saw %+v", mode, line, a.status, a.body, seen)
			}
		}
	}
}

// A page can offer subprotocols with a WebSocket and with nothing else. On any other request a token there counts for
// nothing, and goes no further: neither in the mode optional nor with a CORS preflight.
func TestSubprotocolIsReadOnHandshakesOnly(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	token := sign(m.key, valid("mark"))
	for _, mode := range []string{"required", "optional", "report"} {
		g := start(t, up, m.messengers, "messenger_auth support {\n mode "+mode+"\n token_from websocket_protocol jwt\n token_from header Authorization Bearer\n}\nreverse_proxy UPSTREAM")
		for name, request := range map[string]string{
			"a GET":                               "GET / HTTP/1.1",
			"a POST":                              "POST / HTTP/1.1\r\nContent-Length: 0",
			"a POST that upgrades":                "POST / HTTP/1.1\r\nContent-Length: 0\r\nConnection: Upgrade\r\nUpgrade: websocket",
			"an upgrade to something else":        "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c",
			"an upgrade that no Connection names": "GET / HTTP/1.1\r\nUpgrade: websocket",
			"a list of upgrades":                  "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket, h2c",
			"a preflight":                         "OPTIONS / HTTP/1.1\r\nOrigin: https://www.example.com\r\nAccess-Control-Request-Method: POST",
		} {
			a := g.raw(request + "\r\nHost: " + g.addr + "\r\nConnection: close\r\nSec-WebSocket-Protocol: chat.v1, jwt, " + token + "\r\n\r\n")
			seen := up.take()
			for _, r := range seen {
				if got := r.header.Get("Sec-Websocket-Protocol"); len(ownHeaders(r.header)) != 0 || got != "chat.v1" {
					t.Errorf("%s, %s: the upstream saw %v and the subprotocols %q", mode, name, ownHeaders(r.header), got)
				}
			}
			passes := mode != "required" || name == "a preflight"
			if passes && (a.status != 200 || len(seen) != 1) || !passes && (a.status != 401 || a.code(t) != "token_missing" || len(seen) != 0) {
				t.Errorf("%s, %s: got %d %s and %d requests behind", mode, name, a.status, a.body, len(seen))
			}
		}
		if a := g.handshake("Sec-WebSocket-Protocol: chat.v1, jwt, " + token); a.status != 101 || up.one(t).header.Get("X-Contact-Identity") != "mark" {
			t.Errorf("%s, a handshake: got %d %s", mode, a.status, a.body)
		}
	}
}
