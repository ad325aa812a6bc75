package integration

import (
	"fmt"
	"strings"
	"testing"
)

// originSite takes tokens from a cookie, a header and a subprotocol.
const originSite = `
	messenger_auth support {
		token_from cookie chat
		token_from header Authorization Bearer
		token_from websocket_protocol jwt
	}
	reverse_proxy UPSTREAM
`

// allowing returns the messenger of m with a list of allowed origins.
func allowing(m method, origins string) string {
	if origins == "" {
		return m.messengers
	}
	return strings.Replace(m.messengers, "identity_key", "allowed_origin "+origins+"\n identity_key", 1)
}

// strangers are origins that a browser, or a client that imitates one, can send for a page that is not the site's. Each is
// near to https://www.example.com for some way of comparing.
var strangers = []string{
	"https://evil.example.com", "null", "", "https://www.example.com.evil.com", "https://evilwww.example.com", "https://www.example.com@evil.com", "https://evil.com#https://www.example.com",
	"https://evil.com/https://www.example.com", "http://www.example.com", "https://www.example.com:8443", "https://example.com", "https://www.example.com.", "https://www.example.com/", "www.example.com",
	"//www.example.com", "https://", "https:www.example.com", "https://www.example.com https://www.example.com", "https://www.example.com,https://evil.com", "file://", "https://www.example.com%2eevil.com", "https://ｗww.example.com",
	"chrome-extension://www.example.com", "app://www.example.com", "https://*.example.com", "*", "https://www.example.com\\.evil.com", "https://[::1", "https://www.example.com?", "https://www_example.com",
}

// A browser attaches a cookie to whatever any page makes it send: a form posted by evil.example.com comes with the
// contact's token (CSRF; RFC 6454 section 8, OWASP). Such a token counts only where the request can change nothing, or
// where the browser says that it comes from a page of the site.
func TestCookieIsAcceptedOnlyFromTheSitesOwnPages(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	g := start(t, up, allowing(m, "https://www.example.com https://app.example.com:8443"), originSite)
	token := sign(m.key, valid("mark"))
	cookie, header := "Cookie: a=1; chat="+token, bearer(token)
	send := func(method string, lines ...string) answer {
		t.Helper()
		return g.raw(method + " / HTTP/1.1\r\nHost: " + g.addr + "\r\nConnection: close\r\nContent-Length: 0\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n")
	}
	passes := func(name, method string, lines ...string) {
		t.Helper()
		if a := send(method, lines...); a.status != 200 {
			t.Errorf("%s, %s: got %d %s, want 200", method, name, a.status, a.body)
		} else if got := up.one(t).header.Get("X-Contact-Identity"); got != "mark" {
			t.Errorf("%s, %s: the identity arrives as %q", method, name, got)
		}
		up.take()
	}
	refuses := func(name, method string, lines ...string) {
		t.Helper()
		if a := send(method, lines...); a.status != 403 || a.code(t) != "origin_not_allowed" {
			t.Errorf("%s, %s: got %d %s, want 403 origin_not_allowed", method, name, a.status, a.body)
		}
		up.none(t)
	}
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "PURGE", "get"} {
		for _, origin := range []string{g.url, strings.ToUpper(g.url), "https://www.example.com", "https://www.example.com:443", "HTTPS://WWW.EXAMPLE.COM", "https://app.example.com:8443"} {
			passes("from "+origin, method, cookie, "Origin: "+origin)
		}
		refuses("without an Origin", method, cookie)
		for _, origin := range strangers {
			refuses(fmt.Sprintf("from %q", origin), method, cookie, "Origin: "+origin)
		}
		refuses("from two origins", method, cookie, "Origin: https://www.example.com", "Origin: https://www.example.com")
		refuses("from another scheme of the gateway", method, cookie, "Origin: https://"+g.addr)
		refuses("with only a Referer", method, cookie, "Referer: https://www.example.com/")
		refuses("with a forwarded scheme that nobody vouches for", method, cookie, "Origin: https://"+g.addr, "X-Forwarded-Proto: https")
		// A page has to read a token to put it into a header, so that one is proof enough.
		passes("with a header, from a stranger", method, header, "Origin: https://evil.example.com")
		passes("with a cookie and the same token in a header", method, cookie, header, "Origin: https://evil.example.com")
	}
	for _, method := range []string{"GET", "OPTIONS", "TRACE"} {
		passes("without an Origin", method, cookie)
		passes("from a stranger", method, cookie, "Origin: https://evil.example.com")
	}
	refuses("an invalid token from a stranger", "POST", "Cookie: chat="+sign(newSecret(), valid("mark")))
}

// handshake asks for a WebSocket as a browser does.
func (g *gateway) handshake(lines ...string) answer {
	g.t.Helper()
	return g.raw("GET /socket HTTP/1.1\r\nHost: " + g.addr + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n")
}

// No browser asks anybody before it opens a WebSocket to another origin: the page of evil.example.com opens one with the
// contact's cookie and then talks and reads as the contact (cross-site WebSocket hijacking, Schneider 2013; CWE-1385).
func TestCrossSiteWebSocketHijacking(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	token := sign(m.key, valid("mark"))
	sources := map[string]string{"cookie": "Cookie: chat=" + token, "header": bearer(token), "subprotocol": "Sec-WebSocket-Protocol: chat.v1, jwt, " + token}
	for _, list := range []string{"", "https://www.example.com"} {
		g := start(t, up, allowing(m, list), originSite)
		for source, line := range sources {
			check := func(name string, want int, lines ...string) {
				t.Helper()
				a := g.handshake(append(lines, line)...)
				if a.status != want || want == 403 && a.code(t) != "origin_not_allowed" {
					t.Errorf("with the list %q, a token in the %s, %s: got %d %s, want %d", list, source, name, a.status, a.body, want)
				}
				if seen := len(up.take()); seen != map[int]int{101: 1}[want] {
					t.Errorf("with the list %q, a token in the %s, %s: %d requests reached the upstream", list, source, name, seen)
				}
			}
			refusedWithoutProof := map[bool]int{true: 403, false: 101}[source == "cookie"]
			refusedIfListed := map[bool]int{true: 403, false: 101}[source == "cookie" || list != ""]
			check("from the gateway's own pages", 101, "Origin: "+g.url)
			check("from a program, which sends no Origin", refusedWithoutProof)
			for _, origin := range strangers {
				check(fmt.Sprintf("from %q", origin), refusedIfListed, "Origin: "+origin)
			}
			check("from a listed page", map[bool]int{true: 101, false: refusedIfListed}[list != ""], "Origin: https://www.example.com")
			check("from two origins", refusedIfListed, "Origin: "+g.url, "Origin: https://evil.example.com")
		}
	}
}

// The same over HTTP/3, where a handshake is a CONNECT (RFC 9220).
func TestCrossSiteWebSocketHijackingOverHTTP3(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	g := startTLS(t, up, allowing(m, "https://www.example.com"), originSite)
	g.waitForTLS()
	for origin, want := range map[string]int{"https://www.example.com": 101, g.url: 101, "https://evil.example.com": 403, "": 403, "null": 403} {
		headers := []string{"Cookie: chat=" + sign(m.key, valid("mark"))}
		if origin != "" {
			headers = append(headers, "Origin: "+origin)
		}
		s, status := socketsOverHTTP3.open(g, "/socket", headers...)
		s.close()
		if status != want {
			t.Errorf("from %q: got %d, want %d", origin, status, want)
		}
		if seen := len(up.take()); seen != map[int]int{101: 1}[want] {
			t.Errorf("from %q: %d requests reached the upstream", origin, seen)
		}
	}
}

// The widget must be able to read why it was refused, or it cannot fetch a fresh token. Pages of other origins read
// nothing, and an answer for one origin is never kept for another.
func TestOwnPagesCanReadRefusals(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	for name, errorRoute := range map[string]string{"our answer": "", "an error route": "handle_errors {\n respond sorry 401\n}"} {
		g := start(t, up, allowing(m, "https://www.example.com https://app.example.com:8443"), originSite+errorRoute)
		for origin, allowed := range map[string]bool{"https://www.example.com": true, "https://app.example.com:8443": true, "https://evil.example.com": false, "null": false, "": false, "https://www.example.com.evil.com": false, g.url: false} {
			var lines []string
			if origin != "" {
				lines = []string{"Origin: " + origin}
			}
			a := g.get("/", lines...)
			want := map[string]string{"Access-Control-Allow-Origin": "", "Access-Control-Allow-Credentials": "", "Access-Control-Expose-Headers": "", "Vary": "Origin"}
			if allowed {
				want = map[string]string{"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true", "Access-Control-Expose-Headers": "WWW-Authenticate, Retry-After", "Vary": "Origin"}
			}
			for header, value := range want {
				if got := a.header.Get(header); a.status != 401 || got != value {
					t.Errorf("%s, from %q: got %d and %s: %q, want %q", name, origin, a.status, header, got, value)
				}
			}
		}
		up.none(t)
		// What passes is the backend's to answer: two Access-Control-Allow-Origin would be none.
		a := g.get("/", "Origin: https://www.example.com", bearer(sign(m.key, valid("mark"))))
		if got := a.header.Get("Access-Control-Allow-Origin"); a.status != 200 || got != "" {
			t.Errorf("%s: a valid request is answered with %d and Access-Control-Allow-Origin: %q", name, a.status, got)
		}
		up.take()
	}
}
