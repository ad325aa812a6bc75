package integration

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A sharedCache is a cache as a site has it in front of its gateway: it stores what RFC 9111 lets a shared cache store, and
// where the answer says nothing, it chooses the lifetime itself, as Varnish and nginx do when told to.
type sharedCache struct {
	mu     sync.Mutex
	stored map[string]answer
}

func (c *sharedCache) get(g *gateway, path string, headers ...string) answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a, hit := c.stored[path]; hit {
		return a
	}
	a := g.get(path, headers...)
	authorized := slices.ContainsFunc(headers, func(line string) bool { return strings.HasPrefix(line, "Authorization:") })
	control := strings.Join(a.header["Cache-Control"], ",")
	if authorized && !strings.Contains(control, "public") || strings.Contains(control, "private") || strings.Contains(control, "no-store") {
		return a
	}
	c.stored[path] = a
	return a
}

// newTellingUpstream runs a backend that greets the contact of each request, and says about caching what the request's query
// has: ?Cache-Control=…&Expires=…; ?status=… gives the status, ?location=… the answer to a handshake.
func newTellingUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{}
	u.listen(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			u.serve(w, r)
			return
		}
		status := http.StatusOK
		for name, values := range r.URL.Query() {
			switch name {
			case "status":
				_, _ = fmt.Sscan(values[0], &status)
			case "hints":
				w.Header().Set("Link", "</a.css>; rel=preload")
				w.WriteHeader(http.StatusEarlyHints)
			default:
				w.Header()[name] = values
			}
		}
		w.WriteHeader(status)
		if status != http.StatusNotModified {
			_, _ = fmt.Fprintf(w, "hello %q", r.Header.Get("X-Contact-Identity"))
		}
	})
	return u
}

// The page of a site is cached by a shared cache, which sees no Authorization: the token is in a cookie. The backend has
// never heard of the token and says nothing about caching. What it wrote for mark must not be given to eve.
func TestSharedCachesDoNotMixContacts(t *testing.T) {
	m := methods(t)[0]
	for name, site := range map[string]string{
		"proxied":                      "reverse_proxy UPSTREAM",
		"written by Caddy":             "respond `hello \"{http.auth.user.id}\"`",
		"an error":                     "error 404",
		"an error with an error route": "error 404\nhandle_errors {\n respond `hello \"{http.auth.user.id}\"` 404\n}",
		"an error route that proxies":  "error 410\nhandle_errors {\n reverse_proxy UPSTREAM\n}",
	} {
		t.Run(name, func(t *testing.T) {
			up := newTellingUpstream(t)
			handled, routes, _ := strings.Cut(site, "\nhandle_errors")
			if routes != "" {
				routes = "\nhandle_errors" + routes
			}
			g := start(t, up, m.messengers, "route {\n messenger_auth support {\n token_from cookie chat\n mode optional\n }\n"+handled+"\n}"+routes)
			cache := &sharedCache{stored: make(map[string]answer)}
			for _, path := range []string{"/a", "/b"} {
				for _, contact := range []string{"mark", "eve"} {
					a := cache.get(g, path, "Cookie: chat="+sign(m.key, valid(contact)))
					if other := map[string]string{"mark": "eve", "eve": "mark"}[contact]; strings.Contains(a.body, other) {
						t.Errorf("%s was given %q", contact, a.body)
					}
					if got := a.header["Cache-Control"]; !slices.Equal(got, []string{"private"}) {
						t.Errorf("%s: Cache-Control is %q, want private", contact, got)
					}
				}
			}
			if a := cache.get(g, "/c"); strings.Contains(strings.Join(a.header["Cache-Control"], ","), "private") {
				t.Errorf("an answer to nobody is private: %q", a.header)
			}
		})
	}
}

// What is said about caching, by the backend or by the site, stays said; every other answer to a contact is private, whatever
// it is. Answers to requests without a token are those of the backend.
func TestAnswersToContactsArePrivate(t *testing.T) {
	m, up := methods(t)[0], newTellingUpstream(t)
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "file.txt"), []byte("a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	messengers := m.messengers + "\n" + strings.Replace(m.messengers, "messenger support {", "messenger endless {\n max_session 0", 1)
	g := start(t, up, messengers, `
		header /said/* Cache-Control "max-age=5"
		header /replaced/* >Cache-Control "no-store"
		encode gzip
		handle /optional/* {
			messenger_auth support {
				mode optional
			}
			reverse_proxy UPSTREAM
		}
		handle /report/* {
			messenger_auth support {
				mode report
			}
			reverse_proxy UPSTREAM
		}
		handle /off/* {
			messenger_auth support {
				mode off
			}
			reverse_proxy UPSTREAM
		}
		handle /forwarded/* {
			messenger_auth support {
				forward_token
			}
			reverse_proxy UPSTREAM
		}
		handle /endless/* {
			messenger_auth endless
			reverse_proxy UPSTREAM
		}
		handle /twice/* {
			route {
				messenger_auth support {
					mode report
				}
				messenger_auth support
				reverse_proxy UPSTREAM
			}
		}
		handle /file.txt {
			messenger_auth support
			root * `+root+`
			file_server
		}
		handle /empty/* {
			messenger_auth support
		}
		handle {
			messenger_auth support
			reverse_proxy UPSTREAM
		}
	`)
	expired := valid("mark")
	expired["exp"] = 1
	endless := claims{"identity": "mark"}
	token, bad, never := bearer(sign(m.key, valid("mark"))), bearer(sign(m.key, expired)), bearer(sign(m.key, endless))
	preflight := []string{"Origin: https://www.example.com", "Access-Control-Request-Method: POST"}
	for _, test := range []struct {
		method, path string
		headers      []string
		want         []string
	}{
		{"GET", "/a", []string{token}, []string{"private"}},
		{"POST", "/a", []string{token}, []string{"private"}},
		{"HEAD", "/a", []string{token}, []string{"private"}},
		{"GET", "/a?status=304&Etag=%22a%22", []string{token, `If-None-Match: "a"`}, []string{"private"}},
		{"GET", "/a?status=404", []string{token}, []string{"private"}},
		{"GET", "/a?status=500", []string{token}, []string{"private"}},
		{"GET", "/a?status=301&Location=/b", []string{token}, []string{"private"}},
		{"GET", "/a?Set-Cookie=a%3Db", []string{token}, []string{"private"}},
		{"GET", "/a?Pragma=something", []string{token}, []string{"private"}},
		{"GET", "/a?Surrogate-Control=max-age%3D60&Vary=Cookie", []string{token}, []string{"private"}},
		{"GET", "/a?Content-Type=text/event-stream", []string{token, "Accept: text/event-stream"}, []string{"private"}},
		{"GET", "/a?Content-Type=text/event-stream", []string{token}, []string{"private"}},
		{"GET", "/a?Content-Type=text/plain", []string{token, "Accept-Encoding: gzip"}, []string{"private"}},
		{"GET", "/a?Cache-Control=", []string{token}, []string{"private"}},
		{"GET", "/a?Cache-Control=public,max-age%3D60", []string{token}, []string{"public,max-age=60"}},
		{"GET", "/a?Cache-Control=no-store", []string{token}, []string{"no-store"}},
		{"GET", "/a?Cache-Control=no-cache&Cache-Control=max-age%3D0", []string{token}, []string{"no-cache", "max-age=0"}},
		{"GET", "/a?Cache-Control=no-transform", []string{token}, []string{"no-transform", "private"}}, // of which none says who may store it
		{"GET", "/a?Cache-Control=immutable&Cache-Control=stale-while-revalidate%3D60,x", []string{token}, []string{"immutable", "stale-while-revalidate=60,x", "private"}},
		{"GET", "/a?Cache-Control=no-transform&Expires=0", []string{token}, []string{"no-transform"}},
		{"GET", "/a?Cache-Control=no-transform,%20Max-Age%3D60", []string{token}, []string{"no-transform, Max-Age=60"}},
		{"GET", "/a?Cache-Control=must-revalidate", []string{token}, []string{"must-revalidate"}},
		{"GET", "/a?Expires=0", []string{token}, nil},
		{"GET", "/a?Expires=Thu,%2001%20Jan%202060%2000:00:00%20GMT", []string{token}, nil},
		{"GET", "/file.txt", []string{token}, []string{"private"}},
		{"HEAD", "/file.txt", []string{token}, []string{"private"}},
		{"GET", "/file.txt", []string{token, "Range: bytes=0-1"}, []string{"private"}},
		{"GET", "/empty/a", []string{token}, []string{"private"}},
		{"GET", "/said/a", []string{token}, []string{"max-age=5"}},
		{"GET", "/replaced/a", []string{token}, []string{"no-store"}},
		{"GET", "/optional/a", []string{token}, []string{"private"}},
		{"GET", "/optional/a", nil, nil},
		{"GET", "/optional/a?Cache-Control=max-age%3D60", nil, []string{"max-age=60"}},
		{"GET", "/optional/a", []string{"Authorization: Basic YTpi"}, nil},
		{"GET", "/optional/a", []string{bad}, []string{"no-store"}},
		{"GET", "/report/a", []string{token}, []string{"private"}},
		{"GET", "/report/a", []string{bad}, []string{"private"}}, // its token was taken out as well
		{"GET", "/report/a", nil, nil},
		{"GET", "/off/a", []string{token}, nil},
		{"GET", "/forwarded/a", []string{token}, []string{"private"}},
		{"GET", "/endless/a", []string{never}, []string{"private"}},
		{"HEAD", "/endless/a", []string{never}, []string{"private"}},
		{"GET", "/twice/a", []string{token}, []string{"private"}},
		{"GET", "/a", nil, []string{"no-store"}},
		{"HEAD", "/a", []string{bad}, []string{"no-store"}},
		{"OPTIONS", "/a", preflight, nil},
	} {
		t.Run(fmt.Sprintf("%s %s with %d headers", test.method, test.path, len(test.headers)), func(t *testing.T) {
			a := g.do(test.method, test.path, test.headers...)
			if got := a.header["Cache-Control"]; !slices.Equal(got, test.want) {
				t.Errorf("status %d, Cache-Control %q, want %q", a.status, got, test.want)
			}
		})
	}

	t.Run("early hints", func(t *testing.T) {
		var hints []textproto.MIMEHeader
		trace := &httptrace.ClientTrace{Got1xxResponse: func(_ int, header textproto.MIMEHeader) error {
			hints = append(hints, header)
			return nil
		}}
		r, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, g.url+"/a?hints=1", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", strings.TrimPrefix(token, "Authorization: "))
		resp, err := plainClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got := resp.Header["Cache-Control"]; !slices.Equal(got, []string{"private"}) {
			t.Errorf("the answer behind them: Cache-Control %q, want private", got)
		}
		if len(hints) != 1 || len(hints[0]["Cache-Control"]) != 0 || hints[0].Get("Link") == "" {
			t.Errorf("the hints are %v", hints)
		}
	})
	t.Run("a WebSocket", func(t *testing.T) {
		a := g.raw("GET /report/a HTTP/1.1\r\nHost: " + g.addr + "\r\n" + token + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
		if got, found := a.header["Cache-Control"]; a.status != 101 || found {
			t.Errorf("got %d with Cache-Control %q, want 101 without", a.status, got)
		}
	})
}

// An answer that comes in pieces is private from its first byte, and comes in pieces still.
func TestPrivateAnswersAreNotBuffered(t *testing.T) {
	m := methods(t)[0]
	more := make(chan struct{})
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, "first\n")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-more:
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, "last\n")
	}))
	t.Cleanup(backend.Close)
	g := start(t, &upstream{addr: backend.Listener.Addr().String()}, m.messengers, "messenger_auth support {\n mode report\n}\nreverse_proxy UPSTREAM {\n flush_interval -1\n}")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url+"/a", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", strings.TrimPrefix(bearer(sign(m.key, valid("mark"))), "Authorization: "))
	resp, err := plainClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body := bufio.NewReader(resp.Body)
	if line, err := body.ReadString('\n'); line != "first\n" || err != nil {
		t.Errorf("got %q, %v", line, err)
	}
	close(more)
	if line, err := body.ReadString('\n'); line != "last\n" || err != nil || resp.Header.Get("Cache-Control") != "private" {
		t.Errorf("got %q, %v, Cache-Control %q", line, err, resp.Header["Cache-Control"])
	}
}
