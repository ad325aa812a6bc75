package integration

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A lateStream is a backend that answers with an event stream only when it is told to, and goes on with it until the
// client's side ends.
type lateStream struct {
	*upstream
	arrived chan string // the path of each request
	begin   chan struct{}
	gone    chan struct{}
}

func newLateStream(t *testing.T) *lateStream {
	b := &lateStream{upstream: &upstream{}, arrived: make(chan string, 100), begin: make(chan struct{}), gone: make(chan struct{}, 100)}
	b.listen(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Late") == "" {
			return
		}
		b.arrived <- r.URL.Path
		flush := http.NewResponseController(w).Flush
		if r.Header.Get("X-Late") == "after a hint" {
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
		}
		select {
		case <-b.begin:
		case <-r.Context().Done():
			return
		}
		w.Header().Set("Content-Type", r.Header.Get("X-Type"))
		_ = flush()
		_, _ = io.WriteString(w, "data: secret\n\n")
		_ = flush()
		<-r.Context().Done()
		b.gone <- struct{}{}
	})
	return b
}

// late opens a stream of which the backend has seen no more than the request when late returns.
func (b *lateStream) late(t *testing.T, g *gateway, v version, path string, headers ...string) (body func() (string, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Late", "yes")
	r.Header.Set("X-Type", "text/event-stream")
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	type result struct {
		text string
		err  error
	}
	done, first := make(chan result, 1), make(chan string, 1)
	go func() {
		resp, err := v.client.Do(r)
		if err != nil {
			done <- result{"", err}
			return
		}
		defer resp.Body.Close()
		start := make([]byte, 10_000)
		n, err := resp.Body.Read(start)
		first <- string(start[:n])
		rest := []byte(nil)
		if err == nil {
			rest, err = io.ReadAll(resp.Body)
		}
		if err == io.EOF {
			err = nil
		}
		done <- result{string(start[:n]) + string(rest), err}
	}()
	select {
	case <-b.arrived:
	case d := <-done:
		t.Fatalf("%s: the stream was over before it reached the backend: %q, %v", path, d.text, d.err)
	case <-time.After(patience):
		t.Fatalf("%s: the request does not reach the backend", path)
	}
	return func() (string, error) {
		b.begin <- struct{}{}
		select {
		case text := <-first:
			if strings.HasPrefix(text, "data: secret") {
				return text, nil // it goes on
			}
			d := <-done
			return d.text, d.err
		case d := <-done:
			return d.text, d.err
		}
	}
}

const revokedEvent = "event: auth\ndata: token_revoked\n\n"

// What a token may be for is taken away while the backend takes its time to answer. That the answer is an event stream, no
// request header has to say, and without exp and max_session nothing else would ever end it. The messenger that is active
// when the stream begins decides, and not the one from the start of the request.
func TestEventStreamThatBeginsAfterTheChange(t *testing.T) {
	generatedFor := func(o *operator, name string, settings map[string]any) sharedToken {
		o.put(name, settings)
		return o.generate(name)
	}
	settings := map[string]any{"identity_key": "identity", "shared_token": map[string]any{}, "max_session": 0}
	far := `"issued_before": "2100-01-01T00:00:00Z"}`
	cases := []struct {
		name   string
		change func(g *gateway, o *operator, m string, s sharedToken, token string)
		stays  bool
	}{
		{"deleted", func(_ *gateway, o *operator, m string, _ sharedToken, _ string) {
			o.want(200, "DELETE", "messengers/"+m, nil)
		}, false},
		{"deleted and made anew", func(_ *gateway, o *operator, m string, _ sharedToken, _ string) {
			o.want(200, "DELETE", "messengers/"+m, nil)
			generatedFor(o, m, settings)
		}, false},
		{"reset, closing", func(_ *gateway, o *operator, m string, _ sharedToken, _ string) {
			o.makeToken("reset", m, map[string]any{"close_connections": true})
		}, false},
		{"key revoked, closing", func(_ *gateway, o *operator, m string, s sharedToken, _ string) {
			o.want(200, "POST", "messengers/"+m+"/tokens/revoke", map[string]any{"kid": s.KID, "close_connections": true})
		}, false},
		{"revoked by jti", func(_ *gateway, o *operator, m string, _ sharedToken, _ string) {
			o.want(200, "POST", "messengers/"+m+"/revocations", `{"jti": "a"}`)
		}, false},
		{"revoked by contact", func(_ *gateway, o *operator, m string, _ sharedToken, _ string) {
			o.want(200, "POST", "messengers/"+m+"/revocations", `{"identity": "mark", `+far)
		}, false},
		{"all revoked", func(_ *gateway, o *operator, m string, _ sharedToken, _ string) {
			o.want(200, "POST", "messengers/"+m+"/revocations", `{"all": true, `+far)
		}, false},
		{"settings changed, then revoked", func(_ *gateway, o *operator, m string, _ sharedToken, _ string) {
			changed := map[string]any{"identity_key": "identity", "shared_token": map[string]any{}, "max_session": 0, "clock_skew": int64(time.Second)}
			o.put(m, changed)
			o.want(200, "POST", "messengers/"+m+"/revocations", `{"jti": "a"}`)
		}, false},
		{"logged out", func(g *gateway, _ *operator, m string, _ sharedToken, token string) {
			if a := g.send(g.versions()[0].client, "POST", "/"+m+"/logout", token); a.status != 204 {
				g.t.Errorf("the logout: got %d %s", a.status, a.body)
			}
		}, false},
		{"rotated", func(_ *gateway, o *operator, m string, _ sharedToken, _ string) {
			o.makeToken("rotate", m, map[string]any{"overlap": "0s"})
		}, true},
		{"reset, not closing", func(_ *gateway, o *operator, m string, _ sharedToken, _ string) {
			o.makeToken("reset", m, map[string]any{})
		}, true},
		{"settings changed", func(_ *gateway, o *operator, m string, _ sharedToken, _ string) {
			o.put(m, map[string]any{"identity_key": "identity", "shared_token": map[string]any{}, "max_session": 0, "clock_skew": int64(time.Second)})
		}, true},
		{"another contact revoked", func(_ *gateway, o *operator, m string, _ sharedToken, _ string) {
			o.want(200, "POST", "messengers/"+m+"/revocations", `{"identity": "zoe", `+far)
		}, true},
	}
	b := newLateStream(t)
	g := newGateway(t, b.upstream, "https://")
	g.unlogged = true
	g.load("", lateSite(len(cases)))
	o := g.operator()
	for vi, v := range g.versions() {
		for i, test := range cases {
			t.Run(v.name+", "+test.name, func(t *testing.T) {
				m := fmt.Sprint("m", i)
				if vi > 0 {
					_, _ = o.send(http.MethodDelete, "messengers/"+m, nil)
				}
				s := generatedFor(o, m, settings)
				token := bearer(sign(s.Token, claims{"identity": "mark", "jti": "a"}))
				kinds := []string{"X-Type: text/event-stream", "X-Type: Text/Event-Stream;Charset=utf-8", "X-Type: text/plain, text/event-stream"}
				headers := []string{token, kinds[i%len(kinds)], "Accept: " + []string{"*/*", acceptsMore[0], "text/event-stream"}[(i+vi)%3]}
				if i%2 == 0 && v.name != "HTTP/3" {
					headers = append(headers, "X-Late: after a hint")
				}
				body := b.late(t, g, v, "/"+m+"/events", headers...)
				test.change(g, o, m, s, token)
				text, err := body()
				switch {
				case test.stays && !strings.HasPrefix(text, "data: secret"):
					t.Errorf("it ends with %q, %v", text, err)
				case test.stays:
					// Nothing but a command ends it, and the operator sees it and can.
					if a := o.want(200, "POST", "connections/end", map[string]any{"messenger": m}); !strings.Contains(a.body, `{"ended":1}`) {
						t.Errorf("ending it by command: %s", a.body)
					}
				case err != nil || text != revokedEvent:
					t.Errorf("the client got %q, %v", text, err)
				}
				select {
				case <-b.gone:
				case <-time.After(patience):
					t.Error("the backend's side goes on")
				}
				eventually(t, "no connection is counted", func() bool { return g.connections().Open == 0 })
			})
		}
	}
}

// lateSite has a route for each of n stored messengers, with its logout.
func lateSite(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "handle /m%d/* {\n messenger_auth {path.0} {\n  logout_path /m%d/logout\n }\n reverse_proxy UPSTREAM\n}\n", i, i)
	}
	return b.String()
}

// The configuration changes while the backend takes its time: it leaves the messenger out, or has no messengers at all, or
// has the same ones. And a key server drops the key, or is distrusted.
func TestEventStreamThatBeginsAfterAReload(t *testing.T) {
	secret := newSecret()
	key := write(t, "secret", []byte(secret))
	messenger := func(name string) string {
		return "messenger " + name + " {\n identity_key identity\n max_session 0\n shared_token {file." + key + "}\n}\n"
	}
	site := func(name string) string { return "messenger_auth " + name + "\nreverse_proxy UPSTREAM" }
	for name, test := range map[string]struct {
		global, site string
		stays        bool
	}{
		"without the messenger":  {messenger("sales"), site("sales"), false},
		"without any messengers": {"", "reverse_proxy UPSTREAM", false},
		"with the messenger":     {messenger("support") + messenger("sales"), site("support"), true},
	} {
		for _, accept := range []string{"*/*", "text/event-stream"} {
			t.Run(name+", accepting "+accept, func(t *testing.T) {
				b := newLateStream(t)
				g := start(t, b.upstream, messenger("support"), site("support"))
				g.unlogged = true
				token := bearer(sign(secret, claims{"identity": "mark"}))
				body := b.late(t, g, version{"HTTP/1.1", plainClient}, "/events", token, "Accept: "+accept)
				g.load(test.global, test.site) // while the request waits for its answer
				text, err := body()
				if test.stays {
					if !strings.HasPrefix(text, "data: secret") {
						t.Errorf("it ends with %q, %v", text, err)
					}
					g.operator().want(200, "POST", "connections/end", map[string]any{"messenger": "support"})
				} else if err != nil || text != revokedEvent {
					t.Errorf("the client got %q, %v", text, err)
				}
				<-b.gone
			})
		}
	}
	t.Run("a key set", func(t *testing.T) {
		for name, change := range map[string]func(g *gateway, keys *keyServer){
			"that drops the key": func(g *gateway, keys *keyServer) {
				keys.publish(publicJWK(rsaKey(1), "b"))
				if status := g.refresh("support"); status != 200 {
					t.Errorf("refreshing: got %d", status)
				}
			},
			"that is distrusted": func(g *gateway, keys *keyServer) {
				keys.behave(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
				if status, body := g.admin(http.MethodPost, "messengers/support/refresh", `{"distrust":true}`); status != 502 {
					t.Errorf("refreshing: got %d %s", status, body)
				}
			},
			"with another key more": func(g *gateway, keys *keyServer) {
				keys.publish(publicJWK(rsaKey(0), "a"), publicJWK(rsaKey(1), "b"))
				if status := g.refresh("support"); status != 200 {
					t.Errorf("refreshing: got %d", status)
				}
			},
		} {
			t.Run(name, func(t *testing.T) {
				b := newLateStream(t)
				keys := newKeyServer(t, publicJWK(rsaKey(0), "a"))
				g := start(t, b.upstream, jwksMessenger(keys.url), "messenger_auth support\nreverse_proxy UPSTREAM")
				body := b.late(t, g, version{"HTTP/1.1", plainClient}, "/events", bearer(signWithKID(rsaKey(0), "a", forChat("mark"))))
				change(g, keys)
				text, err := body()
				if stays := name == "with another key more"; stays != strings.HasPrefix(text, "data: secret") || !stays && (err != nil || text != revokedEvent) {
					t.Errorf("the client got %q, %v", text, err)
				}
				g.operator().want(200, "POST", "connections/end", map[string]any{"messenger": "support"})
				<-b.gone
			})
		}
	})
}

// Without exp and with max_session 0 nothing but a command or a revocation ends an event stream, which is seen and reached
// whatever its request accepted, and whichever handler answers.
func TestEveryEventStreamIsTracked(t *testing.T) {
	messengers, secret := strict(t, "max_session 0")
	eachVersion(t, messengers, guardedRoutes, func(t *testing.T, g *gateway, v version) {
		token := bearer(sign(secret, claims{"identity": "mark", "jti": "a"}))
		for _, path := range []string{"/plain/quiet", "/encode/quiet", "/encode-first/quiet", "/header/events", "/plain/events"} {
			for _, accept := range []string{"*/*", "text/event-stream", "text/html"} {
				resp := g.stream(v, path, token, "Accept: "+accept, "Accept-Encoding: identity")
				eventually(t, "it is counted", func() bool { return g.connections().Open == 1 })
				if status, body := g.admin(http.MethodPost, "connections/end", `{"messenger":"support","identity":"mark"}`); status != 200 || body != `{"ended":1}` {
					t.Errorf("%s accepting %s: got %d %s", path, accept, status, body)
				}
				if body, err := io.ReadAll(resp.Body); err != nil || !strings.HasSuffix(string(body), revokedEvent) {
					t.Errorf("%s accepting %s: it ends with %q, %v", path, accept, body[max(0, len(body)-60):], err)
				}
				eventually(t, "it is not counted any more", func() bool { return g.connections().Open == 0 })
			}
		}
	})
}
