package registry_test

import (
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
)

// An endedChat says how it was ended.
type endedChat chan session.Ending

func (c endedChat) End(e session.Ending) { c <- e }

func openChat(t *testing.T, messenger, identity string) endedChat {
	t.Helper()
	chat := make(endedChat, 1)
	s := registry.Connections.Add(session.Subject{Messenger: messenger, Identity: identity, Issued: time.Now()}, session.Deadline{}, chat)
	t.Cleanup(s.Remove)
	return chat
}

func (c endedChat) within(t *testing.T, whose string) {
	t.Helper()
	select {
	case e := <-c:
		if e != session.Revoked {
			t.Errorf("the chat of %s was ended with %v", whose, e)
		}
	case <-time.After(10 * time.Second):
		t.Errorf("the chat of %s goes on", whose)
	}
}

// A node drops what it holds of a messenger for lack of room, or a reload of its storage does, while its chats go on. They
// end all the same when their tokens are revoked, or the messenger is deleted, on another node.
func TestChatsEndAlsoWhereTheirMessengerIsNotHeld(t *testing.T) {
	s := newServer()
	a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
	prepare(t, a)
	b.settle(t)
	b.trusted(t, "acme")
	mark, zoe := openChat(t, "acme", "mark"), openChat(t, "acme", "zoe")
	(*b.Store.Stored()).Invalidate("acme")
	// Both nodes are in this process, with one tracker: what is written is not put into force on the first.
	elsewhere := func(f func(r *registry.Record) *registry.Record) {
		t.Helper()
		_, err := a.Store.Change(t.Context(), "acme", registry.KindStored, func(old *registry.Record) (*registry.Record, error) { return f(old), nil }, func(*registry.Record) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	later := time.Now().Add(time.Hour)
	elsewhere(func(r *registry.Record) *registry.Record {
		if err := r.AddRevocation(registry.Revocation{Identity: "mark", Before: &later}, time.Now()); err != nil {
			t.Fatal(err)
		}
		return r
	})
	b.settle(t)
	mark.within(t, "mark")
	select {
	case <-zoe:
		t.Error("the chat of zoe was ended")
	default:
	}
	(*b.Store.Stored()).Invalidate("acme")
	elsewhere(func(*registry.Record) *registry.Record { return nil })
	b.settle(t)
	zoe.within(t, "zoe")
}

// A stored messenger of a configured name is ignored. Deleting it, at last, ends no chat of the configured one.
func TestDeletingAnIgnoredMessengerEndsNoChat(t *testing.T) {
	s := newServer()
	a := newTestNode(t, s, "a")
	prepare(t, a)
	a.Messengers["acme"] = a.Messengers["sales"]
	(*a.Started()).Store(true)
	chat := openChat(t, "acme", "mark")
	if err := a.Remove(t.Context(), "acme", registry.Condition{}, "test"); err != nil {
		t.Fatal(err)
	}
	a.settle(t)
	select {
	case <-chat:
		t.Error("the chat was ended")
	case <-time.After(100 * time.Millisecond):
	}
}
