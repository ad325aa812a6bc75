package registry

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// The lists of writers and the notification are not trusted for anything, and nothing depends on their being there.
func TestListsOfChangesThatAreLostDamagedOrSetBack(t *testing.T) {
	for what, spoil := range map[string]func(t *testing.T, a *testNode, old map[string][]byte){
		"lost": func(_ *testing.T, a *testNode, _ map[string][]byte) {
			a.storage.spoilLists(func(string) []byte { return nil })
		},
		"damaged": func(_ *testing.T, a *testNode, _ map[string][]byte) {
			a.storage.spoilLists(func(string) []byte { return []byte("x") })
		},
		"in clear": func(_ *testing.T, a *testNode, _ map[string][]byte) {
			a.storage.spoilLists(func(string) []byte { return []byte(`{"format":1,"seq":100000}`) })
		},
		"set back": func(t *testing.T, a *testNode, old map[string][]byte) {
			a.storage.spoilLists(func(key string) []byte { return old[key] })
			time.Sleep(time.Minute) // the writer rings once more
		},
		"lost, then another change": func(_ *testing.T, a *testNode, _ map[string][]byte) {
			a.storage.spoilLists(func(string) []byte { return nil })
			a.change("sales", ledger.ResetTokens(false))
		},
		"set back, then another change": func(_ *testing.T, a *testNode, old map[string][]byte) {
			a.storage.spoilLists(func(key string) []byte { return old[key] })
			a.change("sales", ledger.ResetTokens(false))
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer()
				a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
				prepare(t, a)
				agree(t, "before", b)
				time.Sleep(time.Minute)
				old := make(map[string][]byte)
				for _, key := range s.keys() {
					old[key] = s.values[key]
				}
				a.change("support", ledger.ResetTokens(false))
				a.change("acme", ledger.ResetTokens(false))
				spoil(t, a, old)
				b.settle()
				agree(t, "afterwards", b)
			})
		})
	}
}

// spoilLists replaces the lists and the notification, or removes them.
func (s *nodeStorage) spoilLists(with func(key string) []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.values {
		if !strings.HasPrefix(key, "messenger/_writers/") && !strings.HasPrefix(key, "messenger/_bell/") && !strings.HasPrefix(key, "messenger/_origin/") {
			continue
		}
		if value := with(key); value != nil {
			s.values[key] = value
		} else {
			delete(s.values, key)
		}
	}
}

// A reload ends the reading of everything that its configuration began. The next configuration goes on with it.
func TestReloadDoesNotCancelPendingReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
		prepare(t, a)
		agree(t, "before", b)
		a.change("support", ledger.ResetTokens(false))
		a.storage.spoilLists(func(string) []byte { return nil })
		ended, cancel := context.WithCancel(t.Context())
		b.storage.setSlow(newChance(1, 100))
		b.Store.poll(ended)
		cancel()
		for b.Store.rereading.Load() {
			time.Sleep(time.Millisecond)
		}
		b.storage.setSlow(nil)
		agree(t, "after the next poll", b)
	})
}

// A configuration drops a messenger, another node changes its ring, and a later configuration has it again.
func TestRingOfADroppedMessengerIsReadAgain(t *testing.T) {
	s := newServer()
	a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
	prepare(t, a)
	agree(t, "before", b)
	b.reload("sales")
	a.change("support", ledger.ResetTokens(false))
	b.settle()
	b.reload(testConfigured...)
	if got, want := b.kids("support"), a.kids("support"); got != want {
		t.Errorf("with the messenger again: %q, want %q", got, want)
	}
}

// The storage fails for a while. What was read stays active; what changed meanwhile is known soon after.
func TestStorageOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
		prepare(t, a)
		agree(t, "before", b)
		old := b.kids("acme")
		b.failing(true)
		for _, name := range []string{"support", "acme"} {
			a.change(name, ledger.ResetTokens(false))
		}
		for range 3 {
			b.Store.poll(t.Context())
		}
		if got := b.kids("acme"); got != old {
			t.Errorf("in the outage %q is accepted, want %q as before", got, old)
		}
		if got := b.kids("unheard-of"); got != "keys_unavailable" {
			t.Errorf("a name that was not asked for before is %s, which cannot be known", got)
		}
		if b.Status().Err == nil {
			t.Error("the outage is not noticed")
		}
		b.failing(false)
		agree(t, "after the outage", b)
		if b.Status().Err != nil {
			t.Error("the end of the outage is not noticed")
		}
	})
}

// A storage that cannot be reached says of every key that it does not exist, as caddy-storage-redis 1.8.1 does. What was read
// stays active, and nothing is acknowledged.
func TestUnreachableStorageThatReportsNotFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
		prepare(t, a)
		agree(t, "before", b)
		before := map[string]string{"support": b.kids("support"), "acme": b.kids("acme")}
		b.storage.setLies(true)
		b.settle()
		for name, want := range before {
			if got := b.kids(name); got != want {
				t.Errorf("%s: %q is accepted, want %q as before", name, got, want)
			}
			if _, _, err := b.ChangeRing(t.Context(), name, b.kind(name), ledger.GenerateToken(), change.Condition{}); err == nil {
				t.Errorf("%s: a change on a storage that is out of reach is acknowledged", name)
			}
		}
		if got := b.kids("unheard-of"); got != "keys_unavailable" {
			t.Errorf("a name that was not asked for before is %s, which cannot be known", got)
		}
		b.storage.setLies(false)
		time.Sleep(time.Minute)
		agree(t, "afterwards", a, b)
	})
}

// A node was cut off for three days. Meanwhile a shared token was revoked, and what others do not need any more was removed.
// The token is not accepted, and repair does not bring it back.
func TestDisconnectedNodeLearnsRevocations(t *testing.T) {
	clock(t)
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
		prepare(t, a)
		agree(t, "before", b)
		for _, name := range []string{"support", "acme"} {
			kid := b.kids(name)
			b.failing(true)
			a.change(name, ledger.RevokeToken(kid, false))
			for range 3 {
				time.Sleep(30 * time.Hour)
				for _, j := range a.Store.held(name) {
					if err := j.Prune(t.Context(), a.Store.Vault, Now()); err != nil {
						t.Fatal(err)
					}
				}
				_ = a.Store.follower.Tidy(t.Context())
			}
			b.failing(false)
			agree(t, "afterwards", a, b)
			if _, err := b.Repair(t.Context()); err != nil {
				t.Fatal(err)
			}
			agree(t, "after repair", a, b)
			if got := b.kids(name); got != "" {
				t.Errorf("%s: %q is accepted", name, got)
			}
		}
	})
}

// A write that is made during a listing is not in it, and was not lost.
func TestWriteDuringAListingIsNotReportedAsLost(t *testing.T) {
	a := newTestNode(t, newServer(), "a")
	prepare(t, a)
	a.storage.setListed(func() {
		a.storage.setListed(nil)
		if _, err := a.Revoke(t.Context(), "support", revocation.Revocation{Identity: "mark"}, "test"); err != nil {
			t.Error(err)
		}
	})
	if err := a.Store.reread(t.Context(), "support"); err != nil {
		t.Fatal(err)
	}
	if lost := a.WentBack(); lost != 0 {
		t.Errorf("%d messengers have lost something", lost)
	}
}

// A version of the settings and the reset of the shared tokens from before are one batch, however large the settings are: otherwise
// tokens that have ended with their method would be valid again on all nodes if the writer stops in between.
func TestSettingsAndTheirTokenResetAreOneBatch(t *testing.T) {
	offset := clock(t)
	s := newServer()
	a := newTestNode(t, s, "a")
	put := func(m *config.Messenger) error {
		_, _, err := a.Put(t.Context(), "acme", m, change.Condition{Confirm: change.AnyLoss})
		return err
	}
	keySet := &config.Messenger{IdentityKey: "identity", JWKS: &config.JWKS{URL: "https://127.0.0.1:1/keys"}}
	keySet.Previous = sharedTokenSettings(0).AsPrevious(vault.Now().Add(time.Minute))
	err := put(sharedTokenSettings(0))
	_, _, failed := a.ChangeRing(t.Context(), "acme", ledger.KindStored, ledger.GenerateToken(), change.Condition{})
	if err := errors.Join(err, failed, put(keySet)); err != nil {
		t.Fatal(err)
	}
	offset.Add(int64(time.Hour)) // the previous method has ended
	writes := 0
	a.storage.setBefore(func(op, key string) error {
		if _, batch := vault.ParseKey(key); op == "store" && batch {
			writes++
		}
		if writes > 1 {
			return errFailed
		}
		return nil
	})
	large := sharedTokenSettings(0)
	large.Audience = []string{strings.Repeat("a", 300<<10)}
	if put(large) == nil {
		t.Fatal("acknowledged")
	}
	r, err := newTestNode(t, s, "b").StoredRecord(t.Context(), "acme")
	if err != nil || r.Settings.Audience == nil || len(r.Tokens) != 0 {
		t.Errorf("another node has %d of the former tokens, and the error %v", len(r.Tokens), err)
	}
}
