package registry

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
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
					if _, err := writer.Revoke(b.Context(), name, revocation.Revocation{TokenID: revocation.TokenID(fmt.Sprint("more ", i))}, "test"); err != nil {
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
					if _, err := writer.Revoke(b.Context(), name, revocation.Revocation{TokenID: revocation.TokenID(fmt.Sprint("more ", i))}, "test"); err != nil {
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
	j := n.Store.held(name)[0]
	for i := 0; i < count; i += 100 {
		var all []*ledger.Fact
		incarnation := ""
		for k := range 100 {
			in, facts, err := j.Revoke(revocation.Revocation{TokenID: revocation.TokenID(fmt.Sprint("token ", i+k))}, &config.Messenger{}, time.Now())
			if err != nil {
				b.Fatal(err)
			}
			incarnation, all = in, append(all, facts...)
		}
		if _, err := n.Store.Write(context.Background(), j, incarnation, true, all...); err != nil {
			b.Fatal(err)
		}
	}
}

// undoRevocations undoes those that the benchmark has made.
func undoRevocations(b *testing.B, n *testNode, name string) {
	b.Helper()
	j := n.Store.held(name)[0]
	var all []*ledger.Fact
	incarnation := ""
	for _, v := range j.Revocations(0, time.Now()) {
		if id := string(v.TokenID); len(id) > 4 && id[:4] == "more" {
			in, undo, err := j.Undo(&v, time.Now())
			if err != nil {
				b.Fatal(err)
			}
			incarnation, all = in, append(all, undo)
		}
	}
	if len(all) == 0 {
		return
	}
	if _, err := n.Store.Write(context.Background(), j, incarnation, true, all...); err != nil {
		b.Fatal(err)
	}
}
