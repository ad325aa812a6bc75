package integration

import (
	"crypto/rsa"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// A move is a messenger that changes its validation method while contacts use it on two nodes. Its old and its new keys differ.
type move struct {
	name     string
	from, to string
	stored   bool
	signs    map[string]any // by method: the key of the site, an RSA key or the text of a shared token

	stop    chan struct{}
	senders sync.WaitGroup
	mu      sync.Mutex
	refused []string  // what was answered to tokens that are valid
	until   time.Time // when the method before is over

	old, new map[*node]*socket
}

// settings are those of a stored messenger with one of the methods.
func (m *move) settings(method, url string) map[string]any {
	switch method {
	case "public_key":
		return map[string]any{"public_key": []any{map[string]any{"key": string(publicPEM(m.signs[method].(*rsa.PrivateKey)))}}}
	case "jwks":
		return map[string]any{"jwks": map[string]any{"url": url}}
	}
	return map[string]any{"shared_token": map[string]any{}}
}

func withIdentity(settings map[string]any) map[string]any {
	settings["identity_key"], settings["clock_skew"] = "identity", "1s"
	return settings
}

func (m *move) path() string { return "/m/" + m.name }

func (m *move) token(method string) string { return sign(m.signs[method], valid("mark")) }

// keepSending sends tokens of one method to a node, one after the other, until stop. Each has to be accepted until the method is over.
func (m *move) keepSending(n *node, method string) {
	token := m.token(method)
	m.senders.Go(func() {
		for {
			select {
			case <-m.stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
			r, err := http.NewRequest(http.MethodGet, n.url+m.path()+"/x", nil)
			if err != nil {
				panic(err)
			}
			r.Header.Set("Authorization", "Bearer "+token)
			answer, err := plainClient.Do(r)
			m.mu.Lock()
			switch over := method == m.from && !m.until.IsZero() && !time.Now().Before(m.until); {
			case err != nil: // a reload may close an idle connection at the moment in which a request arrives there
			case answer.StatusCode != http.StatusOK && !over:
				m.refused = append(m.refused, fmt.Sprintf("a token of %s: %s", method, answer.Status))
			}
			m.mu.Unlock()
			if err == nil {
				answer.Body.Close()
			}
		}
	})
}

// open opens a chat that stays open for as long as the test wants.
func (m *move) open(t *testing.T, n *node, method string) *socket {
	t.Helper()
	s, status := n.upgrade(patientConn{n.dial()}, m.path()+"/echo", []string{bearer(m.token(method))})
	if status != http.StatusSwitchingProtocols {
		t.Fatalf("%s: a chat with a token of %s: %d", m.name, method, status)
	}
	return s
}

// A patientConn has no deadline of its own.
type patientConn struct{ net.Conn }

func (patientConn) SetDeadline(time.Time) error { return nil }

// answers reports whether a chat is open in both directions.
func (s *socket) answers(text string) bool {
	s.send(1, text)
	f, err := readFrame(s.reader)
	return err == nil && f.opcode == 1 && string(f.payload) == text
}

// moving are the moves of a test, on two nodes with one storage.
type moving struct {
	t       *testing.T
	moves   []*move
	nodes   []*node
	up      *chat
	url     string            // of the key set
	lines   map[string]string // the options of a configured messenger with a method
	options string
}

const movingSite = `handle /m/* {
	messenger_auth {path.1}
	respond /m/*/x there
	reverse_proxy UPSTREAM {
		stream_close_delay 1h
	}
}
handle {
	messenger_auth support
	respond ok
}`

func newMoving(t *testing.T) *moving {
	t.Helper()
	w := &moving{t: t, up: newChat(t), url: newKeyServer(t, publicJWK(rsaKey(0), "a")).url}
	w.lines = map[string]string{"public_key": "public_key {file." + write(t, "key.pem", publicPEM(rsaKey(1))) + "}", "jwks": "jwks " + w.url, "shared_token": "shared_token"}
	w.options = strings.Replace(clusterOptions("storage file_system "+t.TempDir(), storeKeyFile(t)), "messenger {", "messenger {\n jwks_internal_hosts 127.0.0.1", 1)
	for _, from := range []string{"shared_token", "public_key", "jwks"} {
		for _, to := range []string{"shared_token", "public_key", "jwks"} {
			for _, kind := range []string{"configured", "stored"} {
				if from != to {
					w.moves = append(w.moves, &move{name: strings.ReplaceAll(kind+"-"+from+"-to-"+to, "_", "-"), from: from, to: to, stored: kind == "stored", stop: make(chan struct{}),
						signs: map[string]any{"jwks": rsaKey(0), "public_key": rsaKey(1)}, old: make(map[*node]*socket), new: make(map[*node]*socket)})
				}
			}
		}
	}
	for range 2 {
		n := newNode(t, caddyBinary(t), w.up.upstream, w.configuration(func(m *move) string { return w.lines[m.from] }), movingSite)
		n.run()
		w.nodes = append(w.nodes, n)
	}
	return w
}

// configuration returns the global options, with the configured messengers.
func (w *moving) configuration(method func(m *move) string) string {
	var b strings.Builder
	b.WriteString(w.options + "\n")
	for _, m := range w.moves {
		if !m.stored {
			fmt.Fprintf(&b, "messenger %s {\n identity_key identity\n clock_skew 1s\n %s\n}\n", m.name, method(m))
		}
	}
	return b.String()
}

// reload gives both nodes a configuration in which the configured messengers have both methods.
func (w *moving) reload(until time.Time) {
	w.t.Helper()
	for _, n := range w.nodes {
		text := n.caddyfile(w.configuration(func(m *move) string {
			return w.lines[m.to] + "\n previous " + until.Format(time.RFC3339) + " {\n " + w.lines[m.from] + "\n}"
		}), movingSite)
		if err := os.WriteFile(n.config, []byte(replaceWords(text, "UPSTREAM", w.up.addr)), 0o600); err != nil {
			w.t.Fatal(err)
		}
		if status, said, err := n.reload("ok"); err != nil || status != http.StatusOK {
			w.t.Fatalf("reloading: %d %s %v", status, said, err)
		}
	}
}

// generate makes the shared token of a messenger, if it signs with one from now on.
func (w *moving) generate(m *move, method string) {
	if method == "shared_token" {
		m.signs["shared_token"] = w.nodes[0].generate(m.name).Token
	}
}

func (w *moving) everywhere(m *move, method, want string) {
	w.t.Helper()
	for _, n := range w.nodes {
		patiently(w.t, fmt.Sprintf("%s: a token of %s is answered with %s", m.name, method, want), func() bool { return n.verdict(m.path()+"/x", m.token(method)) == want })
	}
}

// begin uses a method on both nodes: it opens a chat and keeps sending requests.
func (w *moving) begin(m *move, method string, chats map[*node]*socket) {
	w.t.Helper()
	w.everywhere(m, method, "200")
	for _, n := range w.nodes {
		chats[n] = m.open(w.t, n, method)
		m.keepSending(n, method)
	}
}

// move moves all messengers, the stored ones on one node.
func (w *moving) move() {
	w.t.Helper()
	w.reload(time.Now().Add(time.Hour).UTC())
	for _, m := range w.moves {
		if m.stored {
			w.nodes[1].want(200, http.MethodPut, "messengers/"+m.name+"?keep_previous=1h", withIdentity(m.settings(m.to, w.url)), "If-Match: *")
			patiently(w.t, "the other node has the change", func() bool {
				var d described
				decode(w.t, w.nodes[0].want(200, http.MethodGet, "messengers/"+m.name, nil).body, &d)
				return d.Settings["previous"] != nil
			})
		}
		w.generate(m, m.to)
	}
}

// end brings the end of all methods before nearer, which has to be confirmed.
func (w *moving) end(until time.Time) {
	w.t.Helper()
	for _, m := range w.moves {
		m.mu.Lock()
		m.until = until
		m.mu.Unlock()
		if !m.stored {
			continue
		}
		settings, previous := withIdentity(m.settings(m.to, w.url)), m.settings(m.from, w.url)
		previous["until"], settings["previous"] = until, previous
		if said := w.nodes[0].refused(428, http.MethodPut, "messengers/"+m.name, settings, "If-Match: *"); !strings.Contains(said, "confirm the number 1") {
			w.t.Errorf("%s: an earlier end was not confirmed, and the error is %q", m.name, said)
		}
		w.nodes[0].want(200, http.MethodPut, "messengers/"+m.name+"?confirm=1", settings, "If-Match: *")
	}
	w.reload(until)
}

// Every messenger moves from every method to every other one, in the configuration and in the store, while its site signs with both and
// chats are open on two nodes. No valid token is refused and no chat is dropped; at the stated time the old method is over on both
// nodes, for tokens and for the chats that were opened with it, and for nothing else.
func TestMethodChangesRefuseNoValidTokens(t *testing.T) {
	if !alone(t) {
		return
	}
	w := newMoving(t)
	for _, m := range w.moves {
		if m.stored {
			w.nodes[0].put(m.name, withIdentity(m.settings(m.from, w.url)))
		}
		w.generate(m, m.from)
	}
	for _, m := range w.moves {
		w.begin(m, m.from, m.old)
	}
	began := time.Now()
	w.move()
	took := time.Since(began)
	for _, m := range w.moves {
		w.begin(m, m.to, m.new)
	}
	for _, m := range w.moves {
		for i, n := range w.nodes {
			if !m.old[n].answers("still here") || !m.new[n].answers("here as well") {
				t.Errorf("%s: a chat on node %d is gone after the move", m.name, i)
			}
		}
	}
	until := time.Now().Add(2*time.Second + 2*took).UTC().Truncate(time.Second) // the machine may be slow
	w.end(until)
	for _, m := range w.moves {
		for i, n := range w.nodes {
			if end := m.old[n].ended(); end != "4403 token_revoked" || time.Now().Before(until) {
				t.Errorf("%s: the old chat on node %d ended with %q, %s before its method", m.name, i, end, time.Until(until))
			}
		}
	}
	for _, m := range w.moves {
		want := "401 algorithm_not_allowed"
		if m.from != "shared_token" && m.to != "shared_token" {
			want = "401 signature_invalid" // both sign with RSA keys
		}
		w.everywhere(m, m.from, want)
		for i, n := range w.nodes {
			if !m.new[n].answers("and here to stay") {
				t.Errorf("%s: the new chat on node %d is gone", m.name, i)
			}
		}
		close(m.stop)
		m.senders.Wait()
		if len(m.refused) > 0 {
			t.Errorf("%s: %d requests were refused, such as %s", m.name, len(m.refused), m.refused[0])
		}
	}
}
