package ledger

import (
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
)

// A storage is emptied, a file brings a stored messenger back on node b, and node a writes back what it knows. Whichever of the two
// incarnations counts: what restricts the messenger on one of the nodes holds on both, the tokens of both are valid, and both can be ended.
func TestTwoIncarnationsOfOneMessenger(t *testing.T) {
	start := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	settings := &config.Messenger{IdentityKey: "identity", SharedToken: new(config.SharedToken)}
	for _, names := range [][2]string{{"first", "second"}, {"second", "first"}} {
		t.Run("a has the "+names[0], func(t *testing.T) {
			a, b := incarnated(t, "aaaaaaaaaaaaaaaa", names[0]), incarnated(t, "bbbbbbbbbbbbbbbb", names[1])
			create := func(w *writing, at time.Time) {
				facts, _, err := w.NextVersion(settings, at)
				if err != nil {
					t.Fatal(err)
				}
				facts[0].Created = &start
				w.add(at, append(facts, NewFact(factConfirmed, at, facts[0].ID))...)
			}
			revoke := func(w *writing, jti revocation.TokenID, at time.Time) {
				_, facts, err := w.Revoke(revocation.Revocation{TokenID: jti}, settings, at)
				if err != nil {
					t.Fatal(err)
				}
				w.add(at, facts...)
			}
			create(a, start)
			shared, leaked := a.change(start.Add(time.Second), GenerateToken()), a.change(start.Add(time.Second), GenerateToken())
			file := a.Copy(start.Add(time.Second))
			revoke(a, "stolen", start.Add(time.Minute))
			a.change(start.Add(time.Minute), RevokeToken(leaked.KeyID, false))
			late := a.change(start.Add(time.Minute), GenerateToken())

			at := start.Add(2 * time.Minute)
			d, err := b.Lacking(file, at)
			if err != nil {
				t.Fatal(err)
			}
			create(b, at)
			b.add(at, d.Facts...)
			revoke(b, "other", at)
			fresh := b.change(at, GenerateToken())

			both := []*writing{a, b}
			a.learn(b, at)
			b.learn(a, at)
			check := func(when string, at time.Time, valid ...*NewToken) {
				t.Helper()
				for _, w := range []*writing{a, b, a.started(at), b.started(at)} {
					name := when + ", " + w.writer[:1]
					isRevoked := w.Revoked(at)
					for _, jti := range []revocation.TokenID{"stolen", "other"} {
						if !isRevoked(revocation.Revocation{TokenID: jti}) {
							t.Errorf("%s: the token %s is not revoked", name, jti)
						}
					}
					if list := w.Revocations(0, at); len(list) != 2 {
						t.Errorf("%s: the list has %v", name, list)
					}
					ring := make(map[string]bool)
					for _, token := range w.ActiveTokens(at) {
						ring[string(token.Secret)] = true
					}
					for _, token := range valid {
						if !ring[token.Token] {
							t.Errorf("%s: the token %s is not valid", name, token.KeyID)
						}
					}
					if len(ring) != len(valid) {
						t.Errorf("%s: %d tokens are valid, want %d", name, len(ring), len(valid))
					}
				}
			}
			check("at once", at, shared, late, fresh)

			at = at.Add(time.Minute)
			for _, token := range []*NewToken{late, fresh} { // of which one is of the incarnation that does not count
				incarnation, _, facts, err := a.ChangeRing(RevokeToken(token.KeyID, false), at)
				if err != nil {
					t.Fatal(err)
				}
				a.incarnation = incarnation
				a.add(at, facts...)
			}
			b.learn(a, at)
			check("revoked", at, shared)
			for _, after := range []time.Duration{2 * KeepUseless, 2 * KeepDeletion, 10 * KeepDeletion} {
				for range 3 {
					a.prune(at.Add(after))
					b.prune(at.Add(after))
				}
				check("after "+after.String(), at.Add(after), shared)
			}
			incarnation, undo, err := b.Undo(&revocation.Revocation{TokenID: "stolen"}, at)
			if err != nil {
				t.Fatal(err)
			}
			b.incarnation = incarnation
			b.add(at, undo)
			revoke(b, "later", at) // the last batch of a folder is never removed
			a.learn(b, at)
			for _, w := range both {
				for range 3 {
					w.prune(at.Add(10 * KeepDeletion))
				}
				if isRevoked := w.started(at).Revoked(at); isRevoked(revocation.Revocation{TokenID: "stolen"}) || !isRevoked(revocation.Revocation{TokenID: "other"}) {
					t.Errorf("%s: of two revocations the one that was undone is active, or the other is not", w.writer[:1])
				}
			}

			// A reset, and a time with another method, end the tokens of both.
			at = at.Add(11 * KeepDeletion)
			b.change(at, ResetTokens(false))
			a.learn(b, at)
			for _, w := range both {
				if n := len(w.ActiveTokens(at)); n != 1 {
					t.Errorf("%s: after a reset %d tokens are valid", w.writer[:1], n)
				}
			}
			for i, next := range []*config.Messenger{{IdentityKey: "identity", JWKS: &config.JWKS{URL: "https://example.com/"}}, settings} {
				at = at.Add(time.Duration(i+1) * time.Minute)
				facts, _, err := b.NextVersion(next, at)
				if err != nil {
					t.Fatal(err)
				}
				b.add(at, append(facts, NewFact(factConfirmed, at, facts[0].ID))...)
			}
			a.learn(b, at)
			for _, w := range both {
				if n := len(w.ActiveTokens(at)); n != 0 {
					t.Errorf("%s: after a change of the method and back %d tokens are valid", w.writer[:1], n)
				}
			}
		})
	}
}

// A messenger that was created anew while the storage lacked the old one is not replaced by it.
func TestMessengerCreatedMeanwhileIsNotReplaced(t *testing.T) {
	start := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	j := New("acme", KindStored)
	for i, incarnation := range []string{"old", "new"} {
		w := &writing{j, t, []string{"aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"}[i], 0, incarnation}
		at := start.Add(time.Duration(i) * time.Hour)
		v := NewFact(factSettings, at)
		v.Number, v.Created, v.Settings = 1, &at, []byte(`{}`)
		w.add(at, v, NewFact(factConfirmed, at, v.ID))
	}
	if rivals := j.Rivals(); len(rivals) > 0 {
		t.Errorf("nothing is lost, and rivals are %v", rivals)
	}
	j.loses("acme/old")
	if rivals := j.Rivals(); len(rivals) != 1 || !rivals["old"].Equal(start.Add(time.Hour)) {
		t.Errorf("got %v", rivals)
	}
}
