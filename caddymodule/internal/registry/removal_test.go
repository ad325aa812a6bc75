package registry

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
)

// A node stops before or after any step of a removal of what has outlived its use. It never goes on, or it does so after others
// have removed the same, and made new messengers, tokens and revocations. Nothing that was revoked is valid again, nothing else
// is removed, and nodes agree.
func TestNodeCrashDuringARemoval(t *testing.T) {
	offset := clock(t)
	most := 0
	for step := 1; step == 1 || step <= most; step++ {
		for _, then := range []string{"dies before it", "dies after it", "goes on later"} {
			t.Run(fmt.Sprintf("step %d, %s", step, then), func(t *testing.T) {
				offset.Store(0)
				synctest.Test(t, func(t *testing.T) {
					most = max(most, stopInRemoval(t, step, then, func(d time.Duration) { offset.Store(int64(d)) }))
				})
			})
		}
	}
	if most < 5 {
		t.Errorf("a removal has %d steps, which shows little", most)
	}
}

func (n *testNode) prune() {
	n.Store.rereadHeld(n.t.Context(), noWait)
	for _, name := range n.Store.names() {
		for _, j := range n.Store.held(name) {
			if j.Prune(n.t.Context(), n.Store.Vault, Now()) != nil {
				return // as a sweep does
			}
		}
	}
}

// activeTokens returns the kids of the shared tokens without an end.
func (n *testNode) activeTokens(name string) (kids string) {
	_ = n.kids(name) // reads it, if it is not held
	for _, j := range n.Store.held(name) {
		for _, token := range j.Record().ActiveTokens() {
			if token.End == nil {
				kids += token.KeyID + " "
			}
		}
	}
	return kids
}

// stopInRemoval returns how many steps the removal has.
func stopInRemoval(t *testing.T, step int, then string, clock func(time.Duration)) (steps int) {
	s := newServer()
	a, b, c := newTestNode(t, s, "a"), newTestNode(t, s, "b"), newTestNode(t, s, "c")
	prepare(t, a)
	issued := Now().Add(-time.Minute)
	soon := Now().Add(time.Hour)
	for _, name := range []string{"support", "acme"} {
		a.revoke(name, revocation.Revocation{TokenID: "forever"}, "test")
		b.revoke(name, revocation.Revocation{Identity: "mark"}, "test")
		for i := range 3 {
			b.revoke(name, revocation.Revocation{TokenID: revocation.TokenID(fmt.Sprint("expiring ", i)), Until: &soon, Exact: true}, "test")
		}
		a.change(name, ledger.RotateTokens(time.Hour))
		b.settle()
	}
	a.put("bolt", sharedTokenSettings(0))
	leaked := a.change("bolt", ledger.GenerateToken())
	b.settle()
	if _, _, err := b.Remove(t.Context(), "bolt", change.Condition{}); err != nil {
		t.Fatal(err)
	}
	agree(t, "before", a, b, c)
	tokens := map[string]string{"support": a.activeTokens("support"), "acme": a.activeTokens("acme")}

	clock(3 * 24 * time.Hour)
	held, released := make(chan struct{}), make(chan struct{})
	a.storage.setBefore(func(op, key string) error {
		if op != "delete" {
			return nil
		}
		switch steps++; {
		case steps < step:
			return nil
		case then == "goes on later":
			if steps == step {
				close(held)
				<-released
			}
			return nil
		case then == "dies after it" && steps == step:
			delete(s.values, key) // nothing else runs
		}
		return errFailed
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.prune()
	}()
	synctest.Wait()
	if then != "goes on later" {
		<-done
		a.stop()
	}
	b.prune()
	b.put("bolt", sharedTokenSettings(time.Hour))
	made := b.change("bolt", ledger.GenerateToken())
	for _, name := range []string{"support", "acme", "bolt"} {
		b.revoke(name, revocation.Revocation{TokenID: "later"}, "test")
	}
	if then == "goes on later" {
		close(released)
		<-done
		a.storage.setBefore(nil)
	}
	c.prune()
	nodes := []*testNode{b, c, newTestNode(t, s, "fresh")}
	if then == "goes on later" {
		nodes = append(nodes, a)
	}
	for _, n := range nodes {
		n.settle()
		for _, name := range []string{"support", "acme"} {
			for what, refused := range map[string]bool{
				"a token that was revoked":      n.refuses(name, "zoe", "forever", issued),
				"a contact who was revoked":     n.refuses(name, "mark", "any", issued),
				"a token that was revoked then": n.refuses(name, "zoe", "later", issued),
			} {
				if !refused {
					t.Errorf("node %s: %s is valid at %s", n.name, what, name)
				}
			}
			if n.refuses(name, "zoe", "other", issued) {
				t.Errorf("node %s: another token is refused at %s", n.name, name)
			}
			if got := n.activeTokens(name); got != tokens[name] {
				t.Errorf("node %s: %s has the shared tokens %s, want %s", n.name, name, got, tokens[name])
			}
		}
		if got := n.kids("bolt"); got != made || got == leaked || !n.refuses("bolt", "zoe", "later", issued) {
			t.Errorf("node %s: the messenger of a deleted one's name has the tokens %q, want %q", n.name, got, made)
		}
	}
	return steps
}
