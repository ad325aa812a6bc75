package integration

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// Unicode folds "ſ" (U+017F) to "s" and the Kelvin sign (U+212A) to "k". Programs behind the gateway do not, or do it
// elsewhere: where the gateway takes such a word for one of a protocol, and the next program does not, the two disagree about
// what the request is.
func TestProtocolKeywordsAreASCII(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	messengers := strings.ReplaceAll(m.messengers, "messenger support {", "messenger kiosk {\n allowed_origin https://kiosk.example.com")
	g := start(t, up, messengers, `
		handle /host/* {
			messenger_auth {labels.2}
			reverse_proxy UPSTREAM
		}
		handle /cookie/* {
			messenger_auth kiosk {
				token_from cookie chat
			}
			reverse_proxy UPSTREAM
		}
		handle /scheme/* {
			messenger_auth kiosk {
				token_from header Authorization Kiosk
			}
			reverse_proxy UPSTREAM
		}
		handle {
			messenger_auth {path.0}
			reverse_proxy UPSTREAM
		}
	`)
	token := sign(m.key, valid("mark"))
	t.Run("a messenger's name in the path", func(t *testing.T) {
		for path, want := range map[string]int{"/kiosk/a": 200, "/KIOSK/a": 200, "/%E2%84%AAiosk/a": 404, "/kio%C5%BFk/a": 404} {
			if a := g.get(path, bearer(token)); a.status != want {
				t.Errorf("%s: got %d %s, want %d", path, a.status, a.body, want)
			}
		}
		up.take()
	})
	t.Run("an origin", func(t *testing.T) {
		for origin, want := range map[string]int{
			"https://kiosk.example.com": 200, "https://KIOSK.example.com": 200,
			"https://\u212aiosk.example.com": 403, "https://kio\u017fk.example.com": 403, "http\u017f://kiosk.example.com": 403,
			"https://%E2%84%AAiosk.example.com": 403,
		} {
			a := g.do(http.MethodPost, "/cookie/a", "Cookie: chat="+token, "Origin: "+origin)
			if a.status != want {
				t.Errorf("%s: got %d %s, want %d", origin, a.status, a.body, want)
			}
			if got := a.header.Get("Access-Control-Allow-Origin"); want != 200 && got != "" {
				t.Errorf("%s: the refusal may be read by %q", origin, got)
			}
		}
		up.take()
	})
	t.Run("a scheme", func(t *testing.T) {
		for scheme, want := range map[string]string{"Kiosk": "200", "kIOSK": "200", "\u212aiosk": "401 token_missing", "Kio\u017fk": "401 token_missing", "\u212aio": "401 token_missing"} {
			a := g.get("/scheme/a", "Authorization: "+scheme+" "+token)
			got := fmt.Sprint(a.status)
			if a.status != 200 {
				got += " " + a.code(t)
			}
			if got != want {
				t.Errorf("%s: got %s, want %s", scheme, got, want)
			}
		}
		up.take()
	})
	t.Run("an option of Connection", func(t *testing.T) {
		a := g.raw("GET /kiosk/a HTTP/1.1\r\nHost: " + g.addr + "\r\n" + bearer(token) + "\r\nConnection: \u212aeep-alive, clo\u017fe\r\nConnection: close\r\n\r\n")
		if r := up.one(t); a.status != 200 || r.header.Get("X-Contact-Identity") != "mark" || len(r.header["Connection"]) > 0 {
			t.Errorf("got %d, the upstream saw %v", a.status, r.header)
		}
	})
}

// A page of another host of the same site cannot set a cookie named __Host-chat: browsers see to that. It can set one with a
// blank of Unicode in front, and a server that trims such blanks reads it as the protected one: the contact then chats under
// the identity of the attacker, whose token it is.
func TestOnlyTheExactCookieNameIsAccepted(t *testing.T) {
	m, up := methods(t)[0], newUpstream(t)
	g := start(t, up, m.messengers, "messenger_auth support {\n token_from cookie __Host-chat\n mode optional\n}\nreverse_proxy UPSTREAM")
	mark, eve := sign(m.key, valid("mark")), sign(m.key, valid("eve"))
	for _, blank := range []string{"\u0085", "\u00a0", "\u1680", "\u2000", "\u2003", "\u2028", "\u202f", "\u205f", "\u3000", "\xa0", "\x85", "$Version=1,"} {
		for name, cookie := range map[string]string{"alone": "", "behind another": "a=b; ", "behind the protected one": "__Host-chat=" + mark + "; "} {
			a := g.get("/", "Cookie: "+cookie+blank+"__Host-chat="+eve)
			want := ""
			if name == "behind the protected one" {
				want = "mark"
			}
			if got := up.one(t).header.Get("X-Contact-Identity"); a.status != 200 || got != want {
				t.Errorf("%q in front, %s: got %d, the upstream saw %q, want %q", blank, name, a.status, got, want)
			}
		}
	}
	for _, cookie := range []string{"__Host-chat=", "a=b;__Host-chat=", "a=b; \t __Host-chat="} {
		g.get("/", "Cookie: "+cookie+mark)
		if r := up.one(t); r.header.Get("X-Contact-Identity") != "mark" || strings.Contains(strings.Join(r.header["Cookie"], ";"), "__Host-chat") {
			t.Errorf("%q: the upstream saw %v", cookie, r.header)
		}
	}
}
