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
func TestANodeThatWasAwayWritesNothingBack(t *testing.T) {
	for _, name := range []string{"acme", "support"} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer()
			a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
			prepare(t, a)
			a.settle()
			b.settle()
			leaked := b.kids(name)
			a.kids(name)
			b.change(name, ledger.GenerateToken())
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

// A messenger was deleted and another created, and the storage is restored to the first one. Whatever is done on the node that knows both, and is
// acknowledged, is so on a node that starts afterwards.
func TestChangesAfterALostDeletion(t *testing.T) {
	for how, do := range map[string]func(a *testNode){
		"revoked":  func(a *testNode) { a.revoke("acme", revocation.Revocation{Identity: "mark"}, "test") },
		"a logout": func(a *testNode) { a.revoke("acme", revocation.Revocation{Identity: "mark"}, ByContact) },
		"settings": func(a *testNode) {
			if _, _, err := a.Put(a.t.Context(), "acme", sharedTokenSettings(2*time.Hour), change.Condition{Confirm: change.AnyLoss}); err != nil {
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
			if _, _, err := a.Remove(t.Context(), "acme", change.Condition{}); err != nil {
				t.Fatal(err)
			}
			if _, _, err := a.Put(t.Context(), "acme", sharedTokenSettings(time.Hour), change.Condition{Absent: true}); err != nil {
				t.Fatal(err)
			}
			a.kids("acme")
			s.restore(backup)
			time.Sleep(20 * time.Minute)
			sweep(t, a)
			do(a)
			c := newTestNode(t, s, "c")
			if got, want := c.state("acme"), a.state("acme"); got != want || how != "settings" && !c.refuses("acme", "mark", "", Now().Add(-time.Hour)) {
				t.Errorf("%s: a node that starts now says\n%s\nand the one that was asked\n%s", how, got, want)
			}
		})
	}
}

// A list has what this node knows, and the storage has lost: before the node has noticed that, and if it cannot be written back. What is
// acknowledged is stored.
func TestAListBesideWhatIsLost(t *testing.T) {
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
func TestARevocationBesideAValueThatCannotBeRead(t *testing.T) {
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
func TestAnotherMethodEndsTokensOfAClockThatIsAhead(t *testing.T) {
	keys, offset := publicKeys(t, 1), clock(t)
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
		a.offset = 3 * time.Hour
		if _, _, err := b.Put(t.Context(), "acme", sharedTokenSettings(0), change.Condition{}); err != nil {
			t.Fatal(err)
		}
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
		if _, _, err := b.Put(t.Context(), "acme", sharedTokenSettings(0), change.Condition{Confirm: change.AnyLoss}); err != nil {
			t.Fatal(err)
		}
		for _, n := range []*testNode{b, newTestNode(t, s, "c")} {
			n.settle()
			if got := n.kids("acme"); strings.Contains(got, leaked) {
				t.Errorf("node %s: the token from before is valid: %s", n.name, got)
			}
		}
	})
}
