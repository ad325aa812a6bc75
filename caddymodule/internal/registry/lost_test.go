package registry

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keysets"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// wipe loses everything.
func (s *server) wipe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.values)
}

// broughtBack returns a node of a storage that was emptied, on which a file has brought a messenger back that another node still has.
func broughtBack(t *testing.T, s *server, a *testNode, another bool) *testNode {
	t.Helper()
	prepare(t, a)
	a.settle()
	file := a.Store.inMemory("acme", ledger.KindStored).Copy(Now())
	s.wipe()
	time.Sleep(time.Minute)
	if another {
		created := Now()
		file.Created = &created
	}
	b := newTestNode(t, s, "b")
	if got, err := b.Import(t.Context(), "acme", file, ImportOptions{}); err != nil || got.Result != ImportCreated {
		t.Fatalf("got %v, %v", got, err)
	}
	return b
}

// A messenger that was brought back and deleted stays deleted on a node that still had the first one, and for all after its repair.
func TestDeletionReachesNodesWithLostFacts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a := newTestNode(t, s, "a")
		b := broughtBack(t, s, a, false)
		b.remove("acme")
		check := func(when string) {
			t.Helper()
			for _, n := range []*testNode{a, b} {
				n.settle()
				if got := n.kids("acme"); got != "messenger_unknown" {
					t.Errorf("%s, node %s: %s", when, n.name, got)
				}
			}
		}
		time.Sleep(20 * time.Minute)
		a.Store.sweep(t.Context())
		check("after the deletion")
		if _, err := a.Repair(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		check("after the repair")
	})
}

// A repair does not replace another messenger of the name, also if the storage has something of the old one again.
func TestRepairDoesNotReplaceAnotherMessenger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a := newTestNode(t, s, "a")
		b := broughtBack(t, s, a, true)
		b.change("acme", ledger.ResetTokens(false))
		want := b.kids("acme")
		if _, _, err := a.ChangeRing(t.Context(), "support", ledger.KindRing, ledger.GenerateToken(), change.Condition{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		a.settle()
		done, err := a.Repair(t.Context())
		if err != nil || len(done.Failed) != 1 || done.Failed[0].Messenger != "acme" || !strings.Contains(done.Failed[0].Error, "another messenger of this name") {
			t.Errorf("the repair says %v, %v", done, err)
		}
		time.Sleep(time.Hour)
		b.settle()
		if got := b.kids("acme"); got != want {
			t.Errorf("after the repair the tokens are %s, want %s", got, want)
		}
	})
}

// That a key set was distrusted is written back whatever the storage did with it: lost, also while it was being read, or damaged.
func TestRepairRestoresDistrust(t *testing.T) {
	for name, spoil := range map[string]func(s *server, n *testNode, key string){
		"lost": func(s *server, _ *testNode, _ string) { s.wipe() },
		"lost while it is read": func(s *server, n *testNode, key string) {
			n.storage.setBefore(func(op, asked string) error {
				if op != "load" || asked != key {
					return nil
				}
				s.wipe()
				return fs.ErrNotExist
			})
		},
		"damaged": func(s *server, _ *testNode, key string) {
			s.set(key, s.values[key][:20])
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer()
				n := newTestNode(t, s, "a")
				id := keysets.ID("https://example.com/jwks")
				if err := n.Store.KeySets.Distrust(t.Context(), id); err != nil {
					t.Fatal(err)
				}
				if err := n.Store.KeySets.Follow(t.Context(), id); err != nil {
					t.Fatal(err)
				}
				var key string
				for _, k := range s.keys() {
					if strings.Contains(k, "/_sets/") && strings.Contains(k, "/facts/") {
						key = k
					}
				}
				spoil(s, n, key)
				_ = n.Store.KeySets.Follow(t.Context(), id)
				n.storage.setBefore(nil)
				if lost := n.Store.KeySets.Lost(); lost != 1 {
					t.Errorf("%d are lost", lost)
				}
				done, err := n.Repair(t.Context())
				if err != nil || done.KeySets != 1 || len(done.Failed) > 0 || n.Store.KeySets.Lost() != 0 {
					t.Errorf("the repair says %v, %v", done, err)
				}
				if err := newTestNode(t, s, "b").Store.KeySets.Follow(t.Context(), id); err != nil {
					t.Errorf("another node: %v", err)
				}
				// A value that cannot be replaced is told of.
				n.storage.setBefore(func(op, asked string) error {
					if asked == key && (op == "load" || op == "store") {
						return fs.ErrPermission
					}
					return nil
				})
				if done, err := n.Repair(t.Context()); err != nil || len(done.Failed) != 1 || done.Failed[0].KeySet == "" {
					t.Errorf("of a value that cannot be replaced the repair says %v, %v", done, err)
				}
			})
		})
	}
}

// An import that the storage ends before it is done can be repeated until it is: each time it goes on where it was, with one incarnation.
func TestRepeatedImportContinues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := newTestNode(t, newServer(), "origin")
		prepare(t, origin)
		file := origin.Store.inMemory("acme", ledger.KindStored).Copy(Now())
		for i := range 5000 {
			v := revocation.Revocation{TokenID: revocation.TokenID(fmt.Sprint(i)), Created: Now()}
			file.Revocations = append(file.Revocations, ledger.CopiedRevocation{ID: fmt.Sprint(i), Revocation: v})
		}
		s := newServer()
		n := newTestNode(t, s, "a")
		tries, folders := 0, make(map[string]bool)
		for done := false; !done && tries < 20; tries++ {
			writes := 0
			n.storage.setBefore(func(op, key string) error {
				if batch, valid := vault.ParseKey(key); op == "store" && valid {
					if writes++; writes > 5 {
						return errFailed
					}
					folders[batch.Folder] = true
				}
				return nil
			})
			got, err := n.Import(t.Context(), "acme", file, ImportOptions{})
			done = err == nil && got.Result == ImportCreated
			time.Sleep(time.Minute)
		}
		n.storage.setBefore(nil)
		if tries < 3 || len(folders) != 1 {
			t.Errorf("%d tries have written to %d folders", tries, len(folders))
		}
		b := newTestNode(t, s, "b")
		list, err := b.Revocations(t.Context(), "acme")
		if err != nil || len(list) != 5000 || b.kids("acme") != origin.kids("acme") {
			t.Errorf("there are %d revocations, %v, and the tokens %s", len(list), err, b.kids("acme"))
		}
	})
}
