package registry_test

import (
	"context"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
)

// A reload while the storage is away: what the node has read stays in force, and what it has not read decides nothing. Also
// a node that does not poll finds out when the storage is back.
func TestAReloadInAnOutage(t *testing.T) {
	s := newServer()
	a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
	prepare(t, a)
	agree(t, "before", b)
	s.mu.Lock()
	b.storage.failures = 1
	s.mu.Unlock()

	next := registry.RegistryOn(b.Store, nil, zap.NewNop())
	for _, name := range []string{"another", "new", "support"} {
		m := &registry.Messenger{Messenger: &config.Messenger{IdentityKey: "identity", SharedToken: new(config.SharedToken)}}
		if err := m.Provision(name, next.Logger, b.Store); err != nil {
			t.Fatal(err)
		}
		next.Messengers[name] = m
	}
	b.Store.Attach(next)
	defer b.Store.Detach(next)
	for name, unknown := range map[string]bool{"another": true, "new": true, "support": false} {
		if got := (*next.Messengers[name].Revoked()).Unknown(); got != unknown {
			t.Errorf("%s: nobody knows its revocations: %t, want %t", name, got, unknown)
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() {
		b.Store.CatchUp(ctx)
		close(done)
	}()
	s.mu.Lock()
	b.storage.failures = 0
	s.mu.Unlock()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("the node does not find out that the storage is back")
	}
	for name, m := range next.Messengers {
		if (*m.Revoked()).Unknown() {
			t.Errorf("%s: nobody knows its revocations, although the storage is back", name)
		}
	}
}

// Another node gives a stored messenger settings that this node cannot use. Its old ones are not in force any more.
func TestSettingsThatCannotBeUsedHereDecideNothing(t *testing.T) {
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
		_, err := a.Store.Change(t.Context(), "acme", registry.KindStored, func(old *registry.Record) (*registry.Record, error) {
			old.Settings.IdentityKey, old.Revision = key, ""
			return old, nil
		}, func(*registry.Record) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		b.settle(t)
	}
	change("a key that is none")
	if !(*old.Revoked()).Unknown() {
		t.Error("the settings from before still decide")
	}
	change("sub")
	m, rej := b.Find(t.Context(), "acme")
	if rej != nil || (*m.Revoked()).Unknown() || m.IdentityKey != "sub" {
		t.Errorf("mended: %+v %+v", m, rej)
	}
}
