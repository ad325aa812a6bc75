package integration

import (
	"testing"
	"time"
)

// A contact has sent all the requests that it may, has the connections that it may, and has used a ticket. A change of the
// configuration, also one that makes the gateway open its store anew, gives it nothing back.
func TestLimitsSurviveReloads(t *testing.T) {
	messengers, secret := strict(t, "")
	store := " store {\n  key {file." + storeKeyFile(t) + "}\n }\n"
	limited := func(limit string) string {
		return "messenger_auth support {\n contact_limit {\n " + limit + "\n }\n}\nreverse_proxy UPSTREAM {\n stream_close_delay 1h\n}\n"
	}
	site := ticketRoute("support", "", "reverse_proxy UPSTREAM") + "handle /requests/* {\n" + limited("requests 2/1h") + "}\nhandle {\n" + limited("connections 1") + "}\n"
	g := start(t, newChat(t).upstream, "messenger {\n"+store+"}\n"+messengers, site)
	raw := sign(secret, claims{"identity": "reloaded", "exp": time.Now().Unix() + 600})
	token := bearer(raw)
	used, kept := ticketOf(t, g.url+"/support/ticket", raw, ""), ticketOf(t, g.url+"/support/ticket", raw, "")
	if a := g.get("/support/hello?ticket=" + used); a.status != 200 {
		t.Fatalf("the ticket: got %d %s", a.status, a.body)
	}
	for range 2 {
		g.get("/requests/hello", token)
	}
	open, status := protocols[0].open(g, "/echo", token)
	if status != 101 {
		t.Fatalf("the connection: got %d", status)
	}
	for name, more := range map[string]string{"a reload": "", "a reload with another store": " jwks_internal_hosts keys.example.com\n"} {
		g.load("messenger {\n"+store+more+"}\n"+messengers, site+"header X-Reloaded \""+name+"\"\n")
		if a := g.get("/support/hello?ticket=" + used); a.status != 401 || a.code(t) != "ticket_used" {
			t.Errorf("%s: the used ticket got %d %s", name, a.status, a.body)
		}
		if a := g.get("/requests/hello", token); a.status != 429 {
			t.Errorf("%s: one more request got %d", name, a.status)
		}
		if a := g.get("/quiet", token, "Accept: text/event-stream"); a.status != 429 || a.code(t) != "too_many_connections" {
			t.Errorf("%s: one more connection got %d", name, a.status)
		}
	}
	if a := g.get("/support/hello?ticket=" + kept); a.status != 200 {
		t.Errorf("a ticket from before: got %d %s", a.status, a.body)
	}
	open.close()
}
