package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// A hundred reloads with twenty URLs: every key set was fetched once, and nothing piles up.
func TestReloadsFetchNothingAndLeaveNothingBehind(t *testing.T) {
	if !alone(t) {
		return
	}
	var servers []*keyServer
	messengers := ""
	for i := range 20 {
		keys := newKeyServer(t, publicJWK(rsaKey(0), "a"))
		servers = append(servers, keys)
		messengers += fmt.Sprintf("messenger m%d {\n identity_key identity\n audience chat\n jwks %s\n}\n", i, keys.url)
	}
	g := start(t, nil, messengers, "messenger_auth m0\nrespond ok")
	fetched := func() (n int64) {
		for _, s := range servers {
			n += s.fetches.Load()
		}
		return n
	}
	eventually(t, "every key set was fetched", func() bool { return fetched() == 20 })
	g.load(messengers, "messenger_auth m0\nrespond \"n0\"")
	before := settledGoroutines()
	reloads := soak(400)
	for i := range reloads {
		g.replace(g.conf(g.caddyfile(messengers, fmt.Sprintf("messenger_auth m0\nrespond \"n%d\"", i+1))))
	}
	if a := g.get("/", bearer(signWithKID(rsaKey(0), "a", forChat("mark")))); a.status != 200 || a.body != fmt.Sprint("n", reloads) {
		t.Errorf("after the reloads: %d %s", a.status, a.body)
	}
	if n := fetched(); n != 20 {
		t.Errorf("%d fetches, want 20", n)
	}
	if after := settledGoroutines(); after > before+5 {
		t.Errorf("%d goroutines before, %d after", before, after)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the engines have ended", func() bool { return !strings.Contains(stacks(), "authn.(*JWKS)") })
}

// refresh asks the running gateway to fetch a key set, and returns the status of its answer, or 0 for none: during a
// reload Caddy replaces the admin endpoint.
func (g *gateway) refresh(name string) int {
	resp, err := g.adminClient().Post("http://caddy/messenger/messengers/"+name+"/refresh", "application/json", strings.NewReader("{}"))
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func mustJSON(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// settledGoroutines returns the number of goroutines once it does not sink any more.
func settledGoroutines() int {
	least, since := runtime.NumGoroutine(), time.Now()
	for time.Since(since) < 300*time.Millisecond {
		if n := runtime.NumGoroutine(); n < least {
			least, since = n, time.Now()
		}
		time.Sleep(10 * time.Millisecond)
	}
	return least
}

func stacks() string {
	buffer := make([]byte, 8<<20)
	return string(buffer[:runtime.Stack(buffer, true)])
}

// Everything at once: requests, refreshes, reloads and rotations. A valid token always passes. Run with -race.
func TestVerifyRefreshReloadAndRotateAtOnce(t *testing.T) {
	if !alone(t) {
		return
	}
	keys := newKeyServer(t, publicJWK(rsaKey(0), "a"))
	g := start(t, nil, jwksMessenger(keys.url), "messenger_auth support\nrespond ok")
	token := bearer(signWithKID(rsaKey(0), "a", forChat("mark")))
	if a := g.get("/", token); a.status != 200 {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	stop := make(chan struct{})
	var others sync.WaitGroup
	loop := func(f func(i int)) {
		others.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					f(i)
				}
			}
		})
	}
	loop(func(int) { g.refresh("support") })
	loop(func(i int) { keys.publish(publicJWK(rsaKey(0), "a"), publicJWK(rsaKey(1), fmt.Sprint("b", i%3))) })
	loop(func(i int) { g.status(bearer(signWithKID(rsaKey(1), fmt.Sprint("b", i%3), forChat("eve")))) })
	others.Go(func() {
		for i := range 10 {
			g.load(jwksMessenger(keys.url), fmt.Sprintf("messenger_auth support\nrespond \"ok %d\"", i))
		}
	})
	for range 200 {
		if status := g.status(token); status != 200 && status != 0 {
			t.Errorf("a valid token: got %d", status)
			break
		}
	}
	close(stop)
	others.Wait()
}

// status sends a GET and returns the status of the answer, or 0 for none: during a reload Caddy may close a connection
// that the old server has accepted.
func (g *gateway) status(authorization string) int {
	r, err := http.NewRequest(http.MethodGet, g.url, nil)
	if err != nil {
		return 0
	}
	r.Header.Set("Authorization", strings.TrimPrefix(authorization, "Authorization: "))
	resp, err := plainClient.Do(r)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}
