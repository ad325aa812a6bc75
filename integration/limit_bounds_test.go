package integration

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// atOnce sends a request for each token at the same moment, and returns how many answers of each status there were.
func (g *gateway) atOnce(tokens []string) map[int]int {
	g.t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	got := make(map[int]int)
	start := make(chan struct{})
	for _, token := range tokens {
		wg.Go(func() {
			<-start
			status := g.get("/", bearer(token)).status
			mu.Lock()
			defer mu.Unlock()
			got[status]++
		})
	}
	close(start)
	wg.Wait()
	return got
}

// A bot does not send its guesses one after another, but all at once. Each of an unknown key waits until the key set was
// fetched once more, and all of them were read before the first was counted.
func TestConcurrentForgedTokensAreReadWithinTheLimit(t *testing.T) {
	keys := newKeyServer(t, publicJWK(rsaKey(0), "a"))
	crowd := unusedName("crowd")
	g := start(t, nil, "messenger "+crowd+" {\n identity_key identity\n fail_limit 5/1h\n jwks "+keys.url+"\n}", "messenger_auth "+crowd+"\nrespond ok")
	known := signWithKID(rsaKey(0), "a", valid("mark"))
	eventually(t, "the first token passes", func() bool { return g.get("/", bearer(known)).status == 200 })
	release := make(chan struct{})
	publish := keys.fetches.Load()
	keys.behave(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
		_, _ = w.Write([]byte(mustJSON(map[string]any{"keys": []jwk{publicJWK(rsaKey(0), "a")}})))
	})
	guesses := make([]string, 200)
	for i := range guesses {
		guesses[i] = signWithKID(rsaKey(1), fmt.Sprint("guess ", i), valid("eve"))
	}
	go func() {
		for keys.fetches.Load() == publish && t.Context().Err() == nil {
			time.Sleep(10 * time.Millisecond) // a poll of the server, which tells nothing by itself
		}
		close(release)
	}()
	got := g.atOnce(guesses)
	if keys.fetches.Load() == publish {
		t.Error("the key set was not fetched")
	}
	if got[401] > 5 || got[401]+got[429] != len(guesses) {
		t.Errorf("got %v, want 5 with 401 and the others with 429", got)
	}
	if a := g.get("/", bearer(known)); a.status != 200 {
		t.Errorf("a token that was verified before: got %d %s", a.status, a.body)
	}
}

// A company has one address, and everybody comes to work at nine. None of their new tokens is refused because others are
// being read.
func TestConcurrentValidTokensAreNotLimited(t *testing.T) {
	secret := newSecret()
	g := start(t, nil, "messenger office {\n identity_key identity\n fail_limit 5/1h\n shared_token {file."+write(t, "secret", []byte(secret))+"}\n}", "messenger_auth office\nrespond ok")
	tokens := make([]string, 300)
	for i := range tokens {
		claims := valid(fmt.Sprint("employee ", i))
		if i%3 == 0 {
			claims["exp"] = claims["iat"].(int64) - 7200 // a page that was open overnight
		}
		tokens[i] = sign(secret, claims)
	}
	if got := g.atOnce(tokens); got[200] != 200 || got[401] != 100 {
		t.Errorf("got %v", got)
	}
}

// The gateway was restarted, and has no store key: tickets from before look like made-up ones. Nobody is limited because of them, while
// tickets that were changed count.
func TestTicketsFromBeforeARestartAreNotCountedAsForged(t *testing.T) {
	secret, name := newSecret(), unusedName("tickets")
	g := start(t, nil, "messenger "+name+" {\n identity_key identity\n fail_limit 3/1h\n shared_token {file."+write(t, "secret", []byte(secret))+"}\n}", ticketRoute(name, "", "respond ok"))
	path := "/" + name + "/"
	given := ticketOf(t, g.url+path+"ticket", sign(secret, valid("mark")), "")
	before := make([]byte, 300)
	for range 10 {
		_, _ = rand.Read(before)
		if a := g.get(path + "?ticket=" + base64.RawURLEncoding.EncodeToString(before)); a.status != 401 || a.code(t) != "ticket_invalid" {
			t.Fatalf("a ticket from before: got %d %s", a.status, a.body)
		}
	}
	if a := g.get(path, bearer(sign(secret, valid("zoe")))); a.status != 200 {
		t.Errorf("a new token from the same address: got %d %s", a.status, a.body)
	}
	for range 3 {
		_ = g.get(path + "?ticket=" + flipped(given))
	}
	if a := g.get(path + "?ticket=" + flipped(given)); a.status != 429 {
		t.Errorf("changed tickets: got %d %s", a.status, a.body)
	}
}

// A proxy on the same machine passes requests on over a Unix socket, and Caddy is not configured to trust it. Without client
// addresses all clients count as one: the limit applies to all of them together, and a warning says so.
func TestClientsOfAUnixSocketAreLimitedAsOne(t *testing.T) {
	secret, untrusted, trusted := newSecret(), unusedName("untrusted"), unusedName("trusted")
	sock := filepath.Join(sockDir, "site-"+fmt.Sprint(len(secret))+filepath.Base(t.TempDir()))
	options := func(name, servers string) string {
		return "messenger " + name + " {\n identity_key identity\n fail_limit 3/1h\n shared_token {file." + write(t, "secret", []byte(secret)) + "}\n}\n" + servers
	}
	site := func(name string) string { return "bind unix/" + sock + "\nmessenger_auth " + name + "\nrespond ok" }
	client := socketClient(sock)
	status := func(g *gateway, token string, headers ...string) int {
		return g.send(client, http.MethodGet, "/", append(headers, bearer(token))...).status
	}
	const warning = "clients without an address count as one"
	g := start(t, nil, options(untrusted, ""), site(untrusted))
	g.waitForLog(warning)
	for range 3 {
		if got := status(g, sign(newSecret(), valid("eve"))); got != 401 {
			t.Errorf("a guess: got %d", got)
		}
	}
	if got := status(g, sign(newSecret(), valid("eve"))); got != 429 {
		t.Errorf("a guess beyond the limit: got %d", got)
	}
	trusting := start(t, nil, options(trusted, "servers {\n trusted_proxies_unix\n}"), site(trusted))
	for range 4 {
		status(trusting, sign(newSecret(), valid("eve")), "X-Forwarded-For: 192.0.2.1")
	}
	if got := status(trusting, sign(newSecret(), valid("eve")), "X-Forwarded-For: 192.0.2.1"); got != 429 {
		t.Errorf("the bot behind a trusted proxy: got %d", got)
	}
	if got := status(trusting, sign(secret, valid("mark")), "X-Forwarded-For: 192.0.2.2"); got != 200 {
		t.Errorf("another client behind it: got %d", got)
	}
	if log := trusting.logs(); strings.Contains(log, warning) {
		t.Error("a trusted proxy is warned about")
	}
}
