package integration

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

const guardedSite = "messenger_auth support\nreverse_proxy UPSTREAM"

// guardedRoutes has the guard among other handlers that stand between the client and the proxy.
const guardedRoutes = `
	handle /plain/* {
		messenger_auth support
		reverse_proxy UPSTREAM
	}
	handle /encode/* {
		encode
		messenger_auth support
		reverse_proxy UPSTREAM
	}
	handle /encode-first/* {
		route {
			encode
			messenger_auth support
			reverse_proxy UPSTREAM
		}
	}
	handle /header/* {
		header >X-Later 1
		messenger_auth support
		reverse_proxy UPSTREAM {
			flush_interval -1
		}
	}
`

var guardedPaths = []string{"/plain", "/encode", "/encode-first", "/header"}

// A WebSocket must not outlive the token that opened it. It ends with a close frame that says why, while the backend
// sends without a pause; no frame stands inside another; and the backend is told.
func TestWebSocketEndsWithItsToken(t *testing.T) {
	if !alone(t) {
		return
	}
	messengers, secret := strict(t, "")
	sites := map[string]string{"with access log": guardedRoutes, "without access log": guardedRoutes}
	if raced {
		delete(sites, "with access log")
	}
	turn := 0 // of the two sites of a protocol
	eachProtocol(t, sites, messengers, func(t *testing.T, p protocol, g *gateway, up *chat) {
		var all sync.WaitGroup
		opened := 0
		turn++
		for i, path := range guardedPaths {
			for _, kind := range []string{"/stream?after=2450ms", "/idle"} { // from then on without a pause, until long after the token
				if kind != "/idle" && (turn+i)%2 == 0 {
					continue // it is that of the other site: a few streams are all that two cores can send
				}
				token, end := lasting(secret, "mark", 2500*time.Millisecond) // for the handshake on a busy machine
				s, status := p.open(g, path+kind, token)
				if status != 101 {
					t.Errorf("%s: the handshake was answered with %d", path+kind, status)
					continue
				}
				opened++
				all.Go(func() {
					if got := s.ended(); got != "4401 token_expired" {
						t.Errorf("%s: the client was told %q", path+kind, got)
					}
					if late := time.Since(end); late < 0 || late > 10*time.Second {
						t.Errorf("it ended %v after its token", late)
					}
					s.close()
				})
			}
		}
		all.Wait()
		for range opened {
			if got := up.end(t); got != "4401 token_expired" {
				t.Errorf("a backend was told %q", got)
			}
		}
	})
}

// A client that never answers the close frame, or does not even read, is cut off, and the backend is told in its place.
// One that does not read keeps the gateway's writes waiting: it must not keep its connection by that, nor the backend's.
func TestClientThatDoesNotCooperateIsCutOff(t *testing.T) {
	if !alone(t) {
		return
	}
	messengers, secret := strict(t, "")
	eachProtocol(t, map[string]string{"plain": guardedSite}, messengers, func(t *testing.T, p protocol, g *gateway, up *chat) {
		token, end := lasting(secret, "mark", 2*time.Second) // for two handshakes
		silent, status := p.open(g, "/idle", token)
		_, another := p.open(g, "/stream", token) // which stops when all buffers are full
		if status != 101 || another != 101 {
			t.Fatalf("the handshakes were answered with %d and %d", status, another)
		}
		if got := silent.next().closing(); got != "4401 token_expired" {
			t.Errorf("the client was told %q", got)
		}
		for range 2 {
			if got := up.end(t); got != "4401 token_expired" {
				t.Errorf("the backend was told %q", got)
			}
		}
		if f, err := readFrame(silent.reader); err == nil {
			t.Errorf("another frame came: %+v", f)
		}
		eventually(t, "both requests are over", func() bool { return strings.Count(g.logs(), `"msg":"handled request"`) == 2 })
		if late := time.Since(end); late > 5*time.Second { // with 2 s it is on time; this leaves room for a busy machine
			t.Errorf("it was freed %v after its token", late)
		}
	})
}

// A reload with stream_close_delay keeps WebSockets open. Their ends come all the same.
func TestWebSocketEndsAfterAReload(t *testing.T) {
	if !alone(t) {
		return
	}
	messengers, secret := strict(t, "")
	site := "messenger_auth support\nreverse_proxy UPSTREAM {\nstream_close_delay 5m\n}"
	eachProtocol(t, map[string]string{"plain": site}, messengers, func(t *testing.T, p protocol, g *gateway, up *chat) {
		token, _ := lasting(secret, "mark", 5*time.Second) // in which the reload has to be over
		s, _ := p.open(g, "/echo", token)
		s.send(1, "before")
		if got := string(s.next().payload); got != "before" {
			t.Fatalf("got %q", got)
		}
		g.load(messengers, site+"\nheader X-Reloaded 1")
		s.send(1, "after")
		if got := string(s.next().payload); got != "after" {
			t.Fatalf("got %q", got)
		}
		if got := s.ended(); got != "4401 token_expired" {
			t.Errorf("the client was told %q", got)
		}
		if got := up.end(t); got != "4401 token_expired" {
			t.Errorf("the backend was told %q", got)
		}
	})
}

// max_session ends what no token ends.
func TestWebSocketEndsAtMaxSession(t *testing.T) {
	if !alone(t) {
		return
	}
	g, _, secret := startStrict(t, "max_session 1s", guardedSite)
	s, _ := protocols[0].open(g, "/stream?after=700ms", bearer(sign(secret, claims{"identity": "mark"})))
	if got := s.ended(); got != "4408 session_limit" {
		t.Errorf("the client was told %q", got)
	}
}

// In the mode report nothing is refused, and so nothing ends.
func TestReportModeClosesNoConnections(t *testing.T) {
	if !alone(t) {
		return
	}
	g, up, secret := startStrict(t, "mode report", guardedSite)
	token, end := lasting(secret, "mark", 500*time.Millisecond)
	s, _ := protocols[0].open(g, "/echo", token)
	time.Sleep(time.Until(end.Add(500 * time.Millisecond)))
	s.send(1, "still here")
	if got := string(s.next().payload); got != "still here" {
		t.Errorf("got %q", got)
	}
	s.send(8, string(closePayload(1000, "")))
	up.end(t)
	g.waitForLog(`"msg":"handled request"`) // Caddy counts bytes of a socket that is open when it stops in a race with itself
}

// A page cannot see how a handshake failed. With websocket_rejection close the gateway takes it, says why, and closes;
// the backend is not reached.
func TestRefusedHandshakeSaysWhy(t *testing.T) {
	if !alone(t) {
		return
	}
	messengers, secret := strict(t, "allowed_origin https://www.example.com")
	const options = "messenger_auth support {\nwebsocket_rejection close\ntoken_from header Authorization Bearer\ntoken_from websocket_protocol jwt\n}\nreverse_proxy UPSTREAM"
	sites := map[string]string{"plain": options, "with encode": "route {\nencode\n" + options + "\n}", "without access log": options}
	expired := sign(secret, claims{"identity": "mark", "exp": 1})
	eachProtocol(t, sites, messengers, func(t *testing.T, p protocol, g *gateway, up *chat) {
		for _, test := range []struct {
			headers        []string
			want, protocol string
		}{
			{nil, "4401 token_missing", ""},
			{[]string{bearer(expired)}, "4401 token_expired", ""},
			{[]string{bearer("x.y.z")}, "4401 token_malformed", ""},
			{[]string{bearer(sign(newSecret(), valid("mark")))}, "4401 signature_invalid", ""},
			{[]string{bearer(sign(secret, valid("mark"))), "Origin: https://evil.example"}, "4403 origin_not_allowed", ""},
			{[]string{"Sec-WebSocket-Protocol: jwt, " + expired}, "4401 token_expired", "jwt"},
			{[]string{"Sec-WebSocket-Protocol: chat.v1, jwt, " + expired}, "4401 token_expired", "chat.v1"},
			{[]string{"Sec-WebSocket-Protocol: chat.v1"}, "4401 token_missing", "chat.v1"},
			{[]string{"Sec-WebSocket-Protocol: " + expired}, "4401 token_missing", ""},
		} {
			s, status := p.open(g, "/echo", test.headers...)
			if status != 101 {
				t.Errorf("%s: the handshake was answered with %d", test.want, status)
				continue
			}
			if got := s.header.Get("Sec-Websocket-Protocol"); got != test.protocol {
				t.Errorf("%s: the subprotocol %q was selected, want %q", test.want, got, test.protocol)
			}
			if got := s.ended(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			s.close()
		}
		up.none(t)
		s, _ := p.open(g, "/echo", bearer(sign(secret, valid("mark"))))
		s.send(1, "hello")
		if got := string(s.next().payload); got != "hello" {
			t.Errorf("a valid token: got %q", got)
		}
	})
}

// What is no complete handshake cannot be taken, and is refused with a status.
func TestIncompleteHandshakeIsRefusedWithAStatus(t *testing.T) {
	messengers, _ := strict(t, "")
	g := start(t, newUpstream(t), messengers, "messenger_auth support {\nwebsocket_rejection close\n}\nreverse_proxy UPSTREAM")
	for _, lines := range []string{
		"Connection: Upgrade\r\nUpgrade: websocket\r\n",
		"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
		"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhl\r\n",
		"",
	} {
		if a := g.raw(fmt.Sprintf("GET / HTTP/1.1\r\nHost: %s\r\n%s\r\n", g.addr, lines)); a.status != 401 || a.code(t) != "token_missing" {
			t.Errorf("%q: got %d", lines, a.status)
		}
	}
}

// Compression uses reserved bits and turns payloads into other bytes. Both sides have it, with a common library, and the
// close code is what that library reports.
func TestCompressedWebSocketEndsWithItsToken(t *testing.T) {
	if !alone(t) {
		return
	}
	messengers, secret := strict(t, "")
	up := &upstream{}
	up.listen(t, func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionContextTakeover, CompressionThreshold: 1})
		if err != nil {
			return
		}
		defer conn.CloseNow()
		for i := 0; conn.Write(r.Context(), websocket.MessageText, []byte(strings.Repeat(fmt.Sprint(i, " "), 5000))) == nil; i++ {
		}
	})
	g := start(t, up, messengers, guardedSite)
	token, _ := lasting(secret, "mark", time.Second)
	conn, resp, err := websocket.Dial(t.Context(), g.url, &websocket.DialOptions{
		HTTPHeader:      http.Header{"Authorization": {strings.TrimPrefix(token, "Authorization: ")}},
		CompressionMode: websocket.CompressionContextTakeover,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if !strings.Contains(resp.Header.Get("Sec-Websocket-Extensions"), "permessage-deflate") {
		t.Fatal("nothing is compressed")
	}
	conn.SetReadLimit(1 << 20)
	for i := 0; ; i++ {
		_, message, err := conn.Read(t.Context())
		if err != nil {
			if got := new(websocket.CloseError); !errors.As(err, got) || got.Code != 4401 || got.Reason != "token_expired" || i == 0 {
				t.Errorf("after %d messages: %v", i, err)
			}
			return
		}
		if string(message) != strings.Repeat(fmt.Sprint(i, " "), 5000) {
			t.Fatalf("message %d is not as it was sent", i)
		}
	}
}

// Where the gateway could not decide, a page is told to try again later.
func TestUndecidedHandshakeIsClosedWithTryAgainLater(t *testing.T) {
	keys := newKeyServer(t)
	keys.behave(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	g := start(t, newUpstream(t), jwksMessenger(keys.url), "messenger_auth support {\nwebsocket_rejection close\n}\nreverse_proxy UPSTREAM")
	s, status := protocols[0].open(g, "/", bearer(signWithKID(rsaKey(0), "a", forChat("mark"))))
	if got := s.ended(); status != 101 || got != "1013 keys_unavailable" {
		t.Errorf("got %d, and %q", status, got)
	}
}
