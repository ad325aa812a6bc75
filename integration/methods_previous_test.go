package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// What is made from a token of the previous method lives no longer than that: a ticket has the token in it, which is verified again when
// the ticket is used. A key that both methods have is not a previous one: its tokens, tickets and chats go on.
func TestCredentialsExpireWithThePreviousMethod(t *testing.T) {
	if !alone(t) {
		return
	}
	up := newChat(t)
	key := func(which int) string {
		return " public_key {file." + write(t, fmt.Sprint("key", which, ".pem"), publicPEM(rsaKey(which))) + "}\n"
	}
	both := key(0)
	options := func(until time.Time) string {
		return "messenger support {\n identity_key identity\n clock_skew 0s\n" + both + " previous " + until.UTC().Format(time.RFC3339) + " {\n" + key(1) + strings.TrimSuffix(both, "\n") + " kid a\n }\n}\n"
	}
	site := ticketRoute("support", "", "respond /support/x there\nreverse_proxy UPSTREAM {\n stream_close_delay 1h\n}")
	g := start(t, up.upstream, options(time.Now().Add(time.Hour)), site)
	former, current := sign(rsaKey(1), valid("mark")), signWithKID(rsaKey(0), "a", valid("mark"))
	ticket := func(token string) string {
		return "/support/x?ticket=" + ticketOf(t, g.url+"/support/ticket", token, "")
	}
	chats := make(map[string]*socket)
	for _, token := range []string{former, current} {
		if a := g.get(ticket(token)); a.status != 200 {
			t.Fatalf("a ticket before: got %d %s", a.status, a.body)
		}
		chat, status := protocols[0].open(g, "/support/echo", bearer(token))
		if status != 101 {
			t.Fatalf("a chat before: got %d", status)
		}
		chats[token] = chat
	}
	lateFormer, lateCurrent := ticket(former), ticket(current)
	until := time.Now().Add(2 * time.Second).Truncate(time.Second)
	g.load(options(until), site)
	if end := chats[former].ended(); end != "4403 token_revoked" || time.Now().Before(until) {
		t.Errorf("the chat of the previous method ended with %q, %s before its time", end, time.Until(until))
	}
	if a := g.get(lateFormer); a.status != 401 || a.code(t) != "signature_invalid" {
		t.Errorf("a ticket of the previous method: got %d %s", a.status, a.body)
	}
	if a := g.get(lateCurrent); a.status != 200 {
		t.Errorf("a ticket of the key that both have: got %d %s", a.status, a.body)
	}
	if !chats[current].answers("still here") {
		t.Error("the chat of the key that both have is gone")
	}
}
