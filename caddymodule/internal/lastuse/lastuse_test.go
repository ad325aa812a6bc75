package lastuse

import (
	"context"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/configtest"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// When a token was last used is known to the hour, and costs a store only once in an hour.
func TestLastUseHasHourlyResolution(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		uses := new(Rings).Of("support", ledger.KindRing)
		made := ledger.Token{KeyID: "2026-11-26-abcdef", Secret: []byte(sharedtoken.Generate())}
		keys, err := (&ledger.Record{Tokens: []ledger.Token{made}}).Keys(sigkey.HS256, uses.Of)
		if err != nil {
			t.Fatal(err)
		}
		contact, rej := authn.NewVerifier(authn.Policy{IdentityKey: "identity"}, keys).Verify(context.Background(), configtest.Token(string(made.Secret), ""))
		if rej != nil {
			t.Fatal(rej)
		}
		contact.SignedBy.Use(time.Now())
		first := uses.after(uses.written)
		if first[made.KeyID] != time.Now().Unix()/3600 {
			t.Errorf("got %v", first)
		}
		uses.markWritten(first)
		contact.SignedBy.Use(time.Now().Add(time.Second))
		if again := uses.after(uses.written); len(again) != 0 {
			t.Errorf("the same hour is written again: %v", again)
		}
		time.Sleep(time.Hour)
		contact.SignedBy.Use(time.Now())
		contact.SignedBy.Use(time.Now().Add(-2 * time.Hour))
		if again := uses.after(uses.written); again[made.KeyID] != first[made.KeyID]+1 {
			t.Errorf("an hour later: %v", again)
		}
	})
}

// What other nodes have used is learnt from the store, is not written again, and never makes a token look older than it is.
func TestUsesOfOtherNodesAreRead(t *testing.T) {
	ring := new(Rings).Of("support", ledger.KindRing)
	mine := ring.Of("a")
	mine.Store(7)
	ring.learn(map[string]int64{"a": 5, "b": 6})
	if got, want := ring.after(nil), map[string]int64{"a": 7, "b": 6}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := ring.after(ring.written), map[string]int64{"a": 7}; !maps.Equal(got, want) {
		t.Errorf("to be written: got %v, want %v", got, want)
	}
	ring.learn(map[string]int64{"a": 9})
	if mine.Load() != 9 || len(ring.after(ring.written)) != 0 {
		t.Errorf("after another node has used it: %d, to be written %v", mine.Load(), ring.after(ring.written))
	}
}

// A value that an attacker has put into the storage makes nothing panic, and hides no use.
func TestForeignValuesAreIgnored(t *testing.T) {
	seal, err := vault.NewSealer(nil)
	if err != nil {
		t.Fatal(err)
	}
	v := vault.New(seal, func() {})
	v.Use(&certmagic.FileStorage{Path: t.TempDir()})
	for _, text := range []string{"null", "[]", `{"a":"b"}`, `{"a":1.5}`, `{"a":1}{}`, "", `{"kid":9000000000000}`, `{"kid":-9}`} {
		if err := v.Save(t.Context(), key("sales", "ring"), []byte(text)); err != nil {
			t.Fatal(err)
		}
		r := Rings{Vault: v}
		r.Of("sales", "ring").Of("kid").Store(7)
		want := map[string]time.Time{"kid": time.Unix(7*3600, 0).UTC()}
		if got := r.Last(t.Context(), "sales", "ring"); !maps.Equal(got, want) {
			t.Errorf("after %q: got %v, want %v", text, got, want)
		}
		r.Learn(t.Context(), func(string, string) bool { return true })
		if err := r.Write(t.Context(), "sales", "ring"); err != nil {
			t.Errorf("after %q: %v", text, err)
		}
	}
}
