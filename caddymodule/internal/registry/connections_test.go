package registry

import (
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/session"
)

// An endedChat says how it was ended.
type endedChat chan session.Ending

func (c endedChat) End(e session.Ending) { c <- e }

func openChat(t *testing.T, messenger, identity string) endedChat {
	t.Helper()
	chat := make(endedChat, 1)
	s := Connections.Add(session.Subject{Messenger: messenger, Identity: identity, Issued: time.Now()}, session.Deadline{}, chat)
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
func TestConnectionsOfEvictedMessengersAreClosed(t *testing.T) {
	s := newServer()
	a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
	prepare(t, a)
	b.settle()
	b.kids("acme")
	mark, zoe := openChat(t, "acme", "mark"), openChat(t, "acme", "zoe")
	b.Store.stored.Invalidate("acme")
	// Both nodes are in this process with one tracker. Therefore a does not have the messenger in memory either.
	a.Store.stored.Invalidate("acme")
	later := time.Now().Add(time.Hour)
	j := ledger.New("acme", ledger.KindStored)
	if err := a.Store.read(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	incarnation, revocation, err := j.Revoke(revocation.Revocation{Identity: "mark", Before: &later}, &config.Messenger{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Store.Write(t.Context(), j, incarnation, true, revocation...); err != nil {
		t.Fatal(err)
	}
	b.settle()
	mark.within(t, "mark")
	select {
	case <-zoe:
		t.Error("the chat of zoe was ended")
	default:
	}
	b.Store.stored.Invalidate("acme")
	a.Store.stored.Invalidate("acme")
	if _, err := a.Store.Write(t.Context(), j, ledger.NameFolder, true, j.Deletion(time.Now())); err != nil {
		t.Fatal(err)
	}
	b.settle()
	zoe.within(t, "zoe")
}

// A stored messenger of a configured name is ignored. Deleting it, at last, ends no chat of the configured one.
func TestDeletingAnIgnoredMessengerClosesNoConnections(t *testing.T) {
	s := newServer()
	a := newTestNode(t, s, "a")
	prepare(t, a)
	a.Messengers["acme"] = a.Messengers["sales"]
	a.active.Store(true)
	chat := openChat(t, "acme", "mark")
	a.remove("acme")
	a.settle()
	select {
	case <-chat:
		t.Error("the chat was ended")
	case <-time.After(100 * time.Millisecond):
	}
}
