package integration

import (
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// An attacker asks for made-up messengers until that of an open chat would have left the memory. The reset ends the chat
// all the same, and tells the operator how many it has ended. Lookups are limited, and so it takes half a minute: it runs
// with MESSENGER_SOAK=1.
func TestResetClosesConnectionsDuringAFloodOfNames(t *testing.T) {
	if !soaking() {
		t.Skip("not run: MESSENGER_SOAK=1 is not set")
	}
	g := newGateway(t, newChat(t).upstream, "http://")
	g.unlogged = true
	g.load("", echoSite)
	o := g.operator()
	o.put("support", generated)
	first := o.generate("support")
	chat := g.openEcho("support", first.signed())
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	defer client.CloseIdleConnections()
	var all sync.WaitGroup
	for worker := range 16 {
		all.Go(func() {
			for i := range 1200 {
				resp, err := client.Get(fmt.Sprintf("%s/name-%d-%d/echo", g.url, worker, i))
				if err == nil {
					_ = resp.Body.Close()
				}
			}
		})
	}
	all.Wait()
	_ = chat.writer.(net.Conn).SetDeadline(time.Now().Add(patience))
	chat.lives(t, "the contact, behind the flood")
	var answer struct {
		Ended *int `json:"connections_ended"`
	}
	decode(t, o.want(201, "POST", "messengers/support/tokens/reset", map[string]any{"close_connections": true}).body, &answer)
	if answer.Ended == nil || *answer.Ended != 1 {
		t.Errorf("the operator is told of %v connections", answer.Ended)
	}
	if got := chat.ended(); got != "4403 token_revoked" {
		t.Errorf("told %q", got)
	}
}
