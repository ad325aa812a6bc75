package registry

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
)

// The storage is restored to before something was revoked. Whatever is done then on the node that knows it, and is acknowledged, is so on a node
// that starts afterwards, also where this node would have had nothing to do.
func TestChangesAfterARestoreAreStored(t *testing.T) {
	revoked := revocation.Revocation{Identity: "mark"}
	for how, again := range map[string]func(t *testing.T, a *testNode, name string, newest *ledger.Copy){
		"revoked once more": func(_ *testing.T, a *testNode, name string, _ *ledger.Copy) {
			a.revoke(name, revoked, "test")
			a.change(name, ledger.RotateTokens(0))
		},
		"a list": func(t *testing.T, a *testNode, name string, _ *ledger.Copy) {
			if _, _, err := a.RevokeAll(t.Context(), name, []revocation.Revocation{revoked}, "test"); err != nil {
				t.Fatal(err)
			}
			a.change(name, ledger.RotateTokens(0))
		},
		"rotated": func(t *testing.T, a *testNode, name string, _ *ledger.Copy) {
			a.change(name, ledger.RotateTokens(24*time.Hour))
		},
		"reset": func(t *testing.T, a *testNode, name string, _ *ledger.Copy) { a.change(name, ledger.ResetTokens(true)) },
		"generated": func(t *testing.T, a *testNode, name string, _ *ledger.Copy) {
			a.change(name, ledger.GenerateToken())
		},
		"the newest export": func(t *testing.T, a *testNode, name string, newest *ledger.Copy) {
			if got, err := a.Import(t.Context(), name, newest, ImportOptions{}); err != nil || got.Result == ImportConflict {
				t.Fatalf("got %+v, %v", got, err)
			}
		},
	} {
		for _, name := range []string{"acme", "support"} {
			synctest.Test(t, func(t *testing.T) {
				s := newServer()
				a := newTestNode(t, s, "a")
				prepare(t, a)
				leaked := a.kids(name)
				a.change(name, ledger.GenerateToken())
				a.settle()
				backup := s.backup()
				a.revoke(name, revoked, "test")
				a.change(name, ledger.RevokeToken(leaked, true))
				a.settle()
				newest := a.Store.inMemory(name, a.kind(name)).Copy(Now())
				s.restore(backup)
				time.Sleep(20 * time.Minute)
				sweep(t, a)
				again(t, a, name, newest)
				c := newTestNode(t, s, "c")
				if got := c.kids(name); strings.Contains(got, leaked) || !c.refuses(name, "mark", "", Now().Add(-time.Hour)) {
					t.Errorf("%s, %s: a node that starts now verifies %s, and not any more %s", name, how, got, leaked)
				}
			})
		}
	}
}

// A secret that the site brought is in what the storage has lost and in what a file has brought back. What ends it on the node that knows both
// ends it on nodes that know one.
func TestRevocationReachesEveryCopyOfASecret(t *testing.T) {
	for how, end := range map[string]ledger.RingChange{
		"revoked": ledger.RevokeToken("site", true), "rotated": ledger.RotateTokens(0), "rotated with an overlap": ledger.RotateTokens(time.Hour), "reset": ledger.ResetTokens(true),
	} {
		for range 8 { // the names of incarnations are random
			synctest.Test(t, func(t *testing.T) {
				s := newServer()
				a := newTestNode(t, s, "a")
				a.put("acme", sharedTokenSettings(0))
				a.change("acme", ledger.ImportToken([]byte("a secret that the site has had for a long time"), "site"))
				a.settle()
				file := a.Store.inMemory("acme", ledger.KindStored).Copy(Now())
				s.wipe()
				time.Sleep(time.Minute)
				b := newTestNode(t, s, "b")
				if got, err := b.Import(t.Context(), "acme", file, ImportOptions{}); err != nil || got.Result != ImportCreated {
					t.Fatalf("got %v, %v", got, err)
				}
				time.Sleep(20 * time.Minute)
				sweep(t, a)
				if a.kids("acme") != "site" || b.kids("acme") != "site" {
					t.Fatalf("the tokens are %q and %q", a.kids("acme"), b.kids("acme"))
				}
				a.change("acme", end)
				time.Sleep(2 * time.Hour)
				for _, n := range []*testNode{a, b, newTestNode(t, s, "c")} {
					n.settle()
					r, err := n.Record(t.Context(), "acme", ledger.KindStored)
					if err != nil {
						t.Fatal(err)
					}
					for _, token := range r.ActiveTokens() {
						if token.KeyID == "site" {
							t.Errorf("%s: node %s has the secret still", how, n.name)
						}
					}
				}
			})
		}
	}
}

// The storage is emptied, and the node that still knows a messenger revokes something, with which it writes back the messenger or not. A file
// does not bring it back without that.
func TestImportKeepsRevocationsOfALostMessenger(t *testing.T) {
	for how, end := range map[string]func(a *testNode, leaked string){
		"a token":     func(a *testNode, leaked string) { a.change("acme", ledger.RevokeToken(leaked, true)) },
		"a contact":   func(a *testNode, _ string) { a.revoke("acme", revocation.Revocation{Identity: "mark"}, "test") },
		"all at once": func(a *testNode, _ string) { a.change("acme", ledger.ResetTokens(true)) },
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer()
			a := newTestNode(t, s, "a")
			prepare(t, a)
			a.settle()
			leaked := a.kids("acme")
			file := a.Store.inMemory("acme", ledger.KindStored).Copy(Now())
			s.wipe()
			time.Sleep(time.Minute) // before it is noticed
			end(a, leaked)
			b := newTestNode(t, s, "b")
			got, err := b.Import(t.Context(), "acme", file, ImportOptions{})
			if err != nil || got.Result == ImportCreated || got.Result == ImportConflict && !strings.Contains(strings.Join(got.Notes, " "), "repair") {
				t.Errorf("%s: the import says %+v, %v", how, got, err)
			}
			if kids := b.kids("acme"); kids != "keys_unavailable" && (how == "a contact" || strings.Contains(kids, leaked)) {
				t.Errorf("%s: the other node verifies %s", how, kids)
			}
			time.Sleep(20 * time.Minute)
			sweep(t, a)
			if _, err := a.Repair(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.settle()
			if a, b := a.state("acme"), b.state("acme"); a != b {
				t.Errorf("%s, after the repair: node a says\n%s\nand node b\n%s", how, a, b)
			}
		})
	}
}

// The storage was emptied, and a creation or an import on another node has ended at any of its writes. What is done on the node that knows the
// first messenger reaches whatever other nodes serve.
func TestChangesDespiteUnfinishedWrites(t *testing.T) {
	for how, begin := range map[string]func(t *testing.T, b *testNode, file *ledger.Copy){
		"creation": func(t *testing.T, b *testNode, _ *ledger.Copy) {
			_, _, _ = b.Put(t.Context(), "acme", sharedTokenSettings(0), change.Condition{})
		},
		"import": func(t *testing.T, b *testNode, file *ledger.Copy) {
			_, _ = b.Import(t.Context(), "acme", file, ImportOptions{})
		},
	} {
		for n := range int64(10) {
			step, resets := n/2, n%2 == 0
			synctest.Test(t, func(t *testing.T) {
				s := newServer()
				a := newTestNode(t, s, "a")
				prepare(t, a)
				a.settle()
				file := a.Store.inMemory("acme", ledger.KindStored).Copy(Now())
				s.wipe()
				time.Sleep(time.Minute)
				b := newTestNode(t, s, "b")
				b.failAfter(step, "acme")
				begin(t, b, file)
				b.stop()
				time.Sleep(20 * time.Minute)
				sweep(t, a)
				a.revoke("acme", revocation.Revocation{Identity: "mark"}, "test")
				made := ""
				if resets {
					made = a.change("acme", ledger.ResetTokens(true))
				}
				c := newTestNode(t, s, "c")
				got := c.kids("acme")
				if got == "keys_unavailable" || got == "messenger_unknown" {
					return // nothing is served that could differ
				}
				if resets && got != made || !c.refuses("acme", "mark", "", Now().Add(-time.Hour)) {
					t.Errorf("%s, ended after %d writes: a node that starts now verifies %q, want %s", how, step, got, made)
				}
			})
		}
	}
}

// Tokens were reset, and the storage was restored to before that. A token that another node makes a day later is not revoked when the reset is
// written back.
func TestOldResetDoesNotRevokeNewTokens(t *testing.T) {
	for _, name := range []string{"support", "acme"} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer()
			a := newTestNode(t, s, "a")
			prepare(t, a)
			a.settle()
			leaked, backup := a.kids(name), s.backup()
			time.Sleep(time.Hour)
			a.change(name, ledger.ResetTokens(true))
			s.restore(backup)
			time.Sleep(24 * time.Hour)
			b := newTestNode(t, s, "b")
			made := b.change(name, ledger.GenerateToken())
			time.Sleep(20 * time.Minute)
			sweep(t, a)
			if _, err := a.Repair(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Minute)
			nodes := []*testNode{a, b, newTestNode(t, s, "c")}
			sweep(t, nodes...)
			for _, n := range nodes {
				if got := n.kids(name); !strings.Contains(got, made) || strings.Contains(got, leaked) {
					t.Errorf("node %s: %s, want %s and not %s", n.name, got, made, leaked)
				}
			}
		})
	}
}

// Hundreds of revocations were lost, and the storage is slow. A token that has leaked is revoked without waiting for them.
func TestTokenRevocationDoesNotWaitForARepair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a := newTestNode(t, s, "a")
		prepare(t, a)
		a.settle()
		leaked, backup := a.kids("support"), s.backup()
		for i := range 400 {
			a.revoke("support", revocation.Revocation{Identity: fmt.Sprint("contact", i)}, "test")
			time.Sleep(time.Second)
		}
		a.settle()
		s.restore(backup)
		time.Sleep(20 * time.Minute)
		sweep(t, a)
		a.storage.setBefore(func(op, key string) error {
			if op == "store" && strings.Contains(key, "/support/") {
				time.Sleep(90 * time.Millisecond)
			}
			return nil
		})
		_, _, err := a.ChangeRing(t.Context(), "support", ledger.KindRing, ledger.RevokeToken(leaked, true), change.Condition{})
		a.storage.setBefore(nil)
		time.Sleep(time.Second) // for a write that was not waited for
		if err != nil {
			t.Error(err)
		}
		if got := newTestNode(t, s, "c").kids("support"); strings.Contains(got, leaked) {
			t.Errorf("a node that starts now verifies %s", got)
		}
	})
}
