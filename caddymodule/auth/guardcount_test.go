package auth

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/upstream"
)

// A hijackable is a response that becomes a connection.
type hijackable struct{ *httptest.ResponseRecorder }

func (hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	near, far := net.Pipe()
	go func() {
		_, _ = io.Copy(io.Discard, far)
		_ = far.Close()
	}()
	return near, bufio.NewReadWriter(bufio.NewReader(near), bufio.NewWriter(near)), nil
}

// anyRequest returns a request of any kind, and whether it is a handshake.
func anyRequest(random *rand.Rand) (r *http.Request, handshake bool) {
	r = get()
	r.ProtoMajor = 1 + random.IntN(3)
	switch random.IntN(5) {
	case 0:
		r.Header.Set("Upgrade", "websocket")
		r.ProtoMajor = 1
		return r, true
	case 1:
		r.Method, r.ProtoMajor = http.MethodConnect, 2+random.IntN(2)
		return r, true
	case 2:
		r.Header.Set("Accept", eventStream)
	case 3:
		r.Method = http.MethodHead
	}
	return r, false
}

// anyBackend does a few of the things that handlers do with a response, in any order, and then returns, fails or panics.
func anyBackend(random *rand.Rand, messenger, identity string, w http.ResponseWriter) error {
	for range random.IntN(6) {
		switch random.IntN(7) {
		case 0:
			w.Header().Set("Content-Type", []string{eventStream, "application/x-ndjson", "text/plain"}[random.IntN(3)])
		case 1:
			w.WriteHeader([]int{100, 101, 103, 200, 204, 401, 502}[random.IntN(7)])
		case 2:
			_, _ = w.Write([]byte("data: 1\n\n"))
		case 3:
			_ = http.NewResponseController(w).Flush()
		case 4:
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_ = conn.Close()
			}
		case 5:
			w.Header().Set("Content-Length", "9")
		case 6:
			_, _ = registry.Connections.End(session.Filter{Messenger: messenger, Identity: identity}, session.Revoked)
		}
	}
	switch random.IntN(4) {
	case 0:
		return errors.New("the backend is away")
	case 1:
		panic(http.ErrAbortHandler)
	}
	return nil
}

// Handshakes are refused, never become a connection, or fail in the middle; an operator ends streams; handlers panic. All of this
// happens over every version of HTTP, through one handler and through two. A connection that is over must not be counted any more:
// its contact may open as many as before.
func TestClosedConnectionsAreNotCounted(t *testing.T) {
	m, contact := guardedMessenger(t, time.Hour, time.Hour)
	h := &Handler{StreamTypes: []string{"application/x-ndjson"}, ContactLimit: &ContactLimit{Connections: 1}}
	inner := &Handler{ContactLimit: &ContactLimit{Connections: 2}}
	serve := func(random *rand.Rand, identity string) {
		defer func() {
			if cause := recover(); cause != nil && cause != http.ErrAbortHandler {
				panic(cause)
			}
		}()
		c := *contact
		c.Identity = identity
		r, handshake := anyRequest(random)
		o := &upstream.Outcome{Messenger: m.Name, Contact: &c, Handshake: handshake}
		if over := h.overLimit(m, r, o); over != nil {
			t.Errorf("%s is refused, and has no connection: %s", identity, over.Reason)
		}
		var w http.ResponseWriter = httptest.NewRecorder()
		if random.IntN(2) == 0 {
			w = hijackable{httptest.NewRecorder()}
		}
		backend := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error { return anyBackend(random, m.Name, identity, w) })
		_ = h.guardAs(m, w, r, config.ModeRequired, o, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			if random.IntN(2) == 0 {
				return backend.ServeHTTP(w, r)
			}
			if over := inner.overLimit(m, r, o); over != nil {
				t.Errorf("%s is refused by the second handler, which takes its own connection for another: %s", identity, over.Reason)
			}
			return inner.guardAs(m, w, r, config.ModeRequired, o, backend)
		}))
	}
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(worker), 0))
			for i := range 2000 {
				serve(random, fmt.Sprint(worker, "-", i%3))
			}
		})
	}
	all.Wait()
	if n := registry.Connections.OpenAt(m.Name); n != 0 {
		t.Errorf("%d connections are counted, and none is open", n)
	}

	// The same with connections that stay open: each is counted once, for as long as it is.
	release := make(chan struct{})
	var open, ended sync.WaitGroup
	for i := range 30 {
		open.Add(1)
		ended.Go(func() {
			c := *contact
			c.Identity = fmt.Sprint("open-", i)
			o := &upstream.Outcome{Messenger: m.Name, Contact: &c}
			_ = h.guardAs(m, httptest.NewRecorder(), get(strings.Repeat("Accept: text/event-stream", i%2)+strings.Repeat("Accept: */*", 1-i%2)), config.ModeRequired, o,
				caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
					w.Header().Set("Content-Type", eventStream)
					w.WriteHeader(http.StatusOK)
					open.Done()
					<-release
					return nil
				}))
		})
	}
	open.Wait()
	if n := registry.Connections.OpenAt(m.Name); n != 30 {
		t.Errorf("%d connections are counted, want 30", n)
	}
	close(release)
	ended.Wait()
	if n := registry.Connections.OpenAt(m.Name); n != 0 {
		t.Errorf("afterwards %d connections are counted", n)
	}
}
