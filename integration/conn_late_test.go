package integration

import (
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// acceptsMore are values of Accept that allow an event stream among other answers, as the clients of chats with programs send them.
var acceptsMore = []string{"application/json, text/event-stream", "text/event-stream, application/json;q=0.5", "text/event-stream;q=0.9,*/*"}

// A request whose answer may be an event stream, or something else, is neither counted nor ended before its answer begins: one that is
// no stream arrives whole, whatever has become of the token meanwhile. The request of an EventSource can have no other answer.
func TestRequestThatAcceptsMoreThanEventsIsNotEnded(t *testing.T) {
	messengers, secret := strict(t, "")
	b := newLateStream(t)
	eachVersionTo(t, b.upstream, messengers, "messenger_auth support\nreverse_proxy UPSTREAM", func(t *testing.T, g *gateway, v version) {
		o := g.operator()
		for i, accept := range acceptsMore {
			token := sign(secret, contact("mark", v.name+accept))
			body := b.late(t, g, v, "/rpc", bearer(token), "X-Type: application/json", "Accept: "+accept)
			if open := g.connections().Open; open != 0 {
				t.Errorf("accepting %s: %d connections are open", accept, open)
			}
			if i == 0 {
				o.want(200, "POST", "messengers/support/revocations", map[string]any{"jti": v.name + accept})
			}
			if text, err := body(); err != nil || !strings.HasPrefix(text, "data: secret") {
				t.Errorf("accepting %s: got %q, %v", accept, text, err)
			}
		}
		for _, accept := range []string{"text/event-stream", "Text/Event-Stream;q=0.9", "text/event-stream, , text/event-stream"} {
			body := b.late(t, g, v, "/events", bearer(sign(secret, contact("zoe", accept))), "Accept: "+accept)
			if a := o.want(200, "POST", "connections/end", map[string]any{"messenger": "support", "identity": "zoe"}); !strings.Contains(a.body, `{"ended":1}`) {
				t.Errorf("accepting %s: %s", accept, a.body)
			}
			if text, err := body(); err != nil || text != revokedEvent {
				t.Errorf("accepting %s: got %q, %v", accept, text, err)
			}
		}
	})
}

// The end of the process does not cut off such an answer either, and Caddy waits for it as for any other.
func TestShutdownWaitsForAnAnswerThatMayBeAStream(t *testing.T) {
	if !alone(t) {
		return
	}
	secret := newSecret()
	arrived := make(chan struct{}, len(acceptsMore))
	answer := make(chan struct{})
	up := &upstream{}
	up.listen(t, func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-answer
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"done":true}`)
	})
	file := write(t, "secret", []byte(secret))
	n := newNode(t, caddyBinary(t), up, "messenger support {\n identity_key identity\n shared_token {file."+file+"}\n}", "messenger_auth support\nreverse_proxy UPSTREAM")
	n.run()
	type result struct{ accept, body string }
	results := make(chan result)
	for _, accept := range acceptsMore {
		go func() {
			r, err := http.NewRequest(http.MethodPost, n.url+"/rpc", strings.NewReader("{}"))
			if err != nil {
				panic(err)
			}
			r.Header.Set("Accept", accept)
			r.Header.Set("Authorization", "Bearer "+sign(secret, contact("mark", "a")))
			resp, err := plainClient.Do(r)
			if err != nil {
				results <- result{accept, err.Error()}
				return
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			results <- result{accept, resp.Status + " " + string(body)}
		}()
	}
	for range acceptsMore {
		<-arrived
	}
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	time.Sleep(4 * time.Second) // connections end within a second, and are cut off a second and a half later
	close(answer)
	for range acceptsMore {
		if got := <-results; got.body != `200 OK {"done":true}` {
			t.Errorf("accepting %s: got %s", got.accept, got.body)
		}
	}
	select {
	case <-n.exited:
	case <-time.After(patience):
		t.Error("the process goes on")
	}
}
