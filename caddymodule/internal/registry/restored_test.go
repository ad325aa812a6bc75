package registry

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
)

// A token has leaked, and is reset on a node that knows what the storage has lost, beside what a file has brought back: no node verifies it.
func TestResetReachesNodesThatOnlyHaveTheImport(t *testing.T) {
	for i := range 10 { // the names of incarnations are random
		synctest.Test(t, func(t *testing.T) {
			s := newServer()
			a := newTestNode(t, s, "a")
			b := broughtBack(t, s, a, false)
			a.settle()
			b.settle()
			leaked := b.kids("acme")
			time.Sleep(time.Minute)
			if i%2 == 0 {
				time.Sleep(20 * time.Minute)
				a.Store.sweep(t.Context())
			}
			made := a.change("acme", ledger.ResetTokens(true))
			time.Sleep(time.Minute)
			c := newTestNode(t, s, "c")
			check := func(when string) {
				t.Helper()
				for _, n := range []*testNode{a, b, c} {
					n.Store.sweep(t.Context())
					n.settle()
					if got := n.kids("acme"); got != made {
						t.Errorf("%s, node %s: %s, want %s and not %s", when, n.name, got, made, leaked)
					}
				}
			}
			check("after the reset")
			if _, err := a.Repair(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(30 * time.Minute)
			check("after the repair")
		})
	}
}

// A stolen key was removed, and the storage is restored to before that. Other settings are saved on a node that has started since, once or
// more, and the node that knows of the removal writes it back.
func TestRemovedKeyStaysRemovedAfterARestore(t *testing.T) {
	keys := publicKeys(t, 2)
	stolen, good := keys[0], keys[1]
	for saves := range 3 {
		synctest.Test(t, func(t *testing.T) {
			s := newServer()
			a := newTestNode(t, s, "a")
			a.putKeys("acme", "sub", stolen, good)
			a.settle()
			backup := s.backup()
			time.Sleep(time.Hour)
			a.putKeys("acme", "sub", good)
			s.restore(backup)
			time.Sleep(time.Hour)
			b := newTestNode(t, s, "b")
			for n := range saves {
				b.putKeys("acme", []string{"one", "two"}[n], stolen, good)
				time.Sleep(time.Minute)
			}
			a.settle()
			if _, err := a.Repair(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, wait := range []time.Duration{30 * time.Minute, 48 * time.Hour} {
				time.Sleep(wait)
				for _, n := range []*testNode{a, b} {
					n.Store.sweep(t.Context())
					n.settle()
					m, rej := n.Find(t.Context(), "acme")
					if rej != nil {
						t.Fatal(rej)
					}
					if got := len(m.Verifier.Load().Keys()); got != 1 {
						t.Errorf("%d saves, node %s, after %v: %d keys verify, want only the good one", saves, n.name, wait, got)
					}
				}
			}
		})
	}
}

// A write of a repair arrives after the deletion of the messenger.
func TestLateRepairWrite(t *testing.T) {
	for held := range 4 {
		synctest.Test(t, func(t *testing.T) {
			s := newServer()
			a := newTestNode(t, s, "a")
			b := broughtBack(t, s, a, false)
			time.Sleep(20 * time.Minute)
			a.Store.sweep(t.Context())
			before := s.keys()
			if _, err := a.Repair(t.Context()); err != nil {
				t.Fatal(err)
			}
			var written []string
			for _, key := range s.keys() {
				if strings.Contains(key, "/acme/") && !slices.Contains(before, key) {
					written = append(written, key)
				}
			}
			if len(written) < 3 {
				t.Fatalf("the repair has written %v", written)
			}
			s.mu.Lock()
			late := make(map[string][]byte)
			for i, key := range written {
				if held == 3 || held == i {
					late[key] = s.values[key]
					delete(s.values, key)
				}
			}
			s.mu.Unlock()
			c := newTestNode(t, s, "c")
			if _, _, err := c.Remove(t.Context(), "acme", change.Condition{}); err != nil && held == 3 {
				t.Fatal(err)
			}
			if _, _, err := b.Remove(t.Context(), "acme", change.Condition{}); err != nil && held == 3 && !strings.Contains(err.Error(), "no messenger") {
				t.Fatal(err)
			}
			for key, value := range late {
				s.set(key, value)
			}
			time.Sleep(30 * time.Minute)
			for _, node := range []*testNode{a, b, c, newTestNode(t, s, "d")} {
				node.Store.sweep(t.Context())
				node.settle()
				if got := node.kids("acme"); got != "messenger_unknown" {
					t.Errorf("held %d, node %s: %s", held, node.name, got)
				}
			}
		})
	}
}

// A messenger was deleted and created again, and the storage is restored to the first one. It is deleted again, on a node that knows all:
// it is gone for all.
func TestDeletionOfARestoredMessenger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a := newTestNode(t, s, "a")
		prepare(t, a)
		a.settle()
		backup := s.backup()
		time.Sleep(time.Hour)
		a.remove("acme")
		time.Sleep(time.Hour)
		prepare(t, a)
		a.settle()
		s.restore(backup)
		time.Sleep(20 * time.Minute)
		a.Store.sweep(t.Context())
		a.remove("acme")
		b := newTestNode(t, s, "b")
		for range 3 {
			time.Sleep(48 * time.Hour)
			for _, node := range []*testNode{a, b} {
				node.Store.sweep(t.Context())
				node.settle()
				if got := node.kids("acme"); got != "messenger_unknown" {
					t.Errorf("node %s: %s", node.name, got)
				}
			}
			if _, err := a.Repair(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A node knows a messenger that the storage has lost, and another of the name was created. What is changed on this node is changed.
func TestChangesNextToALostMessenger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a := newTestNode(t, s, "a")
		prepare(t, a)
		a.settle()
		s.wipe()
		time.Sleep(time.Minute)
		b := newTestNode(t, s, "b")
		b.put("acme", sharedTokenSettings(0))
		time.Sleep(20 * time.Minute)
		a.Store.sweep(t.Context())
		a.settle()
		made := a.change("acme", ledger.GenerateToken())
		a.revoke("acme", revocation.Revocation{Identity: "mark"}, "test")
		if _, _, err := a.Put(t.Context(), "acme", sharedTokenSettings(0), change.Condition{}); err != nil {
			t.Errorf("the settings: %v", err)
		}
		b.settle()
		for _, node := range []*testNode{a, b, newTestNode(t, s, "c")} {
			if got := node.kids("acme"); !strings.Contains(got, made) || !node.refuses("acme", "mark", "", Now().Add(-time.Hour)) {
				t.Errorf("node %s: the tokens are %s", node.name, got)
			}
		}
	})
}

// A messenger is deleted on one node while another writes back what the storage has lost of it: at each moment of the repair, and the repair
// at each moment of the deletion. It is gone for all.
func TestDeletionDuringARepair(t *testing.T) {
	for _, repairs := range []bool{true, false} {
		for step := 0; ; step++ {
			reached := false
			synctest.Test(t, func(t *testing.T) {
				s := newServer()
				a := newTestNode(t, s, "a")
				b := broughtBack(t, s, a, false)
				time.Sleep(20 * time.Minute)
				a.Store.sweep(t.Context())
				remove := func() {
					if _, _, err := b.Remove(t.Context(), "acme", change.Condition{}); err != nil {
						t.Errorf("the deletion: %v", err)
					}
				}
				repair := func() {
					if _, err := a.Repair(t.Context()); err != nil {
						t.Errorf("the repair: %v", err)
					}
				}
				outer, inner, storage := repair, remove, a.storage
				if !repairs {
					outer, inner, storage = remove, repair, b.storage
				}
				accesses := storage.at(int64(step), "acme", inner)
				outer()
				storage.setBefore(nil)
				if reached = accesses.Load() > int64(step); !reached {
					return
				}
				time.Sleep(30 * time.Minute)
				for _, node := range []*testNode{a, b, newTestNode(t, s, "c")} {
					node.Store.sweep(t.Context())
					node.settle()
					if got := node.kids("acme"); got != "messenger_unknown" {
						t.Errorf("repairs %t, step %d, node %s: %s", repairs, step, node.name, got)
					}
				}
			})
			if !reached {
				if step < 3 {
					t.Errorf("repairs %t: only %d steps", repairs, step)
				}
				break
			}
		}
	}
}
