package registry

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
)

// failing makes every access of a node fail, or none.
func (n *testNode) failing(fails bool) {
	n.storage.server.mu.Lock()
	defer n.storage.server.mu.Unlock()
	n.storage.setBefore(nil)
	if fails {
		n.storage.setBefore(func(string, string) error { return errFailed })
	}
}

// A reload while the storage is away: what the node has read stays active, and what it has not read decides nothing. Also a
// node that does not poll finds out when the storage is back.
func TestReloadDuringAStorageOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
		prepare(t, a)
		agree(t, "before", b)
		b.failing(true)
		b.reload("another", "new", "support")
		for name, unknown := range map[string]bool{"another": true, "new": true, "support": false} {
			if got := b.Messengers[name].revoked.Unknown(); got != unknown {
				t.Errorf("%s: its revocations are unknown: %t, want %t", name, got, unknown)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan struct{})
		go func() {
			b.Store.catchUp(ctx)
			close(done)
		}()
		b.failing(false)
		time.Sleep(time.Minute)
		select {
		case <-done:
		default:
			t.Error("the node does not find out that the storage is back")
		}
		for name, m := range b.Messengers {
			if m.revoked.Unknown() {
				t.Errorf("%s: its revocations are unknown, although the storage is back", name)
			}
		}
	})
}

// Another node gives a stored messenger settings that this node cannot use. Its old ones are not active any more.
func TestUnusableSettingsReplaceTheOldOnes(t *testing.T) {
	s := newServer()
	a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
	prepare(t, a)
	agree(t, "before", b)
	old, rej := b.Find(t.Context(), "acme")
	if rej != nil {
		t.Fatal(rej)
	}
	change := func(key string) {
		t.Helper()
		_, _, _ = a.Put(t.Context(), "acme", &config.Messenger{IdentityKey: key, SharedToken: new(config.SharedToken)}, change.Condition{}) // a cannot use them either
		b.settle()
	}
	change("a key that is none")
	if !old.revoked.Unknown() {
		t.Error("the settings from before still decide")
	}
	if _, err := b.Revoke(t.Context(), "acme", revocation.Revocation{Identity: "mark"}, "test"); err != nil {
		t.Error(err)
	}
	if !old.revoked.Unknown() {
		t.Error("after a revocation the settings from before decide again")
	}
	change("sub")
	m, rej := b.Find(t.Context(), "acme")
	if rej != nil || m.revoked.Unknown() || m.IdentityKey != "sub" || !m.revoked.Covers("mark", "", time.Now().Add(-time.Hour)) {
		t.Errorf("fixed: %+v %+v", m, rej)
	}
}
