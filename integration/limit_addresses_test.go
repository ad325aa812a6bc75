package integration

import (
	"strings"
	"testing"
)

// Behind another proxy all clients have one address, unless Caddy is told to believe that proxy. Then a bot is limited,
// and nobody beside it.
func TestFailLimitGoesByTheAddressThatTrustedProxiesName(t *testing.T) {
	up := newUpstream(t)
	secret, trusting, plain := newSecret(), unusedName("trusting"), unusedName("plain")
	global := func(name string) string {
		return "messenger " + name + " {\n identity_key identity\n fail_limit 3/1h\n shared_token {file." + write(t, "secret", []byte(secret)) + "}\n}"
	}
	site := func(name string) string { return "messenger_auth " + name + "\nreverse_proxy UPSTREAM" }
	trust := "\nservers {\n trusted_proxies static 127.0.0.0/8\n}"
	forged := sign(newSecret(), valid("mark"))
	from := func(client string) string { return "X-Forwarded-For: " + client }

	g := start(t, up, global(trusting)+trust, site(trusting))
	known := sign(secret, valid("mark"))
	if a := g.get("/", bearer(known), from("192.0.2.1")); a.status != 200 {
		t.Fatalf("a valid token: got %d %s", a.status, a.body)
	}
	for range 3 {
		if a := g.get("/", bearer(forged), from("192.0.2.1")); a.status != 401 {
			t.Fatalf("a forged token: got %d %s", a.status, a.body)
		}
	}
	a := g.get("/", bearer(forged), from("192.0.2.1"))
	if a.status != 429 || a.code(t) != "too_many_failures" || a.header.Get("Retry-After") != "1200" || a.header.Get("WWW-Authenticate") != "" {
		t.Errorf("the bot: got %d %q %s", a.status, a.header, a.body)
	}
	if a := g.get("/", bearer(known), from("192.0.2.1")); a.status != 200 {
		t.Errorf("a token that was seen before, from the bot's address: got %d %s", a.status, a.body)
	}
	if a := g.get("/", bearer(sign(secret, valid("eve"))), from("192.0.2.2")); a.status != 200 {
		t.Errorf("a new token from another address: got %d %s", a.status, a.body)
	}
	if !strings.Contains(g.logs(), `"verdict":"too_many_failures"`) {
		t.Error("the access log does not say so")
	}

	g.load(global(plain), site(plain))
	for _, client := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"} {
		g.get("/", bearer(forged), from(client))
	}
	if a := g.get("/", bearer(forged), from("192.0.2.4")); a.status != 429 {
		t.Errorf("without trusted_proxies a client chooses its address: got %d %s", a.status, a.body)
	}
}
