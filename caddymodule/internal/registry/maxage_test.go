package registry

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
)

// With store_max_age, a node that could not read the store for so long does not trust what it knows any more, by whichever clock
// says so, until it can read it again. A reload changes nothing about that.
func TestStoreMaxAge(t *testing.T) {
	for what, pass := range map[string]func(n *testNode, offset func(time.Duration), poll func()){
		"time passes": func(_ *testNode, _ func(time.Duration), _ func()) { time.Sleep(2 * time.Minute) },
		"the wall clock is set back meanwhile": func(_ *testNode, offset func(time.Duration), _ func()) {
			offset(-time.Hour)
			time.Sleep(2 * time.Minute)
		},
		"the machine was suspended": func(_ *testNode, offset func(time.Duration), _ func()) { offset(2 * time.Minute) },
		"a reload":                  func(n *testNode, _ func(time.Duration), poll func()) { time.Sleep(2 * time.Minute); poll(); n.reload() },
	} {
		t.Run(what, func(t *testing.T) {
			offset := clock(t)
			synctest.Test(t, func(t *testing.T) {
				n := newTestNode(t, newServer(), "a")
				prepare(t, n)
				n.UseMaxAge(10 * time.Minute)
				seen := healthSeen{started: time.Now()}
				poll := func() {
					n.Store.poll(t.Context())
					n.Store.checkHealth(&seen)
				}
				check := func(when string, want map[string]string) {
					t.Helper()
					for name, kids := range want {
						if got := n.kids(name); got != kids {
							t.Errorf("%s: %s is %q, want %q", when, name, got, kids)
						}
					}
				}
				poll()
				served := map[string]string{"support": n.kids("support"), "acme": n.kids("acme")}
				n.failing(true)
				time.Sleep(9 * time.Minute)
				poll()
				check("before", served)
				pass(n, func(d time.Duration) { offset.Store(int64(d)) }, poll)
				poll()
				check("after store_max_age", map[string]string{"support": "keys_unavailable", "acme": "keys_unavailable"})
				n.failing(false)
				poll()
				check("when the storage is back", served)
				n.change("acme", ledger.ResetTokens(false))
				if now := n.kids("acme"); now == served["acme"] {
					t.Error("a change after that has no effect")
				}
			})
		})
	}
	t.Run("off", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := newTestNode(t, newServer(), "a")
			prepare(t, n)
			seen := healthSeen{started: time.Now()}
			n.Store.poll(t.Context())
			served := n.kids("acme")
			n.failing(true)
			time.Sleep(3 * time.Hour)
			n.Store.poll(t.Context())
			n.Store.checkHealth(&seen)
			if got := n.kids("acme"); got != served {
				t.Errorf("without store_max_age: %q, want %q", got, served)
			}
		})
	})
}

// The store was out of reach for 55 minutes, and then refuses one file of a messenger: store_max_age began with the last reading.
func TestMaxAgeCountsFromTheLastReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a := newTestNode(t, s, "a")
		a.UseMaxAge(time.Hour)
		prepare(t, a)
		a.settle()
		seen, before, began := healthSeen{started: time.Now()}, s.backup(), time.Now()
		a.failing(true)
		newTestNode(t, s, "b").revoke("support", revocation.Revocation{Identity: "mark"}, "test")
		for a.kids("support") != "keys_unavailable" {
			if time.Sleep(time.Minute); time.Since(began) == 55*time.Minute {
				a.failing(false)
				a.storage.refuse("load", added("support", before, s.backup()))
			}
			a.Store.poll(t.Context())
			a.Store.checkHealth(&seen)
			if time.Since(began) > 65*time.Minute {
				t.Fatal("it still verifies")
			}
		}
		if got := a.kids("sales"); got == "keys_unavailable" {
			t.Errorf("another messenger: %q", got)
		}
	})
}

// A file of a stored messenger is refused which the configuration has as well. That one does not need it.
func TestMaxAgeOfAShadowedMessenger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a := newTestNode(t, s, "a")
		a.UseMaxAge(time.Hour)
		prepare(t, a)
		a.settle()
		a.kids("acme")
		a.reload("sales", "support", "acme")
		a.change("acme", ledger.GenerateToken())
		a.settle()
		seen, before := healthSeen{started: time.Now()}, s.backup()
		newTestNode(t, s, "b").revoke("acme", revocation.Revocation{Identity: "mark"}, "test")
		a.storage.refuse("load", added("acme", before, s.backup()))
		defer a.storage.refuse("", nil)
		for range 90 {
			time.Sleep(time.Minute)
			a.Store.poll(t.Context())
			a.Store.checkHealth(&seen)
		}
		if got := a.kids("acme"); got == "keys_unavailable" {
			t.Error(got)
		}
	})
}
