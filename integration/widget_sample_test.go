package integration

import (
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// browserProgram uses the documented functions as a widget does. The page's own origin is the site's, and an error of a
// WebSocket is followed by its close, which Node 20 forgets.
const browserProgram = `
const fetchOfNode = globalThis.fetch
globalThis.fetch = (url, options) => fetchOfNode(url.startsWith('/') ? 'SITE' + url : url, options)
if (typeof WebSocket !== 'undefined') {
  globalThis.WebSocket = class extends WebSocket {
    constructor(...args) {
      super(...args)
      this.addEventListener('error', () => this.dispatchEvent(new Event('close')))
    }
  }
}
SAMPLE
async function main() {
  const response = await send('/hello', { method: 'POST', headers: { 'X-Chat-Room': '7' } })
  console.log('send', response.status)
  if (typeof WebSocket === 'undefined') return
  token = 'EXPIRED'
  const socket = await connect()
  console.log('connect', socket.protocol)
  socket.onmessage = (event) => { console.log('message', event.data); socket.close() }
  socket.send('hello')
}
main().catch((error) => { console.log('error', error.message) })
`

// The widget's code in the documentation, as it stands there, survives an expired token with both fetch and a WebSocket, and
// gives up when its site has no valid one.
func TestDocsBrowserSample(t *testing.T) {
	if !alone(t) {
		return
	}
	sample := ""
	for _, block := range docsBlocks(t, "js") {
		if strings.Contains(block, "freshToken") {
			sample += block
		}
	}
	arguments := []string{"--experimental-websocket"} // which Node 22 has without being asked
	if probe("node", ".", "node", "--experimental-websocket", "-e", "0") != nil {
		arguments = nil
		if err := probe("node", ".", "node", "--version"); err != nil {
			lacks(t, "node", err)
		}
	}
	m, up := methods(t)[0], newUpstream(t)
	g := start(t, up, m.messengers, "messenger_auth support {\n token_from header Authorization Bearer\n token_from websocket_protocol jwt\n}\nreverse_proxy UPSTREAM")
	expired := sign(m.key, with(valid("mark"), claims{"exp": 1}))
	var given atomic.Int64
	run := func(t *testing.T, tokens ...string) []string {
		t.Helper()
		given.Store(0)
		site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost || r.URL.Path != "/chat-token" {
				http.NotFound(w, r)
				return
			}
			n := int(given.Add(1)) - 1
			_, _ = w.Write([]byte(tokens[min(n, len(tokens)-1)]))
		}))
		defer site.Close()
		program := strings.NewReplacer("SITE", site.URL, "SAMPLE", sample, "EXPIRED", expired).Replace(browserProgram)
		program = strings.NewReplacer("https://chat.example.com", g.url, "wss://chat.example.com", "ws://"+g.addr).Replace(program)
		file := filepath.Join(t.TempDir(), "widget.js")
		writeSample(t, file, program)
		out, err := command(".", exec.Command("node", append(slices.Clone(arguments), file)...))
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return strings.Split(strings.TrimSpace(out), "\n")
	}

	t.Run("an expired token, and then a valid one", func(t *testing.T) {
		want := []string{"send 200", "connect chat.v1", "message hello"}
		if arguments == nil {
			want = want[:1]
		}
		if got := run(t, expired, sign(m.key, valid("mark"))); !slices.Equal(got, want) {
			t.Errorf("the widget reports %q, want %q", got, want)
		}
		seen := up.take()
		if len(seen) != min(len(want), 2) { // the message is no request
			t.Fatalf("%d requests reached the upstream", len(seen))
		}
		for _, r := range seen {
			if r.header.Get("X-Contact-Identity") != "mark" {
				t.Errorf("the upstream saw %+v", r)
			}
		}
		if seen[0].method != http.MethodPost || seen[0].header.Get("X-Chat-Room") != "7" {
			t.Errorf("the request lost something on its way: %+v", seen[0])
		}
	})
	t.Run("only expired tokens", func(t *testing.T) {
		want := []string{"send 401", "error no connection to the chat"}
		if arguments == nil {
			want = want[:1]
		}
		if got := run(t, expired); !slices.Equal(got, want) {
			t.Errorf("the widget reports %q, want %q", got, want)
		}
		if n := given.Load(); n > 4 {
			t.Errorf("the widget asked its site %d times", n)
		}
		up.none(t)
	})
}
