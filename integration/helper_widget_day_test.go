package integration

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// A brokenLine is the network that is between browsers and a gateway, and may be gone.
type brokenLine struct {
	addr, target string

	mu    sync.Mutex
	gone  bool
	conns map[net.Conn]bool
}

func newBrokenLine(t *testing.T, target string) *brokenLine {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &brokenLine{addr: ln.Addr().String(), target: target, conns: make(map[net.Conn]bool)}
	t.Cleanup(func() {
		ln.Close()
		n.set(true)
	})
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go n.carry(conn)
		}
	}()
	return n
}

// set makes the network be gone, with all its connections, or be there.
func (n *brokenLine) set(gone bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gone = gone
	for conn := range n.conns {
		conn.Close()
	}
}

func (n *brokenLine) carry(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", n.target)
	if err != nil {
		return // the gateway restarts
	}
	defer server.Close()
	n.mu.Lock()
	gone := n.gone
	n.conns[client] = true
	n.mu.Unlock()
	if gone {
		return
	}
	go func() {
		_, _ = io.Copy(server, client)
		server.Close()
	}()
	_, _ = io.Copy(client, server)
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.conns, client)
}

// A dayBackend has numbered events, of which each stream begins after the last one that it names, and takes numbered messages.
type dayBackend struct {
	*upstream
	mu        sync.Mutex
	published int
	more      chan struct{}          // closed when there are more events
	took      map[string]map[int]int // how often each message came, by the name of its socket
}

func newDayBackend(t *testing.T) *dayBackend {
	b := &dayBackend{upstream: new(upstream), more: make(chan struct{}), took: make(map[string]map[int]int)}
	b.listen(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			b.serveSocket(w, r)
		} else {
			b.serveEvents(w, r)
		}
	})
	return b
}

func (b *dayBackend) publish(count int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.published += count
	close(b.more)
	b.more = make(chan struct{})
}

func (b *dayBackend) serveEvents(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	next := 0
	if last, err := strconv.Atoi(r.Header.Get("Last-Event-Id")); err == nil {
		next = last + 1
	}
	for r.Context().Err() == nil {
		b.mu.Lock()
		published, more := b.published, b.more
		b.mu.Unlock()
		for ; next < published; next++ {
			_, _ = fmt.Fprintf(w, "id: %d\ndata: %d\n\n", next, next)
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-more:
		case <-r.Context().Done():
		}
	}
}

func (b *dayBackend) serveSocket(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{"chat.v1"}})
	if err != nil {
		return
	}
	defer conn.CloseNow()
	name := path.Base(r.URL.Path)
	for {
		kind, message, err := conn.Read(context.Background())
		if err != nil {
			return
		}
		number, _ := strconv.Atoi(string(message))
		b.mu.Lock()
		if b.took[name] == nil {
			b.took[name] = make(map[int]int)
		}
		b.took[name][number]++
		b.mu.Unlock()
		if conn.Write(context.Background(), kind, message) != nil {
			return
		}
	}
}

// A daySite is a site with a clock of its own, whose visitor is logged in until the logout.
type daySite struct {
	url    string
	secret string

	mu        sync.Mutex
	ahead     time.Duration
	loggedOut bool
	tokens    []string // all that it has made
}

func newDaySite(t *testing.T) *daySite {
	s := &daySite{secret: newSecret()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, "testdata/widget/day.html") })
	mux.HandleFunc("GET /other", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "another tab") })
	mux.HandleFunc("GET /messenger-auth.min.js", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, widgetFolder+"/messenger-auth.min.js")
	})
	mux.HandleFunc("GET /token", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.loggedOut && !r.URL.Query().Has("again") {
			http.Error(w, "not logged in", http.StatusUnauthorized)
			return
		}
		now := float64(time.Now().Add(s.ahead).UnixMilli()) / 1000
		token := sign(s.secret, claims{"identity": "mark", "iat": now, "exp": now + 4 + busy().Seconds()})
		s.tokens = append(s.tokens, token)
		_, _ = fmt.Fprintln(w, token)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	s.url = server.URL
	return s
}

func (s *daySite) set(ahead time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead = ahead
}
