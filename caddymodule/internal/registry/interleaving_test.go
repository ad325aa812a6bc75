package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/change"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/testsize"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// refuses reports whether a node refuses a token of a stored or configured messenger.
func (n *testNode) refuses(name, identity, jti string, issued time.Time) bool {
	n.t.Helper()
	m, rej := n.Find(n.t.Context(), name)
	if rej != nil {
		n.t.Fatalf("node %s: %+v", n.name, rej)
	}
	return m.revoked.Covers(identity, authn.NewTokenID(jti), issued)
}

func (n *testNode) revoke(name string, v revocation.Revocation, by Actor) {
	n.t.Helper()
	if _, err := n.Revoke(n.t.Context(), name, v, by); err != nil {
		n.t.Fatal(err)
	}
}

// A file system reads a folder in parts. A listing that was begun before the batches 2 and 3 were written may have the third
// without the second.
func TestListingWithAGap(t *testing.T) {
	s := newServer()
	a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
	a.revoke("sales", revocation.Revocation{TokenID: "one"}, "test")
	b.settle()
	a.revoke("sales", revocation.Revocation{TokenID: "two"}, "test")
	a.revoke("sales", revocation.Revocation{TokenID: "three"}, "test")
	// The listing of b was begun before "two" was written, and had passed its place.
	hidden := vault.Key{Folder: "sales/config", Writer: a.Store.writer.ID, Number: 2}.String()
	s.mu.Lock()
	value := s.values[hidden]
	delete(s.values, hidden)
	s.mu.Unlock()
	if err := b.Store.reread(t.Context(), "sales"); err != nil { // of the sweep, or because another node has changed it
		t.Fatal(err)
	}
	s.set(hidden, value)
	for range 20 {
		b.settle()
	}
	if !b.refuses("sales", "mark", "two", time.Now()) {
		t.Error("an acknowledged revocation is not followed after 20 polls")
	}
}

// A node is stopped between writing new settings and confirming them.
func TestNodeStoppedBeforeConfirmingSettings(t *testing.T) {
	s := newServer()
	a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
	ctx := t.Context()
	if _, _, err := a.Put(ctx, "acme", sharedTokenSettings(0), change.Condition{}); err != nil {
		t.Fatal(err)
	}
	keySet := &config.Messenger{IdentityKey: "identity", JWKS: &config.JWKS{URL: "https://keys.example/set"}}
	stopped, goOn := make(chan bool), make(chan bool)
	writes := 0
	a.change("acme", ledger.GenerateToken())
	a.storage.setBefore(func(op, key string) error {
		if _, batch := vault.ParseKey(key); op == "store" && batch {
			if writes++; writes == 2 {
				stopped <- true
				<-goOn
			}
		}
		return nil
	})
	done := make(chan error)
	go func() {
		_, _, err := a.Put(ctx, "acme", keySet, change.Condition{Confirm: change.AnyLoss})
		done <- err
	}()
	<-stopped
	if _, _, err := b.Put(ctx, "acme", sharedTokenSettings(0), change.Condition{Confirm: change.AnyLoss}); err != nil { // after the change of a, as b sees it
		t.Fatal(err)
	}
	kid := b.change("acme", ledger.GenerateToken())
	goOn <- true
	t.Log("a was told", <-done)
	b.settle()
	a.settle()
	for _, n := range []*testNode{a, b} {
		if got := n.kids("acme"); !strings.Contains(got, kid) {
			t.Errorf("node %s has the tokens %q, and not %s, which nothing has revoked since it was made", n.name, got, kid)
		}
	}
}

// The same with a key that the stopped node removes, and another operator adds again.
func TestNodeStoppedBeforeRemovingAKey(t *testing.T) {
	s := newServer()
	a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
	ctx := t.Context()
	set := func(url string) *config.Messenger {
		return &config.Messenger{IdentityKey: "identity", JWKS: &config.JWKS{URL: url}}
	}
	if _, _, err := a.Put(ctx, "acme", set("https://keys.example/one"), change.Condition{Confirm: change.AnyLoss}); err != nil {
		t.Fatal(err)
	}
	stopped, goOn := make(chan bool), make(chan bool)
	writes := 0
	a.storage.setBefore(func(op, key string) error {
		if _, batch := vault.ParseKey(key); op == "store" && batch {
			if writes++; writes == 2 {
				stopped <- true
				<-goOn
			}
		}
		return nil
	})
	done := make(chan error)
	go func() {
		_, _, err := a.Put(ctx, "acme", set("https://keys.example/two"), change.Condition{Confirm: change.AnyLoss})
		done <- err
	}()
	<-stopped
	if _, _, err := b.Put(ctx, "acme", set("https://keys.example/one"), change.Condition{Confirm: change.AnyLoss}); err != nil { // as b sees it, it goes back
		t.Fatal(err)
	}
	goOn <- true
	t.Log("a was told", <-done)
	b.settle()
	r, err := b.StoredRecord(ctx, "acme")
	if err != nil || r.Unusable != nil || r.Settings.JWKS.URL != "https://keys.example/one" {
		t.Errorf("the settings that were acknowledged last are not usable: %v, %+v", err, r)
	}
}

// A contact logs out on a node that has not noticed yet that the messenger was deleted and created again.
func TestLogoutOfAMessengerCreatedAgain(t *testing.T) {
	s := newServer()
	a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
	ctx := t.Context()
	settings := &config.Messenger{IdentityKey: "identity", JWKS: &config.JWKS{URL: "https://keys.example/set"}}
	if _, _, err := a.Put(ctx, "acme", settings, change.Condition{}); err != nil {
		t.Fatal(err)
	}
	b.refuses("acme", "mark", "jti", time.Now())
	if _, _, err := a.Remove(ctx, "acme", change.Condition{}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Put(ctx, "acme", settings, change.Condition{}); err != nil {
		t.Fatal(err)
	}
	c := &authn.Contact{Identity: "mark", TokenID: authn.NewTokenID("jti"), Issued: time.Now(), Expires: time.Now().Add(time.Hour)}
	b.revoke("acme", revocation.OfLogout(c, settings, false, time.Now()), ByContact)
	b.settle()
	a.settle()
	for _, n := range []*testNode{a, b} {
		if !n.refuses("acme", "mark", "jti", c.Issued) {
			t.Errorf("node %s accepts the token of a contact whose logout was acknowledged after the messenger was created", n.name)
		}
	}
}

// One contact logs out again and again, with tokens without a jti or everywhere.
func TestLogoutsOfOneContactAreBounded(t *testing.T) {
	if testsize.Raced {
		t.Skip("it logs out one after the other")
	}
	synctest.Test(t, func(t *testing.T) {
		n := newTestNode(t, newServer(), "a")
		for i := range ledger.MaxRevocations + 100 {
			c := &authn.Contact{Identity: "mallory", Issued: time.Now(), Expires: time.Now().Add(time.Hour)}
			if _, err := n.Revoke(t.Context(), "sales", revocation.OfLogout(c, n.Messengers["sales"].Messenger, true, time.Now()), ByContact); err != nil {
				t.Fatalf("logout %d: %v", i, err)
			}
			time.Sleep(time.Second)
		}
		if _, err := n.Revoke(t.Context(), "sales", revocation.Revocation{Identity: "mark"}, "test"); err != nil {
			t.Errorf("an operator can revoke nothing any more, because one contact has logged out often: %v", err)
		}
		if active := len(n.Store.owned["sales"].Rules(Now())); active > 100 {
			t.Errorf("there are %d active revocations", active)
		}
		n.stop()
		time.Sleep(time.Hour)
	})
}

// The write of a rotation is held back; its caller is told 503. Another operator ends the tokens at once, and is told 200.
func TestLateRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
		ctx := t.Context()
		old := a.change("sales", ledger.GenerateToken())
		a.settle()
		b.settle()
		held := fmt.Errorf("held back")
		a.storage.setBefore(func(op, key string) error {
			if _, batch := vault.ParseKey(key); op == "store" && batch {
				return held
			}
			return nil
		})
		_, _, err := a.ChangeRing(ctx, "sales", ledger.KindRing, ledger.RotateTokens(24*time.Hour), change.Condition{})
		t.Log("a was told", err)
		b.change("sales", ledger.RotateTokens(0))
		a.storage.setBefore(nil)
		time.Sleep(5 * time.Second) // the writer of a writes it again
		b.settle()
		r, err := b.Record(ctx, "sales", ledger.KindRing)
		if err != nil {
			t.Fatal(err)
		}
		for _, tok := range r.Tokens {
			t.Log(tok.KeyID, tok.End)
		}
		for _, tok := range r.ActiveTokens() {
			if tok.KeyID == old {
				t.Errorf("a token that was ended with acknowledgement is active until %s", tok.End)
			}
		}
	})
}

// A listing is late, and lacks what the storage said to have stored. Of two writers neither sees the version of the other, and neither is
// told that its own is there.
func TestLateListingConfirmsNoSettings(t *testing.T) {
	s := newServer()
	a, b := newTestNode(t, s, "a"), newTestNode(t, s, "b")
	ctx := t.Context()
	if _, _, err := a.Put(ctx, "acme", sharedTokenSettings(time.Hour), change.Condition{}); err != nil {
		t.Fatal(err)
	}
	a.settle()
	b.settle()
	for i, n := range []*testNode{a, b} {
		if _, err := n.StoredRecord(ctx, "acme"); err != nil {
			t.Fatal(err)
		}
		var written atomic.Bool
		n.storage.setBefore(func(op, key string) error {
			if _, batch := vault.ParseKey(key); op == "store" && batch {
				written.Store(true)
			}
			if op == "list" && written.Load() {
				return fs.ErrNotExist
			}
			return nil
		})
		_, _, err := n.Put(ctx, "acme", sharedTokenSettings(time.Duration(i+2)*time.Hour), change.Condition{})
		if refused := new(caddy.APIError); !errors.As(err, refused) || refused.HTTPStatus != http.StatusServiceUnavailable {
			t.Errorf("node %s was told %v", n.name, err)
		}
		n.storage.setBefore(nil)
	}
}

// A storage has lost facts of a messenger, and they were not written back yet. No change is refused because of that.
func TestChangesWorkAfterLostFacts(t *testing.T) {
	s := newServer()
	a := newTestNode(t, s, "a")
	ctx := t.Context()
	if _, _, err := a.Put(ctx, "acme", sharedTokenSettings(time.Hour), change.Condition{}); err != nil {
		t.Fatal(err)
	}
	a.change("acme", ledger.GenerateToken())
	a.settle()
	s.mu.Lock()
	maps.DeleteFunc(s.values, func(key string, _ []byte) bool { return strings.HasPrefix(key, "messenger/acme/") })
	s.mu.Unlock()
	j, err := a.Store.fresh(ctx, "acme", ledger.KindStored)
	if err != nil || !hasLostFacts(j) {
		t.Fatalf("the node does not notice the loss: %v", err)
	}
	if _, _, err := a.Put(ctx, "acme", sharedTokenSettings(2*time.Hour), change.Condition{}); err != nil {
		t.Error(err)
	}
	a.change("acme", ledger.GenerateToken())
	if _, err := a.Revoke(ctx, "acme", revocation.Revocation{TokenID: revocation.TokenID("one")}, "test"); err != nil {
		t.Error(err)
	}
}

// stopAt makes a node stop before it stores its next batches, until the test lets it go on.
func (n *testNode) stopAt() (stopped chan bool, goOn chan bool) {
	stopped, goOn = make(chan bool), make(chan bool)
	n.storage.setBefore(func(op, key string) error {
		if _, batch := vault.ParseKey(key); op == "store" && batch {
			stopped <- true
			<-goOn
		}
		return nil
	})
	return stopped, goOn
}
