package registry

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/turnstile"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// What the store has lost stays active on the nodes that know it, whatever other messengers are asked for, and health says so
// until it is written back.
func TestLostFactsAndEviction(t *testing.T) {
	s := newServer()
	a := newTestNode(t, s, "a")
	ctx := t.Context()
	if _, _, err := a.Put(ctx, "acme", sharedTokenSettings(0), change.Condition{}); err != nil {
		t.Fatal(err)
	}
	a.revoke("acme", revocation.Revocation{TokenID: "jti"}, "test")
	var lost string
	for _, key := range s.keys() {
		if k, ok := vault.ParseKey(key); ok && strings.HasPrefix(k.Folder, "acme/") && k.Number == 3 {
			lost = key
		}
	}
	s.mu.Lock()
	value := s.values[lost]
	delete(s.values, lost)
	s.mu.Unlock()
	if err := a.Store.reread(ctx, "acme"); err != nil || a.WentBack() != 1 {
		t.Fatal(err, a.WentBack())
	}
	if !a.refuses("acme", "mark", "jti", time.Now()) {
		t.Fatal("not refused")
	}
	a.Store.stored.Invalidate("acme") // as an eviction does
	if !a.refuses("acme", "mark", "jti", time.Now()) {
		t.Error("a revoked token is accepted after the messenger was evicted from memory")
	}
	s.set(lost, value) // another node repairs
	for range 20 {
		a.settle()
	}
	_ = a.Store.rereadHeld(ctx, noWait)
	if n := a.WentBack(); n != 0 {
		t.Errorf("health says that facts of %d messengers are lost, for good, although the storage has them again", n)
	}
}

// A messenger that takes long to read, because it has many facts or the storage is slow, delays its own requests only, and these
// not for longer than maxWait.
func TestSlowMessengerDoesNotDelayOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
		for _, name := range testStored {
			if _, _, err := a.Put(t.Context(), name, sharedTokenSettings(0), change.Condition{}); err != nil {
				t.Fatal(err)
			}
		}
		b.storage.setBefore(func(op, key string) error {
			if strings.Contains(key, "/acme") {
				time.Sleep(4 * time.Second)
			}
			return nil
		})
		var wg sync.WaitGroup
		var longest atomic.Int64
		for range 2 * turnstile.Places {
			wg.Go(func() {
				began := time.Now()
				_, _ = b.Find(t.Context(), "acme")
				longest.Store(max(longest.Load(), int64(time.Since(began))))
			})
		}
		time.Sleep(100 * time.Millisecond)
		began := time.Now()
		if _, rej := b.Find(t.Context(), "bolt"); rej != nil || time.Since(began) > time.Second {
			t.Errorf("another messenger: %+v after %s", rej, time.Since(began))
		}
		wg.Wait()
		if d := time.Duration(longest.Load()); d > maxWait+time.Second {
			t.Errorf("a request has waited for the storage for %s", d)
		}
		time.Sleep(time.Minute)
		if _, rej := b.Find(t.Context(), "acme"); rej != nil {
			t.Errorf("the slow messenger was not read in the end: %+v", rej)
		}
		a.stop()
		b.stop()
		time.Sleep(time.Hour)
	})
}

// The change of a caller that does not wait for it is made, and the connections that it has ended are not told to the next caller.
func TestChangesOfDisconnectedCallersAreCompleted(t *testing.T) {
	n := newTestNode(t, newServer(), "a")
	n.active.Store(true)
	mark, _ := openChat(t, "sales", "mark"), openChat(t, "sales", "jane")
	stopped, goOn := make(chan bool), make(chan bool)
	n.storage.setBefore(func(op, key string) error {
		if _, batch := vault.ParseKey(key); op == "store" && batch {
			stopped <- true
			<-goOn
		}
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := n.Revoke(ctx, "sales", revocation.Revocation{Identity: "mark"}, "test")
		done <- err
	}()
	<-stopped
	cancel()
	if err := <-done; err == nil {
		t.Fatal("acknowledged")
	}
	goOn <- true
	mark.within(t, "mark")
	n.storage.setBefore(nil)
	if ended, err := n.Revoke(t.Context(), "sales", revocation.Revocation{Identity: "jane"}, "test"); err != nil || ended != 1 {
		t.Errorf("revoking the tokens of another contact has ended %d connections, want 1: %v", ended, err)
	}
}

// Messengers that are deleted on another node leave nothing behind.
func TestMessengersDeletedOnOtherNodesFreeTheirMemory(t *testing.T) {
	s := newServer()
	a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
	for i := range 20 {
		name := fmt.Sprint("temporary-", i)
		if _, _, err := a.Put(t.Context(), name, sharedTokenSettings(0), change.Condition{}); err != nil {
			t.Fatal(err)
		}
		a.change(name, ledger.GenerateToken())
		b.kids(name)
		a.remove(name)
		b.settle()
	}
	if n := b.Store.Uses.Len(); n > len(testConfigured) {
		t.Errorf("%d records of uses, of %d messengers", n, len(testConfigured))
	}
}
