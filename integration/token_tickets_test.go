package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// ticketRoute is a route that gives and takes tickets.
func ticketRoute(name, options, next string) string {
	return fmt.Sprintf("handle /%s/* {\n messenger_auth %[1]s {\n  token_from header Authorization Bearer\n  token_from ticket ticket\n  ticket_path /%[1]s/ticket\n %s\n }\n %s\n}\n", name, options, next)
}

// ticketOf asks for a ticket at a path, with a body.
func ticketOf(t testing.TB, url, token, body string) string {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	got := sendRequest(plainClient, r)
	if got.err != nil || got.status != http.StatusCreated || got.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("asking for a ticket: %s, %v", got, got.header)
	}
	var given struct {
		Ticket    string `json:"ticket"`
		ExpiresIn int    `json:"expires_in"`
	}
	if err := json.Unmarshal([]byte(got.body), &given); err != nil || given.ExpiresIn < 0 || given.ExpiresIn > 300 {
		t.Fatalf("the answer is %s", got.body)
	}
	search.secret(given.Ticket)
	return given.Ticket
}

// Tickets at the wrong place, at the wrong time, and of the wrong people. Then one that is used as it is meant.
func TestTickets(t *testing.T) {
	up := newUpstream(t)
	keys, messengers := map[string]string{}, ""
	for _, name := range []string{"support", "sales"} {
		keys[name] = newSecret()
		messengers += "messenger " + name + " {\n identity_key identity\n shared_token {file." + write(t, name, []byte(keys[name])) + "}\n allowed_origin https://www.example.com\n clock_skew 0s\n}\n"
	}
	g := start(t, up, messengers, ticketRoute("support", "logout_path /support/logout", "reverse_proxy UPSTREAM")+
		ticketRoute("sales", "ticket_lifetime 1s", "reverse_proxy UPSTREAM"))
	token := func(name, jti string) string {
		return sign(keys[name], claims{"identity": "mark", "jti": jti, "exp": time.Now().Unix() + 600})
	}
	support := func(body string) string { return ticketOf(t, g.url+"/support/ticket", token("support", "a"), body) }
	refused := func(what, code string, a answer) {
		t.Helper()
		if a.status < 400 || a.code(t) != code {
			t.Errorf("%s: got %d %s, want %s", what, a.status, a.body, code)
		}
		up.none(t)
	}
	handshake := func(text, origin string) answer {
		return g.raw("GET /support/echo?ticket=" + text + " HTTP/1.1\r\nHost: " + g.addr + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: " + origin + "\r\n\r\n")
	}

	used := support("")
	if a := g.get("/support/files/7?a=1&ticket="+used+"&b=%20", "Referer: "+g.url+"/support/?ticket="+used); a.status != 200 {
		t.Fatalf("a ticket: got %d %s", a.status, a.body)
	}
	if r := up.one(t); r.header.Get("X-Contact-Identity") != "mark" || r.uri != "/support/files/7?a=1&b=%20" || strings.Contains(r.header.Get("Referer"), "ticket") {
		t.Errorf("the backend got %+v", r)
	}
	refused("a second use", "ticket_used", g.get("/support/files/7?ticket="+used))
	fresh := support("")
	refused("a flipped bit", "ticket_invalid", g.get("/support/x?ticket="+flipped(fresh)))
	refused("a token in its place", "ticket_invalid", g.get("/support/x?ticket="+token("support", "a")))
	refused("another messenger", "ticket_invalid", g.get("/sales/x?ticket="+fresh))
	refused("a ticket and a token", "token_ambiguous", g.get("/support/x?ticket="+fresh, bearer(token("support", "a"))))
	refused("two tickets", "token_ambiguous", g.get("/support/x?ticket="+fresh+"&ticket="+used))
	refused("a POST", "token_missing", g.do(http.MethodPost, "/support/x?ticket="+fresh))
	refused("a ticket for a ticket", "token_missing", g.do(http.MethodPost, "/support/ticket?ticket="+fresh))
	refused("a page of another origin", "origin_not_allowed", g.get("/support/x?ticket="+fresh, "Origin: https://evil.example.com"))
	refused("a socket of another origin", "origin_not_allowed", handshake(fresh, "https://evil.example.com"))
	if a := handshake(fresh, "https://www.example.com"); a.status != http.StatusSwitchingProtocols {
		t.Errorf("none of these has used it: got %d %s", a.status, a.body)
	}
	_ = up.one(t)
	bound := support(`{"path": "/support/files/7"}`)
	for _, path := range []string{"/support/files/8", "/support/files/7/", "/support/files/8/../7", "/support/files/%37", "/support//files/7"} {
		refused(path, "ticket_invalid", g.get(path+"?ticket="+bound))
	}
	if a := g.get("/support/files/7?ticket="+bound, "Origin: https://www.example.com"); a.status != 200 {
		t.Errorf("its own path: got %d %s", a.status, a.body)
	}
	_ = up.one(t)
	short := ticketOf(t, g.url+"/sales/ticket", token("sales", "a"), "")
	expires := time.Now().Add(time.Second)
	eventually(t, "it expires", func() bool { return time.Now().After(expires) })
	refused("after its time", "ticket_expired", g.get("/sales/x?ticket="+short))
	revoked := support("")
	if a := g.do(http.MethodPost, "/support/logout", bearer(token("support", "a"))); a.status != 204 {
		t.Fatalf("the logout: got %d %s", a.status, a.body)
	}
	refused("after the contact was revoked", "token_revoked", g.get("/support/x?ticket="+revoked))
	for _, body := range []string{"{}", "x", `{"path": 7}`, `{"path": "files"}`, `{"path": "/a", "path": "/b"}`, `{"path": "/a", "to": "/b"}`, `{"path": "/` + strings.Repeat("a", 5000) + `"}`} {
		a := g.sendRequest(plainClient, http.MethodPost, "/support/ticket", func(r *http.Request) {
			r.Header.Set("Authorization", "Bearer "+token("support", "b"))
			r.Body = io.NopCloser(bytes.NewReader([]byte(body)))
		})
		refused("the body "+body[:min(len(body), 30)], "ticket_request_invalid", a)
	}
	refused("without a token", "token_missing", g.do(http.MethodPost, "/support/ticket"))
	if a := g.get("/support/ticket", bearer(token("support", "b"))); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "POST" {
		t.Errorf("a GET: got %d %v", a.status, a.header)
	}
	a := g.do(http.MethodOptions, "/support/ticket", "Origin: https://www.example.com", "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization,content-type")
	if got := a.header.Get("Access-Control-Allow-Headers"); a.status != 204 || got != "Authorization, Content-Type" {
		t.Errorf("a preflight: got %d, headers %q", a.status, got)
	}
}

// Each ticket that is given can be used: with the longest token, and for the longest path. What is longer is refused at once.
func TestLongestTicketCanBeUsed(t *testing.T) {
	messengers, secret := strict(t, "")
	g := start(t, nil, messengers, ticketRoute("support", "", "respond ok"))
	token := func(size int) string {
		return sign(secret, claims{"identity": "mark", "pad": strings.Repeat("x", size), "exp": time.Now().Unix() + 600})
	}
	size := 5800
	for len(token(size)) < 8<<10-8 {
		size++
	}
	for _, path := range []string{"/support/x", "/support/" + strings.Repeat("a", 2<<10-len("/support/")), "/support/" + strings.Repeat("é", 300)} {
		text := ticketOf(t, g.url+"/support/ticket", token(size), `{"path": "`+path+`"}`)
		if a := g.get(strings.ReplaceAll(path, "é", "%C3%A9") + "?ticket=" + text); a.status != 200 {
			t.Errorf("a path of %d bytes, a ticket of %d: %d %s", len(path), len(text), a.status, a.body)
		}
	}
	for _, path := range []string{"/support/" + strings.Repeat("a", 2<<10), "/support/" + strings.Repeat("é", 400)} {
		a := g.sendRequest(plainClient, http.MethodPost, "/support/ticket", func(r *http.Request) {
			r.Header.Set("Authorization", "Bearer "+token(1))
			r.Body = io.NopCloser(strings.NewReader(`{"path": "` + path + `"}`))
		})
		if a.status != 400 || a.code(t) != "ticket_request_invalid" {
			t.Errorf("a path of %d bytes: %d %s", len(path), a.status, a.body)
		}
	}
}

// One contact uses tickets as fast as it can. Its tickets are refused when it reaches its limit, with the time after which to try
// again, and those of all others are taken.
func TestTicketsOfOneContactLeaveRoomForOthers(t *testing.T) {
	messengers, secret := strict(t, "allowed_origin https://www.example.com")
	g := start(t, nil, messengers, ticketRoute("support", "websocket_rejection close", "respond ok"))
	use := func(identity string) answer {
		return g.get("/support/x?ticket=" + ticketOf(t, g.url+"/support/ticket", sign(secret, claims{"identity": identity, "exp": time.Now().Unix() + 600}), ""))
	}
	for n := range 600 {
		if a := use("eve"); a.status != 200 {
			t.Fatalf("use %d: got %d %s", n, a.status, a.body)
		}
	}
	if a := use("eve"); a.status != 429 || a.code(t) != "too_many_requests" || a.header.Get("Retry-After") != "60" {
		t.Errorf("one more: got %d %s, %v", a.status, a.body, a.header)
	}
	if a := use("mark"); a.status != 200 {
		t.Errorf("another contact: got %d %s", a.status, a.body)
	}
}

// sideBySide calls do with each number below n, some of them at a time.
func sideBySide(n int, do func(int)) {
	var all sync.WaitGroup
	var next atomic.Int64
	for range 8 {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	all.Wait()
}

// flipped returns a ticket with one bit changed.
func flipped(text string) string {
	changed := []byte(text)
	if changed[40]++; changed[40] == '[' || changed[40] == '{' || changed[40] == ':' || changed[40] == '.' || changed[40] == '`' {
		changed[40] = 'A'
	}
	return string(changed)
}

// What was opened with a ticket has the deadlines of the contact, and ends with a revocation.
func TestStreamOpenedWithATicketEndsWithItsToken(t *testing.T) {
	messengers, secret := strict(t, "max_session 0")
	g := start(t, newChat(t).upstream, messengers, ticketRoute("support", "", "reverse_proxy UPSTREAM"))
	text := ticketOf(t, g.url+"/support/ticket", sign(secret, claims{"identity": "mark", "jti": "a"}), "")
	resp := g.stream(version{"HTTP/1.1", plainClient}, "/support/quiet?ticket="+text)
	eventually(t, "it is counted", func() bool { return g.connections().Open == 1 })
	if status, body := g.admin(http.MethodPost, "messengers/support/revocations", `{"jti":"a"}`); status >= 300 {
		t.Fatalf("revoking: got %d %s", status, body)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || !strings.HasSuffix(string(body), revokedEvent) {
		t.Errorf("it ends with %q, %v", body, err)
	}
}

// Two nodes get a ticket at the same instant, and later again: there are never two winners, and the storage is asked only for
// tickets with a valid seal, twice for each use. Without the storage there is no answer, and no second use afterwards.
func TestTicketIsUsedOnceOnTwoNodes(t *testing.T) {
	onBoth(t, func(t *testing.T, storage string) {
		site := "messenger_health /healthz\n" + ticketRoute("acme", "", "respond ok") + clusterSite
		c := newFaultCluster(t, storage, clusterSettings{site: strings.Replace(site, "messenger_auth acme", "messenger_auth {path.0}", 1)})
		a := c.nodes[0]
		a.mustCall("creating it", http.MethodPut, "messengers/acme", generated)
		secret := a.generate("acme")
		token := sign(secret.Token, contact("mark", "a"))
		c.everywhere("before", "200", "/acme/x", token)
		var calls atomic.Int64
		for _, w := range c.wires {
			w.on(func(s step) fate {
				// Each node lists the minutes that have markers now and then, whatever is used.
				if _, marker, found := strings.Cut(s.key, "_tickets/"); found && marker != "" {
					calls.Add(1)
				}
				return forward
			})
		}
		use := func(i int, text string) string {
			r, err := http.NewRequest(http.MethodGet, c.nodes[i].url+"/acme/x?ticket="+text, nil)
			if err != nil {
				t.Fatal(err)
			}
			return sendRequest(plainClient, r).verdict(t)
		}
		// An attacker has a ticket, and makes others of it. The limit of a contact is for those that were used.
		made, genuine := 1000, ticketOf(t, a.url+"/acme/ticket", token, "")
		if soaking() {
			made = 100_000
		}
		sideBySide(made, func(n int) {
			forged := []byte(genuine)
			if at := n % len(forged); forged[at] == 'A' {
				forged[at] = 'B'
			} else {
				forged[at] = 'A'
			}
			if verdict := use(n%2, string(forged)); verdict != "401 ticket_invalid" {
				t.Errorf("a made-up ticket: %s", verdict)
			}
		})
		if n := calls.Load(); n != 0 {
			t.Errorf("%d made-up tickets caused %d calls of the storage", made, n)
		}
		tries := soak(1000)
		sideBySide(tries, func(n int) {
			one := sign(secret.Token, contact(fmt.Sprint("contact-", n%8), "a"))
			text := ticketOf(t, a.url+"/acme/ticket", one, "")
			var verdicts [2]string
			var both sync.WaitGroup
			for i := range verdicts {
				both.Go(func() { verdicts[i] = use(i, text) })
			}
			both.Wait()
			if verdicts[0] == "200" && verdicts[1] == "200" {
				t.Error("both nodes have taken it")
			}
			for i, verdict := range verdicts {
				if verdict != "200" && verdict != "401 ticket_used" { // on Redis, both lose nearly always
					t.Errorf("node %d: %s", i, verdict)
				}
				if again := use(i, text); again != "401 ticket_used" {
					t.Errorf("node %d afterwards: %s", i, again)
				}
			}
		})
		if n := calls.Load(); storage == onFolder && n > int64(4*tries)+20 { // the nodes look meanwhile what others have written
			t.Errorf("%d calls of the storage for %d uses", n, 2*tries)
		}
		text := ticketOf(t, a.url+"/acme/ticket", token, "")
		if verdict := use(1, text); verdict != "200" {
			t.Errorf("a ticket of the other node: %s", verdict)
		}
		if verdict := use(0, text); verdict != "401 ticket_used" {
			t.Errorf("it was used on the other node: %s", verdict)
		}
		text = ticketOf(t, a.url+"/acme/ticket", token, "")
		restore := c.wires[1].cut()
		if verdict := use(1, text); verdict != "503 store_unavailable" {
			t.Errorf("without the storage: %s", verdict)
		}
		restore()
		if verdict := use(1, text); verdict != "401 ticket_used" {
			t.Errorf("with the storage again: %s", verdict)
		}
	})
}
