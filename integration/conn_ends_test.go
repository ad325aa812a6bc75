package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// connected is what GET /messenger/connections answers.
type connected struct {
	Open       int
	Messengers []struct {
		Messenger string
		Open      int
		Oldest    time.Time
		NextEnd   time.Time `json:"next_end"`
	}
}

func (g *gateway) connections() (all connected) {
	g.t.Helper()
	status, body := g.admin(http.MethodGet, "connections", "")
	if err := json.Unmarshal([]byte(body), &all); status != 200 || err != nil {
		g.t.Fatalf("got %d %s", status, body)
	}
	return all
}

// A thousand WebSockets: nothing of the gateway's own runs for any of them, an operator sees them and ends exactly the
// ones that are meant, and when all of them end at once no request waits for that.
func TestManyWebSockets(t *testing.T) {
	if !alone(t) {
		return
	}
	messengers, secret := strict(t, "")
	up := newChat(t)
	n := soak(1000)
	g := start(t, up.upstream, messengers, guardedSite)
	before := settledGoroutines()
	sockets := make([]*socket, n)
	for i := range sockets {
		token, _ := lasting(secret, fmt.Sprintf("contact-%d", i/2), time.Hour)
		s, status := protocols[0].open(g, "/echo", token)
		if status != 101 {
			t.Fatalf("number %d: got %d", i, status)
		}
		sockets[i] = s
	}
	if all := g.connections(); all.Open != n || len(all.Messengers) != 1 || all.Messengers[0].Messenger != "support" ||
		time.Until(all.Messengers[0].NextEnd) < 50*time.Minute || time.Since(all.Messengers[0].Oldest) > time.Minute {
		t.Errorf("the operator sees %+v", all)
	}
	if all := stacks(); strings.Contains(all, "created by github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session") {
		t.Error("the gateway runs goroutines for connections that are open")
	}

	if status, body := g.admin(http.MethodPost, "connections/end", `{"messenger":"support","identity":"contact-7"}`); status != 200 || body != `{"ended":2}` {
		t.Errorf("ending those of one contact: got %d %s", status, body)
	}
	for i, s := range sockets {
		if i/2 == 7 {
			if got := s.ended(); got != "4403 token_revoked" {
				t.Errorf("number %d was told %q", i, got)
			}
			continue
		}
		s.send(1, "hello")
		if got := string(s.next().payload); got != "hello" {
			t.Errorf("number %d got %q", i, got)
		}
	}

	var told sync.WaitGroup
	for i, s := range sockets {
		if i/2 != 7 {
			told.Go(func() {
				if got := s.ended(); got != "4403 token_revoked" {
					t.Errorf("number %d was told %q", i, got)
				}
				s.close()
			})
		}
	}
	if status, body := g.admin(http.MethodPost, "connections/end", `{"messenger":"support"}`); status != 200 || body != fmt.Sprintf(`{"ended":%d}`, n-2) {
		t.Errorf("ending all: got %d %s", status, body)
	}
	token, _ := lasting(secret, "mark", time.Hour)
	for range 20 {
		if a := g.get("/hello", token); a.status != 200 || a.body != "hello" {
			t.Errorf("a request in the meantime: got %d %q", a.status, a.body)
		}
	}
	told.Wait()
	eventually(t, "no connection is left", func() bool { return g.connections().Open == 0 })
	plainClient.CloseIdleConnections()
	eventually(t, "no goroutine is left", func() bool { return settledGoroutines() <= before+5 })
}

// A request without a filter closes nothing. Neither does a filter that must be a mistake.
func TestEndingConnectionsNeedsAFilter(t *testing.T) {
	messengers, secret := strict(t, "")
	up := newChat(t)
	g := start(t, up.upstream, messengers, guardedSite)
	token, _ := lasting(secret, "mark", time.Hour)
	s, _ := protocols[0].open(g, "/echo", token)
	for body, want := range map[string]int{
		``:                                      400,
		`{}`:                                    400,
		`{"identity":"mark"}`:                   400,
		`{"token_id":"1"}`:                      400,
		`{"messenger":"other"}`:                 404,
		`{"messenger":"support","identiy":"m"}`: 400,
		`{"messenger":"support","issued_before":"yesterday"}`: 400,
		`[]`: 400,
	} {
		if status, answer := g.admin(http.MethodPost, "connections/end", body); status != want {
			t.Errorf("%s: got %d %s, want %d", body, status, answer, want)
		}
	}
	if status, answer := g.admin(http.MethodPost, "connections/end", `{"messenger":"support","identity":"eve"}`); status != 200 || answer != `{"ended":0}` {
		t.Errorf("another contact: got %d %s", status, answer)
	}
	if status, _ := g.admin(http.MethodGet, "connections/end", ""); status != 405 {
		t.Errorf("GET: got %d", status)
	}
	if status, _ := g.admin(http.MethodGet, "connections/none", ""); status != 404 {
		t.Errorf("a path that is none: got %d", status)
	}
	s.send(1, "hello")
	if got := string(s.next().payload); got != "hello" {
		t.Errorf("got %q", got)
	}
	if status, answer := g.admin(http.MethodPost, "connections/end", `{"messenger":"support","issued_before":"2100-01-01T00:00:00Z"}`); status != 200 || answer != `{"ended":1}` {
		t.Errorf("by time: got %d %s", status, answer)
	}
	if got := s.ended(); got != "4403 token_revoked" {
		t.Errorf("the client was told %q", got)
	}
}

// A connection must not outlive the key that signed its token: not when the key server drops the key, not when an operator
// distrusts the set, and not when the messenger is deleted.
func TestConnectionsOfARemovedKeyEnd(t *testing.T) {
	const site = "messenger_auth support\nreverse_proxy UPSTREAM {\nstream_close_delay 5m\n}"
	check := func(t *testing.T, g *gateway, key any, kid string, remove func()) {
		t.Helper()
		s, status := protocols[0].open(g, "/echo", bearer(signWithKID(key, kid, forChat("mark"))))
		if status != 101 {
			t.Fatalf("got %d", status)
		}
		remove()
		if got := s.ended(); got != "4403 token_revoked" {
			t.Errorf("the client was told %q", got)
		}
	}
	messenger := func(path string) string {
		return "messenger support {\n identity_key identity\n public_key {file." + path + "}\n}\nmessenger {\n poll_interval 50ms\n}"
	}
	t.Run("the messenger", func(t *testing.T) {
		file := write(t, "a.pem", publicPEM(rsaKey(0)))
		g := start(t, newChat(t).upstream, messenger(file), site)
		check(t, g, rsaKey(0), "", func() {
			renamed := strings.Replace(messenger(file), "messenger support", "messenger sales", 1)
			g.load(renamed, strings.Replace(site, "support", "sales", 1))
		})
	})
	t.Run("a key set", func(t *testing.T) {
		keys := newKeyServer(t, publicJWK(rsaKey(0), "a"), publicJWK(rsaKey(1), "b"))
		g := start(t, newChat(t).upstream, jwksMessenger(keys.url), site)
		other, _ := protocols[0].open(g, "/echo", bearer(signWithKID(rsaKey(1), "b", forChat("eve"))))
		check(t, g, rsaKey(0), "a", func() {
			keys.publish(publicJWK(rsaKey(1), "b"))
			if status := g.refresh("support"); status != 200 {
				t.Errorf("refreshing: got %d", status)
			}
		})
		other.send(1, "hello")
		if got := string(other.next().payload); got != "hello" {
			t.Errorf("one of another key got %q", got)
		}
	})
	t.Run("a key set that is distrusted", func(t *testing.T) {
		keys := newKeyServer(t, publicJWK(rsaKey(0), "a"))
		g := start(t, newChat(t).upstream, jwksMessenger(keys.url), site)
		check(t, g, rsaKey(0), "a", func() {
			keys.behave(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
			if status, body := g.admin(http.MethodPost, "messengers/support/refresh", `{"distrust":true}`); status != 502 {
				t.Errorf("refreshing: got %d %s", status, body)
			}
		})
	})
}
