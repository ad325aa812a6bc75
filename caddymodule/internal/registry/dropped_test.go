package registry

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
)

// duringADrop runs f while a poll of a node that was away drops what it knew: it waits for configured messengers that are being applied.
func (n *testNode) duringADrop(f func()) {
	var applying []*ledger.Journal
	for _, name := range []string{"sales", "support"} {
		if j := n.Store.inMemory(name, ledger.KindRing); j != nil {
			j.Applying.Lock()
			applying = append(applying, j)
		}
	}
	before, polled := n.Store.epoch.Load(), make(chan struct{})
	go func() {
		n.Store.poll(n.t.Context())
		close(polled)
	}()
	for n.Store.epoch.Load() == before {
		runtime.Gosched()
	}
	f()
	for _, j := range applying {
		j.Applying.Unlock()
	}
	<-polled
}

// A connection opens while the node drops what it knew. It does not keep what is dropped in memory: changes of other nodes arrive.
func TestConnectionsDoNotKeepDroppedMessengers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
		prepare(t, a)
		leaked := a.change("acme", ledger.GenerateToken())
		a.settle()
		b.settle()
		a.kids("acme")
		time.Sleep(40 * 24 * time.Hour)
		a.duringADrop(func() {
			m, rej := a.Find(t.Context(), "acme")
			if rej != nil {
				t.Fatal(rej)
			}
			_ = openUnder(t, m, "mark", keyOf(m))
			if _, rej := a.pinnedMessenger(t.Context(), "acme"); rej != nil {
				t.Error(rej)
			}
		})
		b.settle()
		b.change("acme", ledger.RevokeToken(leaked, false))
		a.settle()
		if got := a.kids("acme"); strings.Contains(got, leaked) || got == "keys_unavailable" {
			t.Errorf("after the revocation on another node: %q, and %s was revoked", got, leaked)
		}
		a.change("acme", ledger.GenerateToken())
		if status := a.Status(); status.Err != nil || Now().Sub(status.Polled) > time.Minute {
			t.Errorf("the store was read %s ago: %v", Now().Sub(status.Polled), status.Err)
		}
	})
}

// A change reads a configured messenger while the node drops what it knew. The messenger has its keys then, and keeps them.
func TestChangesDuringADropStayActive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a := newTestNode(t, s, "a")
		prepare(t, a)
		a.settle()
		time.Sleep(40 * 24 * time.Hour)
		var want string
		a.duringADrop(func() {
			a.change("support", ledger.GenerateToken())
			want = a.kids("support")
		})
		a.settle()
		if got := a.kids("support"); got != want || want == "keys_unavailable" {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// After a reload to poll_interval 0 the node does not poll any more. It does not count as away after a month, and store_max_age is over.
func TestNodesWithoutPollsAreNeverAway(t *testing.T) {
	for what, prepared := range map[string]func(a *testNode){
		"for a month": func(*testNode) {},
		"after store_max_age": func(a *testNode) {
			a.UseMaxAge(time.Hour)
			seen := healthSeen{started: time.Now()}
			a.failing(true)
			time.Sleep(2 * time.Hour)
			a.Store.poll(a.t.Context())
			a.Store.checkHealth(&seen)
			if got := a.kids("support"); got != "keys_unavailable" {
				a.t.Errorf("before the reload: %q", got)
			}
			a.failing(false)
			a.UseMaxAge(0)
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer()
			a := newTestNode(t, s, "a")
			prepare(t, a)
			a.settle()
			prepared(a)
			a.reload()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go a.Store.catchUp(ctx)
			time.Sleep(29 * 24 * time.Hour)
			backup := s.backup()
			a.revoke("acme", revocation.Revocation{Identity: "mark"}, "test")
			s.restore(backup)
			time.Sleep(time.Hour)
			a.Store.sweep(t.Context())
			if done, err := a.Repair(t.Context()); err != nil || done.Messengers != 1 {
				t.Errorf("%s: repaired %+v, %v", what, done, err)
			}
			if _, _, err := a.ChangeRing(t.Context(), "support", ledger.KindRing, ledger.GenerateToken(), change.Condition{}); err != nil || a.kids("support") == "keys_unavailable" {
				t.Errorf("%s: %v, %q", what, err, a.kids("support"))
			}
		})
	}
}
