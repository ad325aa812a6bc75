package integration

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// When the process ends, so do all connections within a second, and their clients learn why: event streams, for which a server waits
// without a limit, and WebSockets, for which it does not wait. Caddy stops its apps in another order each time, and while
// shutdown_delay lasts, the gateway still serves as before.
func TestShutdownEndsEveryConnection(t *testing.T) {
	if !alone(t) {
		return
	}
	const sockets, streams = 20, 5
	site := "messenger_auth support\nreverse_proxy UPSTREAM {\n flush_interval -1\n stream_close_delay 5m\n}"
	for name, options := range map[string]string{"without a limit": "", "grace_period": "grace_period 20s", "shutdown_delay": "shutdown_delay 1s", "no directive any more": ""} {
		for range 2 {
			t.Run(name, func(t *testing.T) {
				up := newChat(t)
				secret := newSecret()
				file := write(t, "secret", []byte(secret))
				n := newNode(t, caddyBinary(t), up.upstream, options+"\nmessenger support {\n identity_key identity\n shared_token {file."+file+"}\n}", site)
				n.run()
				token := bearer(sign(secret, contact("mark", "a")))
				var all sync.WaitGroup
				openSocket := func() {
					s, status := protocols[0].open(n.gateway, "/echo", token)
					if status != http.StatusSwitchingProtocols {
						t.Errorf("a handshake was answered with %d", status)
						return
					}
					all.Go(func() {
						if got := s.ended(); got != "1001 shutdown" {
							t.Errorf("a WebSocket ended with %q", got)
						}
					})
				}
				openStream := func() {
					resp := n.stream(version{"HTTP/1.1", plainClient}, "/quiet", token)
					all.Go(func() {
						body, err := io.ReadAll(resp.Body)
						if err != nil || !strings.HasSuffix(string(body), "event: auth\ndata: shutdown\n\n") {
							t.Errorf("an event stream ended with %q, %v", body[max(0, len(body)-100):], err)
						}
					})
				}
				for range sockets {
					openSocket()
				}
				for range streams {
					openStream()
				}
				if name == "no directive any more" { // the servers that have the connections ended long ago
					n.loads(strings.Replace(readText(t, n.config), "messenger_auth support", "", 1))
				}
				if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				if name == "shutdown_delay" {
					time.Sleep(300 * time.Millisecond) // the delay is for those who come meanwhile
					openSocket()
					openStream()
				}
				all.Wait()
				select {
				case <-n.exited:
				case <-time.After(patience):
					t.Error("the process goes on")
				}
			})
		}
	}
}
