package integration

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// A backend that never completes an event would keep its stream open for ever. From the cut on nothing of it reaches the
// client, the stream ends, and the backend's side with it.
func TestIncompleteEventEndsTheStream(t *testing.T) {
	if !alone(t) {
		return
	}
	messengers, secret := strict(t, "max_session 0")
	gone := make(chan struct{}, 100)
	up := &upstream{}
	up.listen(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: ")
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, strings.Repeat("x", 100)); err != nil {
				break
			}
			_ = http.NewResponseController(w).Flush()
			if strings.HasSuffix(r.URL.Path, "/then-silent") {
				<-r.Context().Done()
			}
			time.Sleep(5 * time.Millisecond)
		}
		gone <- struct{}{}
	})
	test := func(t *testing.T, g *gateway, v version) {
		var all sync.WaitGroup
		for _, path := range []string{"/plain/on", "/plain/then-silent", "/encode-first/on", "/header/on"} {
			for _, accept := range []string{"*/*", "text/event-stream"} {
				token, _ := lasting(secret, "mark", time.Second)
				resp := g.stream(v, path, token, "Accept: "+accept, "Accept-Encoding: identity")
				all.Go(func() {
					body, err := io.ReadAll(resp.Body)
					if err != nil || !strings.HasPrefix(string(body), "data: xx") || strings.Trim(string(body[6:]), "x") != "" {
						t.Errorf("%s, accepting %s: %v, and it ends with %q", path, accept, err, body[max(0, len(body)-60):])
					}
					select {
					case <-gone:
					case <-time.After(patience):
						t.Errorf("%s, accepting %s: the backend's side goes on", path, accept)
					}
				})
			}
		}
		all.Wait()
		eventually(t, "no connection is counted", func() bool { return g.connections().Open == 0 })
	}
	t.Run("HTTP/1.1", func(t *testing.T) {
		test(t, start(t, up, messengers, guardedRoutes), version{"HTTP/1.1", plainClient})
	})
	t.Run("over TLS", func(t *testing.T) {
		g := newGateway(t, up, "https://")
		g.unlogged = true
		g.load(messengers, guardedRoutes)
		for _, v := range g.versions() {
			t.Run(v.name, func(t *testing.T) { test(t, g, v) })
		}
	})
}

// A stubborn backend answers the handshake, and then does what its path says, whatever it is told: it never reads, or never
// closes. It notices the end of its side by nothing but that.
func newStubbornBackend(t *testing.T) (up *upstream, ended chan string) {
	up, ended = &upstream{}, make(chan string, 100)
	up.listen(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
		w.Header()["Sec-WebSocket-Accept"] = []string{acceptFor(r.Header.Get("Sec-Websocket-Key"))}
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			ended <- err.Error()
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		kind := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
		if kind != "never-reads" {
			go func() { _, _ = io.Copy(io.Discard, conn) }() // an end of the client's side is not the end
		}
		if kind == "half-closes" {
			_ = conn.(*net.TCPConn).CloseWrite()
		}
		for {
			if kind == "sends" {
				_, err = conn.Write(frameBytes(true, 2, false, make([]byte, 10_000)))
				time.Sleep(5 * time.Millisecond)
			} else {
				time.Sleep(100 * time.Millisecond)
				_, err = conn.Write(frameBytes(true, 9, false, nil)) // a ping, by which it notices
			}
			if err != nil && kind != "half-closes" {
				ended <- kind
				return
			}
			if kind == "half-closes" {
				if _, err := conn.Read(make([]byte, 1)); err != nil {
					ended <- kind
					return
				}
			}
		}
	})
	return up, ended
}

// Both sides of a WebSocket are closed soon after its end, whichever of them was closed by half, does not read, or does not
// stop sending; and what is not counted any more is not open any more.
func TestBothSidesOfAWebSocketAreClosed(t *testing.T) {
	if !alone(t) {
		return
	}
	messengers, secret := strict(t, "max_session 0")
	child, wait := overHTTP2(t)
	defer wait()
	for _, p := range protocols {
		if child != (p.name == "HTTP/2") {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			up, ended := newStubbornBackend(t)
			scheme := "http://"
			if p.tls {
				scheme = "https://"
			}
			g := newGateway(t, up, scheme)
			g.load(messengers, guardedSite)
			if p.tls {
				g.waitForTLS()
			}
			opened := 0
			for _, backend := range []string{"quiet", "sends", "never-reads", "half-closes"} {
				for _, client := range []string{"half-closed", "floods", "reads nothing"} {
					s, status := p.open(g, "/"+backend, bearer(sign(secret, claims{"identity": "mark"})))
					if status != 101 {
						t.Fatalf("%s, %s: got %d", backend, client, status)
					}
					opened++
					switch client {
					case "half-closed":
						if half, ok := s.writer.(interface{ CloseWrite() error }); ok {
							_ = half.CloseWrite()
						} else {
							_ = s.writer.(io.Closer).Close()
						}
						go func() { _, _ = io.Copy(io.Discard, s.reader) }()
					case "floods":
						go func() { _, _ = io.Copy(io.Discard, s.reader) }()
						go func() {
							for frame := frameBytes(true, 2, true, make([]byte, 50_000)); ; time.Sleep(5 * time.Millisecond) {
								if _, err := s.writer.Write(frame); err != nil {
									return
								}
							}
						}()
					}
				}
			}
			// Some may be over by now: a backend that closes by half ends its tunnel over HTTP/2 and 3.
			if status, body := g.admin(http.MethodPost, "connections/end", `{"messenger":"support"}`); status != 200 {
				t.Errorf("got %d %s", status, body)
			}
			for range opened {
				select {
				case <-ended:
				case <-time.After(patience):
					t.Fatal("a backend's side goes on")
				}
			}
			eventually(t, "all requests are over", func() bool { return strings.Count(g.logs(), `"msg":"handled request"`) == opened })
			if open := g.connections().Open; open != 0 {
				t.Errorf("%d are counted", open)
			}
		})
	}
}

// A token may say that it expires in the year 9999. That is no instant in the past, and no reason to end a chat.
func TestConnectionOfATokenThatExpiresInThousandsOfYears(t *testing.T) {
	for _, option := range []string{"max_session 0", "max_session 106751d", "max_session 0\n max_lifetime 106751d", "max_session 106751d\n clock_skew 5m"} {
		secret := newSecret()
		messengers := "messenger support {\n identity_key identity\n shared_token {file." + write(t, "secret", []byte(secret)) + "}\n" + option + "\n}"
		g := start(t, newChat(t).upstream, messengers, "messenger_auth support {\n logout_path /logout\n}\nreverse_proxy UPSTREAM")
		for _, exp := range []int64{9_223_372_036, 9_223_372_037, 9_300_000_000, 253_402_300_799} { // around the end of the year 2262's nanoseconds, and the last second of 9999
			if strings.Contains(option, "max_lifetime") && exp > 9_300_000_000 {
				continue
			}
			token := bearer(sign(secret, claims{"identity": "mark", "exp": exp, "iat": time.Now().Unix(), "jti": "a"}))
			s, status := protocols[0].open(g, "/echo", token)
			if status != 101 {
				t.Fatalf("%s, exp %d: got %d", option, exp, status)
			}
			s.lives(t, option)
			stream := g.stream(version{"HTTP/1.1", plainClient}, "/quiet", token)
			start := make([]byte, 100)
			if n, err := stream.Body.Read(start); err != nil || string(start[:n]) != "data: 0 of 0\n\n" {
				t.Errorf("%s, exp %d: the stream: %q, %v", option, exp, start[:n], err)
			}
			s.lives(t, option)
			// It is revoked like any other.
			if a := g.do("POST", "/logout", token); a.status != 204 {
				t.Errorf("%s, exp %d: the logout: got %d %s", option, exp, a.status, a.body)
			}
			if got := s.ended(); got != "4403 token_revoked" {
				t.Errorf("%s, exp %d: told %q", option, exp, got)
			}
			if a := g.get("/hello", token); a.status != 401 {
				t.Errorf("%s, exp %d: after its logout: got %d", option, exp, a.status)
			}
			g.operator().want(200, "DELETE", "messengers/support/revocations", `{"jti": "a"}`)
		}
		// A revocation that is to hold for ever, as far as JSON goes, and one of the farthest past.
		for _, before := range []string{"9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"} {
			a := g.operator().want(200, "POST", revocationsPath, `{"identity": "zoe", "issued_before": "`+before+`"}`)
			if a.body != `{"connections_ended":0}` && a.body != "{\"connections_ended\":0}\n" {
				t.Errorf("%s: %s", before, a.body)
			}
		}
		if a := g.get("/hello", bearer(sign(secret, claims{"identity": "zoe", "iat": time.Now().Unix(), "exp": time.Now().Unix() + 100}))); a.status != 401 {
			t.Errorf("%s: zoe gets %d", option, a.status)
		}
	}
}
