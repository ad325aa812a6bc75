package registry

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/testsize"
)

// openUnder adds a chat that was opened under m, as the guard does.
func openUnder(t *testing.T, m *Messenger, identity, key string) endedChat {
	t.Helper()
	chat := make(endedChat, 1)
	s := Connections.Add(session.Subject{Messenger: m.Name, Identity: identity, Key: key, Issued: time.Now(), Origin: m.Origin.Load()}, session.Deadline{}, chat)
	t.Cleanup(s.Remove)
	return chat
}

func keyOf(m *Messenger) string {
	for id := range m.Verifier.Load().Active() {
		return id
	}
	return ""
}

// An attacker asks for made-up host names until the messenger of open chats would have been evicted. It stays, with its
// key set and all; a messenger without chats goes, and one whose last chat has closed.
func TestMessengerWithChatsIsNotEvicted(t *testing.T) {
	s := newServer()
	n := newTestNode(t, s, "a")
	prepare(t, n)
	m, rej := n.Find(t.Context(), "acme")
	if rej != nil {
		t.Fatal(rej)
	}
	chat := openUnder(t, m, "mark", keyOf(m))
	if _, rej := n.pinnedMessenger(t.Context(), "acme"); rej != nil {
		t.Fatal(rej)
	}
	evict := func() {
		for range testsize.Of(3*maxCached, 3*maxCached) {
			_, _ = n.Find(t.Context(), strings.ToLower(rand.Text()))
		}
		n.Store.stored.CleanUp()
		n.Store.stored.Invalidate("acme") // it is asked for so seldom, or so often, that nobody can say whether it went
	}
	evict()
	if again, rej := n.Find(t.Context(), "acme"); rej != nil || again != m || m.released.Load() {
		t.Errorf("the messenger was evicted: %p became %p, %v, and it is cleaned up: %t", m, again, rej, m.released.Load())
	}
	_, ended, err := n.ChangeRing(t.Context(), "acme", ledger.KindStored, ledger.ResetTokens(true), change.Condition{})
	if err != nil || ended != 1 {
		t.Errorf("the reset tells of %d connections, %v", ended, err)
	}
	chat.within(t, "mark")
	eventually(t, "the one from before the reset is cleaned up", func() bool { return m.released.Load() })
	m, _ = n.Find(t.Context(), "acme")
	n.Store.unpin()
	n.Store.stored.Invalidate("acme")
	eventually(t, "without chats it is cleaned up", func() bool { return m.released.Load() })
	if len(n.Store.pinned) > 0 {
		t.Errorf("pinned are %v", n.Store.pinned)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// What happens to a messenger on another node, between two looks of this one, ends exactly the chats that it means here,
// whether the messenger is in memory, is not, or only became so.
func TestChangesOnOtherNodesCloseConnections(t *testing.T) {
	for name, test := range map[string]struct {
		change func(t *testing.T, a *testNode)
		ends   bool
	}{
		"reset, closing":     {func(t *testing.T, a *testNode) { must(t, a, ledger.ResetTokens(true)) }, true},
		"reset, not closing": {func(t *testing.T, a *testNode) { must(t, a, ledger.ResetTokens(false)) }, false},
		"rotated":            {func(t *testing.T, a *testNode) { must(t, a, ledger.RotateTokens(0)) }, false},
		"rotated, then another token revoked, closing": {func(t *testing.T, a *testNode) {
			must(t, a, ledger.RotateTokens(0))
			must(t, a, ledger.ResetTokens(true))
		}, true},
		"generated": {func(t *testing.T, a *testNode) { must(t, a, ledger.GenerateToken()) }, false},
		"deleted and made anew": {func(t *testing.T, a *testNode) {
			r, err := a.Record(t.Context(), "acme", ledger.KindStored)
			if err != nil {
				t.Fatal(err)
			}
			a.remove("acme")
			if _, _, err := a.Put(t.Context(), "acme", r.Settings, change.Condition{}); err != nil {
				t.Fatal(err)
			}
		}, true},
	} {
		for _, memory := range []string{"in memory", "evicted", "evicted and read again"} {
			t.Run(name+", "+memory, func(t *testing.T) {
				s := newServer()
				a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
				prepare(t, a)
				b.settle()
				m, rej := b.Find(t.Context(), "acme")
				if rej != nil {
					t.Fatal(rej)
				}
				subject := session.Subject{Messenger: "acme", Identity: "mark", Key: keyOf(m), Issued: time.Now(), Origin: m.Origin.Load()}
				// Both nodes are in this process with one tracker, and so the chat is added behind a's change.
				test.change(t, a)
				chat := make(endedChat, 1)
				c := Connections.Add(subject, session.Deadline{}, chat)
				defer c.Remove()
				if memory != "in memory" {
					b.Store.stored.Invalidate("acme")
				}
				if memory == "evicted and read again" {
					_, _ = b.Find(t.Context(), "acme")
				}
				b.settle()
				if test.ends {
					chat.within(t, "mark")
					return
				}
				select {
				case <-chat:
					t.Error("the chat was ended")
				case <-time.After(20 * time.Millisecond):
				}
			})
		}
	}
}

func must(t *testing.T, n *testNode, change ledger.RingChange) {
	t.Helper()
	n.change("acme", change)
}

// A chat begins under a configuration whose store was given back at this very moment, by a reload that changes the store's
// key, say. Nothing of it stays behind.
func TestConnectionOfAClosedStore(t *testing.T) {
	s := newServer()
	n := newTestNode(t, s, "a")
	prepare(t, n)
	if err := n.Store.Destruct(); err != nil {
		t.Fatal(err)
	}
	m, rej := n.pinnedMessenger(t.Context(), "acme")
	if rej != nil {
		t.Fatal(rej)
	}
	eventually(t, "the messenger is cleaned up", func() bool { return m.released.Load() })
}

// A node has a stored messenger in memory when it loads a configuration with a messenger of the same name. Chats end by the rules of
// the active one. Until the configuration runs, and if it never does, the stored one is active.
func TestStoredAndConfiguredMessengerOfOneName(t *testing.T) {
	settle := func(_ *testing.T, a *testNode) { a.settle() }
	changes := map[string]struct {
		there func(t *testing.T, b *testNode) // on another node, before the chat begins
		here  func(t *testing.T, a *testNode)
	}{
		"another node revokes the contact's tokens": {func(t *testing.T, b *testNode) {
			if _, err := b.Revoke(t.Context(), "acme", revocation.Revocation{Identity: "mark"}, "test"); err != nil {
				t.Fatal(err)
			}
		}, settle},
		"another node resets the tokens": {func(t *testing.T, b *testNode) { must(t, b, ledger.ResetTokens(true)) }, settle},
		"another node deletes it": {func(t *testing.T, b *testNode) {
			b.remove("acme")
		}, settle},
		"its key set changes": {func(*testing.T, *testNode) {}, func(_ *testing.T, a *testNode) {
			e, _ := a.Store.cached("acme")
			e.messenger.engine.Key.Store = &a.Store.KeySets
			a.Store.KeySetChanged(e.messenger.engine.Key)
		}},
	}
	for what, change := range changes {
		for _, runs := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, the configuration runs: %t", what, runs), func(t *testing.T) {
				a := newTestNode(t, newServer(), "a")
				prepare(t, a)
				a.settle()
				a.active.Store(true)
				stored, rej := a.Find(t.Context(), "acme")
				if rej != nil {
					t.Fatal(rej)
				}
				next := registryOn(a.Store, nil, a.Logger)
				configured := &Messenger{Messenger: &config.Messenger{IdentityKey: "identity", SharedToken: new(config.SharedToken)}}
				if err := configured.provision("acme", a.Logger, a.Store, nil); err != nil {
					t.Fatal(err)
				}
				next.Messengers["acme"] = configured
				a.Store.attach(next)
				t.Cleanup(func() { a.Store.detach(next) })
				next.active.Store(runs)
				open, key := stored, "a key that is active no more"
				if runs {
					open, key = configured, "a key of the configuration"
				}
				change.there(t, newTestNode(t, a.storage.server, "b"))
				chat := openUnder(t, open, "mark", key)
				change.here(t, a)
				switch n := Connections.Open()["acme"]; {
				case runs && n != 1:
					t.Error("the chat of the configured messenger was ended")
				case !runs:
					chat.within(t, "mark")
				}
			})
		}
	}
}
