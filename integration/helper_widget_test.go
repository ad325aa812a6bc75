package integration

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"
)

// A helperSite serves the helper with a page that tries it, and sockets that do what their address says. It knows what
// arrived on all of them, in the order in which it was read.
type helperSite struct {
	url, sockets string

	mu       sync.Mutex
	messages []string
	dialed   int
	open     int
	seen     []*http.Request // for event streams, sockets and tickets
	answers  []string        // to the next requests for event streams, and the last one to all later ones: see serveEvents
}

func newHelperSite(t *testing.T) *helperSite {
	s := new(helperSite)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, "testdata/widget/helper.html")
	})
	mux.HandleFunc("GET /messenger-auth.js", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, "../caddymodule/widget/messenger-auth.js")
	})
	mux.HandleFunc("GET /hang", func(_ http.ResponseWriter, r *http.Request) {
		s.count(&s.dialed, 1)
		s.count(&s.open, 1)
		defer s.count(&s.open, -1)
		<-r.Context().Done()
	})
	mux.HandleFunc("GET /socket", s.serve)
	mux.HandleFunc("GET /events", s.serveEvents)
	mux.HandleFunc("POST /ticket", s.serveTicket)
	server := httptest.NewServer(mux)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	s.url, s.sockets = server.URL, strings.Replace(server.URL, "http://", "ws://", 1)
	return s
}

// serve takes a socket. With a close code it closes it at once, or after the message that is named, and cuts it for 1006;
// without one it reads until the client closes.
func (s *helperSite) serve(w http.ResponseWriter, r *http.Request) {
	s.see(r)
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{"chat.v1"}})
	if err != nil {
		return
	}
	defer conn.CloseNow()
	conn.SetReadLimit(2 << 20)
	s.count(&s.dialed, 1)
	s.count(&s.open, 1)
	defer s.count(&s.open, -1)
	query := r.URL.Query()
	code, _ := strconv.Atoi(query.Get("code"))
	last := query.Get("after")
	for code == 0 || last != "" {
		kind, message, err := conn.Read(context.Background())
		if err != nil {
			return
		}
		s.mu.Lock()
		s.messages = append(s.messages, string(message))
		s.mu.Unlock()
		if query.Has("echo") && conn.Write(context.Background(), kind, message) != nil {
			return
		}
		if code != 0 && string(message) == last {
			break
		}
	}
	if code != 1006 {
		_ = conn.Close(websocket.StatusCode(code), query.Get("reason"))
	}
}

func (s *helperSite) count(what *int, by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*what += by
}

func (s *helperSite) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	messages := s.messages
	s.messages = nil
	return messages
}

func (s *helperSite) counted(what *int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *what
}

// openHelper opens the page that tries the helper.
func openHelper(t *testing.T, s *helperSite) context.Context {
	t.Helper()
	tab := newBrowser(t, anyChromium)
	browse(t, tab, chromedp.Navigate(s.url))
	eventually(t, "the page is there", func() bool { return evaluate[bool](t, tab, "window.ready === true") })
	return tab
}

// try runs the body of an async function in the page and returns the list of texts that it returns.
func try(t *testing.T, tab context.Context, body string) []string {
	t.Helper()
	return evaluate[[]string](t, tab, "(async () => {"+body+"})()")
}

// unsigned is a token for the helper, which looks at its lifetime alone.
func unsigned(life int) string {
	return sign(newSecret(), claims{"identity": "mark", "iat": 1700000000, "exp": 1700000000 + life})
}

func expect(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}
