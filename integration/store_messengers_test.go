package integration

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// openChat opens a WebSocket with a token in its header.
func (g *gateway) openChat(path, token string) *websocket.Conn {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	header := http.Header{"Authorization": {"Bearer " + token}}
	conn, resp, err := websocket.Dial(ctx, g.url+path, &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		g.t.Fatalf("opening a chat on %s: %v %v", path, err, resp)
	}
	g.t.Cleanup(func() { _ = conn.CloseNow() })
	return conn
}

// speak sends a message through each chat and waits for its echo.
func speak(t testing.TB, when string, chats []*websocket.Conn) {
	t.Helper()
	var all sync.WaitGroup
	for i, chat := range chats {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
			defer cancel()
			message := fmt.Sprint(when, i)
			if err := chat.Write(ctx, websocket.MessageText, []byte(message)); err != nil {
				t.Errorf("%s: chat %d is closed: %v", when, i, err)
				return
			}
			if _, echo, err := chat.Read(ctx); err != nil || string(echo) != message {
				t.Errorf("%s: chat %d: got %q, %v", when, i, echo, err)
			}
		})
	}
	all.Wait()
}

// A reload of Caddy drops every WebSocket. Nothing that is done to live messengers needs one: not on the messenger whose
// chats are open, and not on others.
func TestMessengerChangesCloseNoConnections(t *testing.T) {
	if !alone(t) {
		return
	}
	g := start(t, newUpstream(t), strings.Replace(liveOptions, "messenger {", "messenger {\n\t\tjwks_internal_hosts 127.0.0.1", 1), liveSite)
	o := g.operator()
	o.put("acme", generated)
	o.put("other", generated)
	supportToken, acmeToken := o.generate("support"), o.generate("acme")
	var chats []*websocket.Conn
	for range 100 {
		chats = append(chats, g.openChat("/chat", supportToken.signed()), g.openChat("/m/acme/chat", acmeToken.signed()))
	}
	speak(t, "before", chats)
	keys := newKeyServer(t, publicJWK(rsaKey(0), "a"))
	steps := []struct {
		name string
		do   func()
	}{
		{"create", func() {
			o.put("new", map[string]any{"identity_key": "sub", "public_key": []any{map[string]any{"key": string(publicPEM(rsaKey(0)))}}})
		}},
		{"change", func() {
			o.put("acme", map[string]any{"identity_key": "identity", "shared_token": map[string]any{}, "mode": "optional"})
			o.put("other", map[string]any{"identity_key": "identity", "audience": []string{"chat"}, "jwks": map[string]any{"url": keys.url}, "mode": "off"})
		}},
		{"rotate", func() {
			for _, name := range []string{"support", "acme"} {
				o.makeToken("rotate", name, map[string]any{"overlap": "1h"})
			}
		}},
		{"reset", func() {
			for _, name := range []string{"support", "acme"} {
				o.makeToken("reset", name, map[string]any{})
			}
		}},
		{"revoke", func() {
			for _, name := range []string{"support", "acme"} {
				for _, token := range o.ring(name).Tokens {
					o.want(200, "POST", "messengers/"+name+"/tokens/revoke", map[string]any{"kid": token.KID})
				}
			}
		}},
		{"delete", func() {
			for _, name := range []string{"new", "other"} {
				o.want(200, "DELETE", "messengers/"+name, nil)
			}
		}},
	}
	for _, step := range steps {
		step.do()
		speak(t, "after "+step.name, chats)
	}
	g.expect("503 keys_unavailable", "/", supportToken.signed()) // it is worth nothing any more, and its chats go on
	for _, chat := range chats {
		_ = chat.CloseNow()
	}
	// Caddy counts bytes without a lock: one that stops while a chat ends has a race of its own.
	eventually(t, "the chats have ended in Caddy too", func() bool { return !strings.Contains(stacks(), "switchProtocolCopier") })
}

// A messenger is created, read, changed and deleted while the gateway runs. Each change is active at once.
func TestStoredMessengerLifecycle(t *testing.T) {
	up := newUpstream(t)
	g, o := startLive(t, up)
	key := map[string]any{"key": string(publicPEM(rsaKey(0)))}
	g.expect("404 messenger_unknown", "/m/acme/x", sign(rsaKey(0), valid("mark")))
	a := o.want(201, "PUT", "messengers/acme", map[string]any{"identity_key": "identity", "public_key": []any{key}, "issuer": []string{"https://acme.example"}})
	etag := a.header.Get("ETag")
	var made described
	decode(t, a.body, &made)
	if etag != `"`+made.Revision+`"` || made.Name != "acme" || made.Source != "stored" || made.Method != "public_key" || made.Mode != "required" || len(made.Warnings) == 0 {
		t.Errorf("ETag %s, body %s", etag, a.body)
	}
	g.expect("401 issuer_not_allowed", "/m/acme/x", sign(rsaKey(0), valid("mark")))
	c := valid("mark")
	c["iss"] = "https://acme.example"
	up.take()
	g.expect("200", "/m/acme/x", sign(rsaKey(0), c))
	if r := up.one(t); r.header.Get("X-Contact-Identity") != "mark" || r.header.Get("X-Contact-Messenger") != "acme" {
		t.Errorf("the upstream got %v", r.header)
	}
	// What it is called in a host or a path is not written in one case.
	g.expect("200", "/m/ACME/x", sign(rsaKey(0), c))

	if got := o.want(200, "GET", "messengers/acme", nil); got.header.Get("ETag") != etag {
		t.Errorf("GET has the ETag %s, want %s", got.header.Get("ETag"), etag)
	}
	changed := map[string]any{"identity_key": "sub", "public_key": []any{key}}
	b := o.want(200, "PUT", "messengers/acme", changed, "If-Match: "+etag)
	if b.header.Get("ETag") == etag {
		t.Error("the revision stays with a change")
	}
	g.expect("401 identity_missing", "/m/acme/x", sign(rsaKey(0), c))
	g.expect("200", "/m/acme/x", sign(rsaKey(0), claims{"sub": "mark"}))

	o.put("acme", generated)
	g.expect("503 keys_unavailable", "/m/acme/x", sign(newSecret(), valid("mark")))
	g.expect("401 algorithm_not_allowed", "/m/acme/x", sign(rsaKey(0), valid("mark")))
	first := o.generate("acme")
	g.expect("200", "/m/acme/x", first.signed())
	o.put("acme", map[string]any{"identity_key": "identity", "shared_token": map[string]any{}, "require_claims": []string{"exp"}})
	g.expect("200", "/m/acme/x", first.signed())
	g.expect("401 claim_missing", "/m/acme/x", sign(first.Token, claims{"identity": "mark"}))

	var list []described
	decode(t, o.want(200, "GET", "messengers", nil).body, &list)
	var names []string
	for _, m := range list {
		names = append(names, m.Name+" "+m.Source)
	}
	if !slices.Equal(names, []string{"support config", "acme stored"}) {
		t.Errorf("the list has %v", names)
	}
	o.want(200, "DELETE", "messengers/acme", nil)
	g.expect("404 messenger_unknown", "/m/acme/x", first.signed())
	o.refused(404, "GET", "messengers/acme", nil)
	o.refused(404, "DELETE", "messengers/acme", nil)

	// A later messenger of the same name inherits nothing.
	o.put("acme", generated)
	g.expect("503 keys_unavailable", "/m/acme/x", first.signed())
	if r := o.ring("acme"); len(r.Tokens) != 0 {
		t.Errorf("the ring of a new messenger has %+v", r)
	}
}

// Another method takes the tokens of the former one along to nowhere.
func TestTokensAreRemovedWithTheirMethod(t *testing.T) {
	g, o := startLive(t, newUpstream(t))
	o.put("acme", generated)
	made := o.generate("acme")
	if said := o.refused(428, "PUT", "messengers/acme", map[string]any{"identity_key": "identity", "public_key": []any{map[string]any{"key": string(publicPEM(rsaKey(0)))}}}, "If-Match: *"); !strings.Contains(said, "1 shared token") {
		t.Errorf("nothing was confirmed, and the error says %q", said)
	}
	g.expect("200", "/m/acme/x", made.signed())
	o.put("acme", map[string]any{"identity_key": "identity", "public_key": []any{map[string]any{"key": string(publicPEM(rsaKey(0)))}}})
	g.expect("401 algorithm_not_allowed", "/m/acme/x", made.signed())
	o.refused(409, "GET", "messengers/acme/tokens", nil)
	o.put("acme", generated)
	g.expect("503 keys_unavailable", "/m/acme/x", made.signed())
}

// Two operators change one messenger. Neither can overwrite a change that they have not seen.
func TestStaleSettingsAreNotOverwritten(t *testing.T) {
	_, o := startLive(t, newUpstream(t))
	o.refused(412, "PUT", "messengers/acme", generated, "If-Match: *")
	o.refused(412, "PUT", "messengers/acme", generated, `If-Match: "GONE"`)
	first := o.want(201, "PUT", "messengers/acme", generated, "If-None-Match: *").header.Get("ETag")
	o.refused(412, "PUT", "messengers/acme", generated, "If-None-Match: *")
	if said := o.refused(428, "PUT", "messengers/acme", generated); !strings.Contains(said, "If-Match") {
		t.Errorf("428 does not say what to send: %s", said)
	}
	second := o.want(200, "PUT", "messengers/acme", generated, "If-Match: "+first).header.Get("ETag")
	for _, method := range []string{"PUT", "DELETE"} {
		o.refused(412, method, "messengers/acme", generated, "If-Match: "+first)
	}
	o.generate("acme") // a token is a change too
	o.refused(412, "DELETE", "messengers/acme", nil, "If-Match: "+second)
	third := o.want(200, "GET", "messengers/acme", nil).header.Get("ETag")
	for _, action := range []string{"generate", "rotate", "reset"} {
		o.refused(412, "POST", "messengers/acme/tokens/"+action, map[string]any{}, "If-Match: "+second)
	}
	if got := o.want(200, "GET", "messengers/acme/tokens", nil).header.Get("ETag"); got != third {
		t.Errorf("the ring's ETag is %s, want %s", got, third)
	}
	o.want(201, "POST", "messengers/acme/tokens/rotate", map[string]any{}, "If-Match: "+third)
	for _, line := range []string{"If-Match: unquoted", `If-Match: "a", "b"`, `If-Match: W/"a"`, `If-None-Match: "a"`} {
		o.refused(400, "DELETE", "messengers/acme", nil, line)
	}
	o.want(200, "DELETE", "messengers/acme", nil, "If-Match: *")

	// Of those who create one name at once, one does.
	var created, refused int
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			a, err := o.send("PUT", "messengers/acme", generated)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && a.status == 201:
				created++
			case err == nil && (a.status == 412 || a.status == 428):
				refused++
			default:
				t.Errorf("got %d %s, %v", a.status, a.body, err)
			}
		})
	}
	all.Wait()
	if created != 1 || refused != 7 {
		t.Errorf("%d were created and %d refused, want 1 and 7", created, refused)
	}
}
