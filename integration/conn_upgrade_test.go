package integration

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// Caddy tunnels every Upgrade that a backend accepts. Inside a tunnel of h2c, requests reach the backend that no gateway
// has seen, with any identity header they like (h2c smuggling, Bishop Fox 2020). Only a WebSocket may be opened.
func TestOnlyWebSocketsAreTunnelled(t *testing.T) {
	up, m := newUpstream(t), methods(t)[0]
	g := start(t, up, m.messengers, `
		handle /unmatched/* {
			@nothing path /nothing
			messenger_auth @nothing support
			reverse_proxy UPSTREAM
		}
		handle /off/* {
			messenger_auth support {
				mode off
			}
			reverse_proxy UPSTREAM
		}
		handle {
			messenger_auth support
			reverse_proxy UPSTREAM
		}
		handle_errors {
			reverse_proxy UPSTREAM
		}
	`)
	token := bearer(sign(m.key, valid("mark")))
	for _, lines := range []string{
		"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
		"Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
		"Connection: HTTP2-Settings\r\nHttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
		"Connection: upgrade\r\nUpgrade: anything\r\n",
		"Connection: upgrade\r\nUpgrade: TLS/1.2\r\n",
		"Connection: upgrade\r\nUpgrade: websocket, h2c\r\n",
		"Connection: upgrade\r\nUpgrade: h2c, websocket\r\n",
		"Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n",
		"Connection: upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n",
		"Connection: upgrade\r\nUpgrade: websocket/13\r\n",
		"Connection: upgrade\r\nUpgrade: web\u017focket\r\n", // "ſ" and the Kelvin sign are "s" and "k" to Unicode
		"Connection: upgrade\r\nUpgrade: webSoc\u212aet\r\n",
		"Connection: upgrade\r\nUpgrade: WEB\u017fOC\u212aET\r\n",
		"Connection: upgrade\r\nUpgrade: websocket\xa0\r\n",
		"Connection: upgrade\r\nUpgrade:\r\n",
	} {
		for _, path := range []string{"/a", "/off/a", "/unmatched/a", "/refused"} {
			t.Run(fmt.Sprintf("%s with %q", path, lines), func(t *testing.T) {
				credentials := token + "\r\n"
				if path == "/refused" {
					credentials = ""
				}
				a := g.raw("GET " + path + " HTTP/1.1\r\nHost: " + g.addr + "\r\n" + credentials + lines + "\r\n")
				if a.status != 200 {
					t.Errorf("got %d, want the answer to a plain request", a.status)
				}
				r := up.one(t)
				for _, name := range []string{"Upgrade", "Http2-Settings", "Connection"} {
					if got, found := r.header[name]; found {
						t.Errorf("the upstream saw %s: %q", name, got)
					}
				}
			})
		}
	}
	t.Run("a POST that asks for a WebSocket is a plain POST", func(t *testing.T) {
		a := g.raw("POST /a HTTP/1.1\r\nHost: " + g.addr + "\r\n" + token + "\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nhi")
		if r := up.one(t); a.status != 200 || r.header.Get("Upgrade") != "" || r.body != "hi" {
			t.Errorf("got %d, the upstream saw %v and %q", a.status, r.header, r.body)
		}
	})
}

// CONNECT opens a tunnel of raw bytes, past everything that looks at requests. The only one that is not refused opens a
// WebSocket over HTTP/2 or HTTP/3 (RFC 8441, RFC 9220).
func TestConnectIsRefused(t *testing.T) {
	m := methods(t)[0]
	token := bearer(sign(m.key, valid("mark")))
	for _, mode := range []string{"required", "optional", "report", "off"} {
		t.Run("HTTP/1.1, mode "+mode, func(t *testing.T) {
			up := newUpstream(t)
			g := start(t, up, m.messengers, "messenger_auth support {\n mode "+mode+"\n}\nreverse_proxy UPSTREAM")
			for _, target := range []string{g.addr, "/a"} {
				a := g.raw("CONNECT " + target + " HTTP/1.1\r\nHost: " + g.addr + "\r\n" + token + "\r\n\r\n")
				if a.status != 400 || a.code(t) != "protocol_not_allowed" {
					t.Errorf("CONNECT %s: got %d %s, want 400 protocol_not_allowed", target, a.status, a.body)
				}
			}
			up.none(t)
		})
	}
	up := newUpstream(t)
	g := startTLS(t, up, m.messengers, "messenger_auth support\nreverse_proxy UPSTREAM")
	for _, v := range g.versions() {
		protocols := []string{""}
		if v.name == "HTTP/3" {
			protocols = []string{"", "connect-udp", "WebSocket", "websocket2"}
		}
		for _, protocol := range protocols {
			t.Run(fmt.Sprintf("%s, :protocol %q", v.name, protocol), func(t *testing.T) {
				a := g.sendRequest(v.client, http.MethodConnect, "/", func(r *http.Request) {
					r.Header.Set("Authorization", strings.TrimPrefix(token, "Authorization: "))
					r.Body = io.NopCloser(strings.NewReader("GET / HTTP/1.1\r\n\r\n"))
					if protocol != "" {
						r.Proto = protocol
					}
				})
				if a.status != 400 || a.code(t) != "protocol_not_allowed" {
					t.Errorf("got %d %s, want 400 protocol_not_allowed", a.status, a.body)
				}
				up.none(t)
			})
		}
	}
}
