package registry

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
)

// A token was revoked, the storage is emptied, and the repair fails after any number of writes: a node that starts then does not verify the
// token, because what ends it is written first.
func TestPartialRepairDoesNotRestoreRevokedTokens(t *testing.T) {
	type end func(a *testNode, name, leaked string)
	for how, end := range map[string]end{
		"revoked": func(a *testNode, name, leaked string) {
			a.change(name, ledger.GenerateToken())
			a.change(name, ledger.RevokeToken(leaked, true))
		},
		"rotated": func(a *testNode, name, _ string) { a.change(name, ledger.RotateTokens(0)) },
		"reset":   func(a *testNode, name, _ string) { a.change(name, ledger.ResetTokens(true)) },
		"rotated and reset": func(a *testNode, name, _ string) {
			a.change(name, ledger.RotateTokens(0))
			a.change(name, ledger.ResetTokens(true))
		},
	} {
		for _, name := range []string{"acme", "support"} {
			for step := range int64(6) {
				synctest.Test(t, func(t *testing.T) {
					s := newServer()
					a := newTestNode(t, s, "a")
					prepare(t, a)
					leaked := a.kids(name)
					end(a, name, leaked)
					a.settle()
					valid := a.kids(name)
					s.wipe()
					time.Sleep(30 * time.Minute)
					a.settle()
					written := a.failAfter(step, name)
					_, _ = a.Repair(t.Context())
					a.storage.setBefore(nil)
					time.Sleep(time.Minute)
					got := newTestNode(t, s, "c").kids(name)
					over := func(kid string) bool {
						return kid != "messenger_unknown" && kid != "keys_unavailable" && !strings.Contains(valid, kid)
					}
					if slices.ContainsFunc(strings.Fields(got), over) || step < 2 && written.Load() != step {
						t.Errorf("%s, %s, after %d writes of %d: a new node verifies %s, of which only %s are valid", name, how, written.Load(), step, got, valid)
					}
				})
			}
		}
	}
}

// A messenger is deleted on one node while another writes back what the storage has lost of it, and the storage fails for that node a few
// accesses later. When the repair is repeated, the messenger is gone for all.
func TestDeletionDuringAFailingRepair(t *testing.T) {
	for step := range 8 {
		for after := range 5 {
			synctest.Test(t, func(t *testing.T) {
				s := newServer()
				a := newTestNode(t, s, "a")
				b := broughtBack(t, s, a, false)
				time.Sleep(20 * time.Minute)
				a.Store.sweep(t.Context())
				var n atomic.Int64
				var inside, reached atomic.Bool // accesses can be simultaneous
				a.storage.setBefore(func(_, key string) error {
					if inside.Load() || !strings.Contains(key, "acme") {
						return nil
					}
					at := int(n.Add(1))
					if at == step+1 {
						reached.Store(true)
						inside.Store(true)
						if _, _, err := b.Remove(t.Context(), "acme", change.Condition{}); err != nil {
							t.Errorf("the deletion: %v", err)
						}
						inside.Store(false)
					}
					if at > step+1+after {
						return errFailed
					}
					return nil
				})
				_, _ = a.Repair(t.Context())
				a.storage.setBefore(nil)
				if !reached.Load() {
					return
				}
				for range 2 {
					time.Sleep(30 * time.Minute)
					if _, err := a.Repair(t.Context()); err != nil {
						t.Errorf("the repair: %v", err)
					}
				}
				time.Sleep(30 * time.Minute)
				for _, node := range []*testNode{a, b, newTestNode(t, s, "c")} {
					node.Store.sweep(t.Context())
					node.settle()
					if got := node.kids("acme"); got != "messenger_unknown" {
						t.Errorf("step %d, fails %d later, node %s: %s", step, after, node.name, got)
					}
				}
			})
		}
	}
}

// A node that knows a messenger which the storage has lost, and which is not written back, because another one of the name was created: it
// serves that one, and writes back what the storage loses of it.
func TestRepairNextToAnotherMessenger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a := newTestNode(t, s, "a")
		b := broughtBack(t, s, a, true)
		time.Sleep(20 * time.Minute)
		a.Store.sweep(t.Context())
		a.settle()
		if got, want := a.kids("acme"), b.kids("acme"); got != want {
			t.Errorf("the node serves %s, want %s", got, want)
		}
		before := s.keys()
		b.revoke("acme", revocation.Revocation{Identity: "mark"}, "test")
		a.settle()
		s.mu.Lock()
		gone := make(map[string]bool)
		for key := range s.values {
			if !slices.Contains(before, key) && strings.Contains(key, "/acme/") {
				gone[key] = true
				delete(s.values, key)
			}
		}
		s.mu.Unlock()
		time.Sleep(20 * time.Minute)
		a.Store.sweep(t.Context())
		done, err := a.Repair(t.Context())
		if err != nil || len(done.Failed) != 1 || !strings.Contains(done.Failed[0].Error, "another messenger of this name") || done.Messengers == 0 {
			t.Errorf("the repair says %+v, %v", done, err)
		}
		for key := range gone {
			if !slices.Contains(s.keys(), key) {
				t.Errorf("%s is not written back", key)
			}
		}
		if len(gone) == 0 || !newTestNode(t, s, "c").refuses("acme", "mark", "", Now().Add(-2*time.Hour)) {
			t.Error("a node that starts now does not have the revocation")
		}
	})
}
