package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
)

// One more revocation costs the same with 10,000 there, on the node that makes it and on one that follows. The storage is in
// memory, so that the cost is that of the gateway.
func BenchmarkOneMoreRevocation(b *testing.B) {
	for _, there := range []int{0, 9_000} { // each more is undone again, so that there is room
		for _, name := range []string{"support", "acme"} {
			b.Run("writer/"+name+"/"+strconv.Itoa(there), func(b *testing.B) {
				s := newServer()
				writer := newTestNode(b, s, "writer")
				prepare(b, writer)
				fillRevocations(b, writer, name, there)
				for i := 0; b.Loop(); i++ {
					if i%900 == 899 {
						b.StopTimer()
						undoRevocations(b, writer, name)
						b.StartTimer()
					}
					if _, err := writer.Revoke(b.Context(), name, Revocation{TokenID: TokenID(fmt.Sprint("more ", i))}, "test"); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("follower/"+name+"/"+strconv.Itoa(there), func(b *testing.B) {
				s := newServer()
				writer, follower := newTestNode(b, s, "writer"), newTestNode(b, s, "follower")
				prepare(b, writer)
				fillRevocations(b, writer, name, there)
				follower.kids(name)
				follower.settle()
				for i := 0; b.Loop(); i++ {
					b.StopTimer()
					if i%900 == 899 {
						undoRevocations(b, writer, name)
						follower.settle()
					}
					if _, err := writer.Revoke(b.Context(), name, Revocation{TokenID: TokenID(fmt.Sprint("more ", i))}, "test"); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
					follower.Store.poll(b.Context())
				}
			})
		}
	}
}

// fillRevocations writes revocations as a busy node does, a hundred in a batch.
func fillRevocations(b *testing.B, n *testNode, name string, count int) {
	b.Helper()
	incarnation := ""
	for _, j := range n.Store.held(name) {
		incarnation = j.current()
	}
	for i := 0; i < count; i += 100 {
		var texts []json.RawMessage
		for k := range 100 {
			v := Revocation{TokenID: TokenID(fmt.Sprint("token ", i+k))}.at(&config.Messenger{}, time.Now())
			f := newFact(factRevoke, time.Now())
			f.Revocation = &v
			text, err := json.Marshal(f)
			if err != nil {
				b.Fatal(err)
			}
			texts = append(texts, text)
		}
		if _, err := n.Store.writer.Append(context.Background(), folder(name, incarnation), true, texts); err != nil {
			b.Fatal(err)
		}
	}
}

// undoRevocations undoes those that the benchmark has made.
func undoRevocations(b *testing.B, n *testNode, name string) {
	b.Helper()
	for _, j := range n.Store.held(name) {
		undo := newFact(factUndo, time.Now())
		j.view(func(_ string, l *ledger) {
			for f := range l.active() {
				if id := string(f.Revocation.TokenID); len(id) > 4 && id[:4] == "more" {
					undo.Of = append(undo.Of, f.ID)
				}
			}
		})
		if _, err := n.Store.write(context.Background(), j, j.current(), true, undo); err != nil {
			b.Fatal(err)
		}
	}
}
