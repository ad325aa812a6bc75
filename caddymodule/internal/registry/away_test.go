package registry

import (
	"errors"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
)

// A node was suspended for longer than it is remembered what ended a token. The first thing that it does is a change, before its next poll: what
// others have forgotten meanwhile is not written back with it.
func TestSuspendedNodeDoesNotWriteBackForgottenFacts(t *testing.T) {
	for _, name := range []string{"acme", "support"} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer()
			a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
			prepare(t, a)
			leaked := a.change(name, ledger.GenerateToken()) // not in the batch with the settings, which is of use for good
			a.settle()
			b.settle()
			b.kids(name)
			a.kids(name)
			b.change(name, ledger.GenerateToken())
			b.change(name, ledger.GenerateToken()) // of the two, the one that says that the messenger was created stays
			b.change(name, ledger.RevokeToken(leaked, true))
			time.Sleep(time.Hour)
			b.change(name, ledger.RevokeToken(b.change(name, ledger.GenerateToken()), true)) // so that the end is not the last one
			for range 70 {
				time.Sleep(24 * time.Hour)
				b.settle()
				b.Store.sweep(t.Context())
			}
			made, _, err := a.ChangeRing(t.Context(), name, a.kind(name), ledger.GenerateToken(), change.Condition{Confirm: change.AnyLoss})
			got := newTestNode(t, s, "c").kids(name)
			if strings.Contains(got, leaked) || err == nil && !strings.Contains(got, made.KeyID) {
				t.Errorf("%s, after a change with %v: a new node verifies %s, and not any more %s", name, err, got, leaked)
			}
		})
	}
}

// While such a node reads the storage for something else, it polls. What it has dropped does not become active again with what was read, and is
// not written back.
func TestDroppedMessengersStayDroppedDuringAReading(t *testing.T) {
	for how, do := range map[string]func(a *testNode){
		"a sweep":  func(a *testNode) { _ = a.Store.rereadHeld(a.t.Context(), noWait) },
		"a repair": func(a *testNode) { _, _ = a.Repair(a.t.Context()) },
		"a change": func(a *testNode) {
			_, _, _ = a.ChangeRing(a.t.Context(), "acme", ledger.KindStored, ledger.GenerateToken(), change.Condition{Confirm: change.AnyLoss})
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer()
			a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
			prepare(t, a)
			leaked := a.change("acme", ledger.GenerateToken())
			a.settle()
			b.settle()
			a.kids("acme")
			b.change("acme", ledger.GenerateToken())
			b.change("acme", ledger.GenerateToken())
			b.change("acme", ledger.RevokeToken(leaked, true))
			time.Sleep(time.Hour)
			b.change("acme", ledger.RevokeToken(b.change("acme", ledger.GenerateToken()), true))
			for range 70 {
				time.Sleep(24 * time.Hour)
				b.settle()
				b.Store.sweep(t.Context())
			}
			var polled atomic.Bool
			a.storage.setBefore(func(op, key string) error {
				if op == "list" && strings.HasSuffix(key, "/acme") && polled.CompareAndSwap(false, true) {
					a.Store.poll(t.Context())
				}
				return nil
			})
			do(a)
			a.storage.setBefore(nil)
			sweep(t, a)
			if got := a.kids("acme"); strings.Contains(got, leaked) || got == "" {
				t.Errorf("%s: the node that was away verifies %q, and %s was revoked", how, got, leaked)
			}
			a.change("acme", ledger.GenerateToken())
			if got := newTestNode(t, s, "c").kids("acme"); strings.Contains(got, leaked) || got == "" {
				t.Errorf("%s: a node that starts now verifies %q, and %s was revoked", how, got, leaked)
			}
		})
	}
}

// A node cannot reach the storage for a month. A repair then does not drop what it was to write back.
func TestRepairDuringAnOutageDropsNothing(t *testing.T) {
	offset := clock(t)
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a := newTestNode(t, s, "a")
		prepare(t, a)
		a.settle()
		want := a.kids("support") + ", " + a.kids("acme")
		a.storage.setBefore(func(string, string) error { return errFailed })
		offset.Store(int64(30 * 24 * time.Hour))
		a.Store.poll(t.Context())
		_, err := a.Repair(t.Context())
		if got := a.kids("support") + ", " + a.kids("acme"); err == nil || got != want {
			t.Errorf("after a repair with %v the node verifies %s, before %s", err, got, want)
		}
		a.storage.setBefore(nil)
	})
}

// A messenger was deleted and another created, and the storage is restored to the first one. A token that is made on the node that knows both, and
// a list that it revokes, are there on a node that starts afterwards.
func TestChangesAfterALostDeletion(t *testing.T) {
	for how, do := range map[string]func(a *testNode){
		"a token": func(a *testNode) { a.change("acme", ledger.GenerateToken()) },
		"a list": func(a *testNode) {
			if _, _, err := a.RevokeAll(a.t.Context(), "acme", []revocation.Revocation{{Identity: "mark"}}, "test"); err != nil {
				a.t.Fatal(err)
			}
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer()
			a := newTestNode(t, s, "a")
			prepare(t, a)
			a.settle()
			backup := s.backup()
			time.Sleep(time.Hour)
			a.remove("acme")
			a.put("acme", sharedTokenSettings(time.Hour))
			a.kids("acme")
			s.restore(backup)
			time.Sleep(20 * time.Minute)
			sweep(t, a)
			do(a)
			c := newTestNode(t, s, "c")
			if got, want := c.state("acme"), a.state("acme"); got != want || how == "a list" && !c.refuses("acme", "mark", "", Now().Add(-time.Hour)) {
				t.Errorf("%s: a node that starts now says\n%s\nand the one that was asked\n%s", how, got, want)
			}
		})
	}
}

// A list has what this node knows, and the storage has lost: before the node has noticed that, and if it cannot be written back. What is
// acknowledged is stored.
func TestRevocationListWithLostFacts(t *testing.T) {
	for _, name := range []string{"acme", "support"} {
		for _, refused := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				s := newServer()
				a := newTestNode(t, s, "a")
				prepare(t, a)
				a.settle()
				a.kids(name)
				backup := s.backup()
				revoked := revocation.Revocation{TokenID: "one"}
				a.revoke(name, revoked, "test")
				a.settle()
				full := s.backup()
				s.restore(backup)
				time.Sleep(time.Minute)
				var tried atomic.Bool
				a.storage.setBefore(func(op, key string) error {
					if _, lost := full[key]; refused && lost && op == "store" && backup[key] == nil && strings.Contains(key, "/facts/") {
						tried.Store(true)
						return fs.ErrPermission // a file system refuses this one
					}
					return nil
				})
				_, _, err := a.RevokeAll(t.Context(), name, []revocation.Revocation{revoked}, "test")
				a.storage.setBefore(nil)
				if stored := newTestNode(t, s, "c").refuses(name, "someone", "one", Now().Add(-time.Hour)); (err == nil) != stored || stored == refused || tried.Load() != refused {
					t.Errorf("%s, refused %t: the list is answered with %v, and a node that starts now has it: %t", name, refused, err, stored)
				}
			})
		}
	}
}

// The storage was restored, and one of its old values cannot be read. A token that has leaked can be revoked nevertheless.
func TestRevocationDespiteAnUnreadableValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a := newTestNode(t, s, "a")
		prepare(t, a)
		a.revoke("support", revocation.Revocation{Identity: "old"}, "test")
		a.settle()
		leaked, backup := a.kids("support"), s.backup()
		a.revoke("support", revocation.Revocation{Identity: "mark"}, "test")
		s.restore(backup)
		time.Sleep(20 * time.Minute)
		sweep(t, a)
		a.storage.setBefore(func(op, key string) error {
			if op == "load" && backup[key] != nil && strings.Contains(key, "/support/config/") {
				return errors.New("this one value")
			}
			return nil
		})
		a.change("support", ledger.RevokeToken(leaked, true))
		a.storage.setBefore(nil)
		if got := newTestNode(t, s, "c").kids("support"); strings.Contains(got, leaked) {
			t.Errorf("a node that starts now verifies %s", got)
		}
	})
}

// A node three hours ahead has made a token, and the method is changed, with a time in which the one before is trusted, and changed back: the
// token is over, as any other would be.
func TestMethodChangeRevokesTokensFromAClockAhead(t *testing.T) {
	keys, offset := publicKeys(t, 1), clock(t)
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
		a.offset = 3 * time.Hour
		b.put("acme", sharedTokenSettings(0))
		b.settle()
		leaked := ""
		a.at(offset, func() {
			a.settle()
			leaked = a.change("acme", ledger.GenerateToken())
		})
		time.Sleep(time.Minute)
		b.settle()
		keep := 5 * time.Minute
		m := &config.Messenger{IdentityKey: "identity", PublicKey: []config.PublicKey{{Key: keys[0]}}}
		if _, _, err := b.Put(t.Context(), "acme", m, change.Condition{Confirm: change.AnyLoss, KeepPrevious: &keep}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		b.settle()
		b.put("acme", sharedTokenSettings(0))
		for _, n := range []*testNode{b, newTestNode(t, s, "c")} {
			n.settle()
			if got := n.kids("acme"); strings.Contains(got, leaked) {
				t.Errorf("node %s: the token from before is valid: %s", n.name, got)
			}
		}
	})
}

// What ended a token was lost with it, and cannot be written back: neither is the token.
func TestTokensAreWrittenBackOnlyWithTheirRevocation(t *testing.T) {
	for _, name := range []string{"acme", "support"} {
		for _, repairs := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				s := newServer()
				a := newTestNode(t, s, "a")
				prepare(t, a)
				a.settle()
				backup := s.backup()
				leaked := a.change(name, ledger.GenerateToken())
				a.settle()
				with := s.backup()
				a.change(name, ledger.RevokeToken(leaked, true))
				a.settle()
				full := s.backup()
				s.restore(backup)
				time.Sleep(20 * time.Minute)
				sweep(t, a)
				a.storage.setBefore(func(op, key string) error {
					if op == "store" && full[key] != nil && with[key] == nil && strings.Contains(key, "/"+name+"/") {
						return fs.ErrPermission
					}
					return nil
				})
				var err error
				if repairs {
					var done Repaired
					if done, err = a.Repair(t.Context()); len(done.Failed) == 1 {
						err = errFailed
					}
				} else {
					_, _, err = a.ChangeRing(t.Context(), name, a.kind(name), ledger.GenerateToken(), change.Condition{})
				}
				a.storage.setBefore(nil)
				if got := newTestNode(t, s, "c").kids(name); err == nil || strings.Contains(got, leaked) {
					t.Errorf("%s, repairs %t: %v, and a new node verifies %s, and not any more %s", name, repairs, err, got, leaked)
				}
			})
		}
	}
}

// One value that another node has written cannot be read. Revocations are made nevertheless, one by one and as a list, and a messenger that
// cannot be used as well can be deleted.
func TestChangesDespiteADamagedValue(t *testing.T) {
	for _, unusable := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer()
			a := newTestNode(t, s, "a")
			prepare(t, a)
			a.settle()
			a.kids("acme")
			if unusable {
				m := &config.Messenger{IdentityKey: "identity", JWKS: &config.JWKS{URL: "https://127.0.0.1:1/keys"}}
				_, _, err := a.Put(t.Context(), "acme", m, change.Condition{Confirm: change.AnyLoss})
				if got := a.kids("acme"); got != "keys_unavailable" {
					t.Fatalf("the key set can be used here: %v, %s", err, got)
				}
			}
			before := s.backup()
			_, _ = newTestNode(t, s, "b").Revoke(t.Context(), "acme", revocation.Revocation{Identity: "old"}, "test")
			after := s.backup()
			for key := range after {
				if before[key] == nil && strings.Contains(key, "/acme/") {
					after[key] = []byte("{")
				}
			}
			s.restore(after)
			time.Sleep(20 * time.Minute)
			a.Store.sweep(t.Context())
			if !unusable {
				a.revoke("acme", revocation.Revocation{TokenID: "one"}, "test")
				if _, _, err := a.RevokeAll(t.Context(), "acme", []revocation.Revocation{{TokenID: "two"}}, "test"); err != nil {
					t.Errorf("a list: %v", err)
				}
			}
			if _, _, err := a.Remove(t.Context(), "acme", change.Condition{}); err != nil {
				t.Errorf("unusable %t: the deletion: %v", unusable, err)
			}
		})
	}
}
