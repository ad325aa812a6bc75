package integration

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/coder/websocket"
)

// An upstream is a chat backend that remembers what reached it. Its answer is empty, except for WebSockets, which it
// echoes.
type upstream struct {
	addr string
	mu   sync.Mutex
	seen []received
}

// received is a request as the upstream saw it.
type received struct {
	method, uri string
	header      http.Header
	trailer     http.Header
	body        string
}

func newUpstream(t testing.TB) *upstream {
	t.Helper()
	u := &upstream{}
	u.listen(t, u.serve)
	return u
}

func (u *upstream) listen(t testing.TB, serve http.HandlerFunc) {
	server := httptest.NewServer(serve)
	u.addr = server.Listener.Addr().String()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
}

func (u *upstream) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	u.mu.Lock()
	u.seen = append(u.seen, received{r.Method, r.RequestURI, r.Header.Clone(), r.Trailer.Clone(), string(body)})
	u.mu.Unlock()
	if r.Header.Get("Upgrade") == "" {
		return
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{"chat.v1"}})
	if err != nil {
		return
	}
	defer conn.CloseNow()
	for {
		kind, message, err := conn.Read(context.Background())
		if err != nil || conn.Write(context.Background(), kind, message) != nil {
			return
		}
	}
}

// take returns what reached the upstream since the last call.
func (u *upstream) take() []received {
	u.mu.Lock()
	defer u.mu.Unlock()
	seen := u.seen
	u.seen = nil
	return seen
}

// one returns the only request that reached the upstream since the last call.
func (u *upstream) one(t testing.TB) received {
	t.Helper()
	seen := u.take()
	if len(seen) != 1 {
		t.Fatalf("%d requests reached the upstream, want 1", len(seen))
	}
	return seen[0]
}

// none checks that nothing reached the upstream since the last call.
func (u *upstream) none(t testing.TB) {
	t.Helper()
	if seen := u.take(); len(seen) != 0 {
		t.Errorf("the upstream was reached: %+v", seen)
	}
}
