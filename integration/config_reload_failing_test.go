package integration

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// A slowFailure is an app of another plugin whose start takes until a test says so, and fails.
type slowFailure struct{}

var slowStart = struct{ begun, fail chan struct{} }{make(chan struct{}), make(chan struct{})}

func init() { caddy.RegisterModule(slowFailure{}) }

// CaddyModule implements caddy.Module.
func (slowFailure) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "slow_failure", New: func() caddy.Module { return new(slowFailure) }}
}

// Start implements caddy.App.
func (slowFailure) Start() error {
	slowStart.begun <- struct{}{}
	<-slowStart.fail
	return errors.New("this app never starts")
}

// Stop implements caddy.App.
func (slowFailure) Stop() error { return nil }

// failingLoad loads a configuration in which another app fails, calls during while that starts, and returns when the load has failed.
// Caddy starts apps in any order: it is repeated until a messenger app was started before.
func (g *gateway) failingLoad(options, site string, during func()) {
	g.t.Helper()
	text := strings.Replace(string(g.conf(g.caddyfile(options, site))), `"apps":{`, `"apps":{"slow_failure":{},`, 1)
	for range 8 {
		failed := make(chan error)
		go func() { failed <- caddy.Load([]byte(text), true) }()
		<-slowStart.begun
		time.Sleep(30 * time.Millisecond) // for what an app does in the background
		during()
		slowStart.fail <- struct{}{}
		if err := <-failed; err == nil || !strings.Contains(err.Error(), "this app never starts") {
			g.t.Fatalf("the load ended with %v", err)
		}
	}
}

// sharedMessenger is the block of a messenger with this secret.
func sharedMessenger(t *testing.T, name, secret, more string) string {
	return "messenger " + name + " {\n identity_key identity\n shared_token {file." + write(t, "secret", []byte(secret)) + "}\n" + more + "}\n"
}

const proxyWithDelay = "reverse_proxy UPSTREAM {\n flush_interval -1\n stream_close_delay 5m\n}"

// isOpen reports whether the backend still answers on a WebSocket.
func (s *socket) isOpen() bool {
	_, _ = s.writer.Write(frameBytes(true, 1, true, []byte("hi")))
	f, err := readFrame(s.reader)
	return err == nil && f.opcode == 1
}

// A configuration that fails to load, because another app cannot start, changes nothing of the one that goes on: neither how long that
// trusts what it has read, nor its cache.
func TestFailedLoadKeepsTheLimits(t *testing.T) {
	if !alone(t) {
		return
	}
	secret, folder := newSecret(), t.TempDir()
	options := func(more string) string {
		return "storage file_system " + folder + "\nmessenger {\n poll_interval 200ms\n" + more + "\n}\n" + sharedMessenger(t, "support", secret, "")
	}
	const site = "messenger_auth support\nreverse_proxy UPSTREAM"
	g := start(t, newUpstream(t), options("store_max_age 1s"), site)
	token := bearer(sign(secret, contact("mark", "a")))
	g.operator().want(200, "POST", "messengers/support/revocations", map[string]any{"jti": "other"})
	g.expect("200", "/x", sign(secret, contact("mark", "a")))
	entries := g.families().value("cache_entries")
	g.failingLoad(options("token_cache_size 0"), site, func() {})
	if got := g.families().value("cache_entries"); entries == 0 || got != entries {
		t.Errorf("the cache had %v tokens, and has %v", entries, got)
	}
	stored, away := filepath.Join(folder, "messenger"), filepath.Join(folder, "away")
	if err := errors.Join(os.Rename(stored, away), os.WriteFile(stored, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	patiently(t, "the messenger is unavailable", func() bool { return g.get("/x", token).status == http.StatusServiceUnavailable })
	g.failingLoad(options(""), site, func() {})
	time.Sleep(500 * time.Millisecond) // two polls
	if got := g.get("/x", token).status; got != http.StatusServiceUnavailable {
		t.Errorf("the storage is still away, and the answer is %d after a load that failed", got)
	}
}

// It ends no chat either, and what is revoked while it starts ends those of the configuration that goes on. What was opened through it
// ends, too.
func TestFailedLoadKeepsConnections(t *testing.T) {
	if !alone(t) {
		return
	}
	up := newChat(t)
	secret, another := newSecret(), newSecret()
	t.Run("another key set", func(t *testing.T) {
		g := start(t, up.upstream, sharedMessenger(t, "support", secret, ""), "messenger_auth support\n"+proxyWithDelay)
		s, status := protocols[0].open(g, "/echo", bearer(sign(secret, contact("mark", "a"))))
		if status != http.StatusSwitchingProtocols {
			t.Fatal(status)
		}
		keys := newKeyServer(t, publicJWK(rsaKey(0), "a"))
		g.failingLoad("messenger support {\n identity_key identity\n jwks "+keys.url+"\n}", "messenger_auth support\n"+proxyWithDelay, func() {})
		if !s.isOpen() {
			t.Error("a chat was ended by a configuration that never ran")
		}
	})
	t.Run("revoked meanwhile, and opened meanwhile", func(t *testing.T) {
		g := start(t, up.upstream, sharedMessenger(t, "other", secret, ""), "messenger_auth {path.0}\n"+proxyWithDelay)
		o := g.operator()
		o.put("stored", generated)
		token := sign(o.generate("stored").Token, contact("mark", "a"))
		chat, status := protocols[0].open(g, "/stored/echo", bearer(token))
		if status != http.StatusSwitchingProtocols {
			t.Fatal(status)
		}
		var opened []*socket
		revoke := true
		g.failingLoad(sharedMessenger(t, "new", another, "")+sharedMessenger(t, "stored", another, ""), "messenger_auth {path.0}\n"+proxyWithDelay, func() {
			for range 10 { // two servers listen, and some of these reach the new one
				if s, status := protocols[0].open(g, "/new/echo", bearer(sign(another, contact("mark", "a")))); status == http.StatusSwitchingProtocols {
					opened = append(opened, s)
				} else {
					s.close()
				}
			}
			if revoke {
				o.want(200, "POST", "messengers/stored/revocations", map[string]any{"jti": "a"})
				revoke = false
			}
		})
		if got := chat.ended(); got != "4403 token_revoked" {
			t.Errorf("the revoked chat ended with %q", got)
		}
		for _, s := range opened {
			if got := s.ended(); got != "4403 token_revoked" {
				t.Errorf("a chat of a messenger that no configuration has ended with %q", got)
			}
		}
		t.Logf("%d connections were opened through configurations that never ran", len(opened))
		patiently(t, "no connection is counted", func() bool { return g.connections().Open == 0 })
	})
}

// A messenger is removed, and one of the same name comes with the next reload, however soon: the chats of the first end.
func TestMessengerThatIsRemovedAndAddedAgain(t *testing.T) {
	if !alone(t) {
		return
	}
	up := newChat(t)
	for range 5 {
		first, second := newSecret(), newSecret()
		g := start(t, up.upstream, sharedMessenger(t, "support", first, ""), "messenger_auth support\n"+proxyWithDelay)
		s, status := protocols[0].open(g, "/idle", bearer(sign(first, contact("mark", "a"))))
		if status != http.StatusSwitchingProtocols {
			t.Fatal(status)
		}
		g.load(sharedMessenger(t, "sales", second, ""), "messenger_auth sales\n"+proxyWithDelay)
		g.load(sharedMessenger(t, "support", second, ""), "messenger_auth support\n"+proxyWithDelay)
		if got := s.ended(); got != "4403 token_revoked" {
			t.Fatalf("it ended with %q", got)
		}
	}
}
