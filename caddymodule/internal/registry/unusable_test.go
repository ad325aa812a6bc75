package registry

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keysets"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
)

// A stored messenger has a key set on a host that this node does not allow. It cannot be used, and keeps the node from no other.
func TestUnusableMessengerIsNotAnOutage(t *testing.T) {
	s := newServer()
	a := newTestNode(t, s, "a")
	// As another node does that allows the host: it is stored, although this one cannot use it.
	if _, _, err := a.Put(t.Context(), "acme", &config.Messenger{IdentityKey: "identity", JWKS: &config.JWKS{URL: "https://127.0.0.1:1/keys"}}, change.Condition{}); err == nil {
		t.Fatal("the key set can be used here")
	}
	a.put("bolt", sharedTokenSettings(0))
	made := a.change("bolt", ledger.GenerateToken())
	b := newTestNode(t, s, "b")
	for range 3 {
		if got := b.kids("acme"); got != "keys_unavailable" {
			t.Errorf("the one that cannot be used: %s", got)
		}
	}
	if got := b.kids("bolt"); got != made {
		t.Errorf("another one: got %s, want %s", got, made)
	}
}

// The only key of a messenger was stolen and replaced, the storage restored to before that, and settings saved on a new node. The repair ends
// the stolen key, so that the messenger cannot be used, and repairs the others.
func TestRepairOfAnUnusableMessenger(t *testing.T) {
	keys := publicKeys(t, 2)
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a := newTestNode(t, s, "a")
		a.putKeys("acme", "sub", keys[0])
		a.putKeys("bolt", "sub", keys[1])
		a.settle()
		backup := s.backup()
		time.Sleep(time.Hour)
		a.putKeys("acme", "sub", keys[1])
		others := []string{"bolt", "support"}
		for _, name := range others {
			a.revoke(name, revocation.Revocation{Identity: "mark"}, "test")
		}
		s.restore(backup)
		time.Sleep(time.Hour)
		b := newTestNode(t, s, "b")
		b.putKeys("acme", "one", keys[0])
		time.Sleep(time.Hour)
		a.Store.sweep(t.Context())
		a.Store.poll(t.Context())
		if done, err := a.Repair(t.Context()); err != nil || done.Messengers != 3 {
			t.Errorf("the repair: %+v, %v", done, err)
		}
		time.Sleep(time.Hour)
		for _, n := range []*testNode{a, b, newTestNode(t, s, "c")} {
			n.Store.sweep(t.Context())
			n.Store.poll(t.Context())
			if got := n.kids("acme"); got != "keys_unavailable" {
				t.Errorf("node %s: the stolen key is trusted: %s", n.name, got)
			}
			for _, name := range others {
				if got := n.kids(name); got == "keys_unavailable" || !n.refuses(name, "mark", "", Now().Add(-6*time.Hour)) {
					t.Errorf("node %s: what was revoked of %s is accepted: %s", n.name, name, got)
				}
			}
		}
	})
}

// A key set was distrusted, and the storage loses that. The node that knows it writes it back, also if no messenger with the set is in memory any
// more.
func TestDistrustOutlivesEviction(t *testing.T) {
	const url = "https://127.0.0.1:1/set"         // without a name to look up
	for _, noticed := range []bool{true, false} { // before the messenger is evicted
		synctest.Test(t, func(t *testing.T) {
			s := newServer()
			a := newTestNode(t, s, "a")
			a.Store.internal = []string{"127.0.0.1:1"}
			if _, _, err := a.Put(t.Context(), "acme", &config.Messenger{IdentityKey: "identity", JWKS: &config.JWKS{URL: url}}, change.Condition{}); err != nil {
				t.Fatal(err)
			}
			a.settle()
			backup := s.backup()
			if err := a.Store.KeySets.Distrust(t.Context(), keysets.ID(url)); err != nil {
				t.Fatal(err)
			}
			a.settle()
			s.restore(backup)
			if noticed {
				_ = a.Store.rereadHeld(t.Context(), noWait)
			}
			a.Store.stored.Invalidate("acme")
			synctest.Wait() // what is evicted is released in the background
			_ = a.Store.rereadHeld(t.Context(), noWait)
			if n := a.WentBack(); n != 1 {
				t.Errorf("noticed before %t: %d are reported", noticed, n)
			}
			if done, err := a.Repair(t.Context()); err != nil || done.KeySets != 1 {
				t.Errorf("noticed before %t: the repair says %+v, %v", noticed, done, err)
			}
		})
	}
}

// The settings of an export are not accepted any more, or are other ones. What it says was revoked is revoked nevertheless.
func TestRevocationsAreImportedWithoutTheSettings(t *testing.T) {
	for how, settings := range map[string]*config.Messenger{
		"refused": {IdentityKey: "identity", JWKS: &config.JWKS{URL: "https://127.0.0.1:1/keys"}},
		"other":   sharedTokenSettings(time.Hour),
	} {
		for _, replace := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				s := newServer()
				a := newTestNode(t, s, "a")
				prepare(t, a)
				leaked := a.kids("acme")
				a.change("acme", ledger.GenerateToken())
				a.settle()
				backup := s.backup()
				a.revoke("acme", revocation.Revocation{Identity: "mark"}, "test")
				a.change("acme", ledger.RevokeToken(leaked, true))
				file := a.Store.inMemory("acme", ledger.KindStored).Copy(Now())
				file.Settings = settings
				s.restore(backup)
				a.stop()
				b := newTestNode(t, s, "b")
				got, err := b.Import(t.Context(), "acme", file, ImportOptions{Replace: replace})
				if err != nil || (got.Result == ImportConflict) != (how == "refused" || !replace) {
					t.Errorf("%s, replace %t: got %+v, %v", how, replace, got, err)
				}
				for _, n := range []*testNode{b, newTestNode(t, s, "c")} {
					if kids := n.kids("acme"); strings.Contains(kids, leaked) || !n.refuses("acme", "mark", "", Now().Add(-time.Hour)) {
						t.Errorf("%s, replace %t, node %s: %s, and not any more %s", how, replace, n.name, kids, leaked)
					}
					if m, _ := n.Find(t.Context(), "acme"); m == nil || m.JWKS != nil {
						t.Errorf("%s, replace %t, node %s: the settings are %+v", how, replace, n.name, m)
					}
				}
			})
		}
	}
}
