package ledger

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
)

var (
	madeAt        = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	withTokens    = &config.Messenger{IdentityKey: "identity", SharedToken: new(config.SharedToken)}
	bothOrders    = [][2]string{{"first", "second"}, {"second", "first"}}
	someDaysLater = []time.Duration{0, 2 * KeepUseless, keepEnds - time.Hour}
)

// brings imports a file on a node that does not know the messenger.
func (w *writing) brings(file *Copy, at time.Time) {
	w.t.Helper()
	w.takes(file, at)
	facts, _, err := w.NextVersion(withTokens, at)
	if err != nil {
		w.t.Fatal(err)
	}
	w.SetCreated(facts[0], *file.Created)
	w.add(at, append(facts, NewFact(factConfirmed, at, facts[0].ID))...)
}

// accepts reports whether a token is valid.
func (w *writing) accepts(token *NewToken, at time.Time) bool {
	return slices.ContainsFunc(w.ActiveTokens(at), func(t Token) bool { return string(t.Secret) == token.Token })
}

// A file says that a token was revoked, or when it expires, and a node that was cut off before that comes back with the token alone.
func TestImportEndsTokensOfADisconnectedNode(t *testing.T) {
	for _, names := range bothOrders {
		for name, end := range map[string]RingChange{"revoked": RevokeToken("", false), "expired": RotateTokens(time.Minute), "expires": RotateTokens(10 * time.Hour)} {
			for _, secrets := range []bool{true, false} {
				a := incarnated(t, "aaaaaaaaaaaaaaaa", names[0])
				a.save(madeAt, madeAt, withTokens)
				over := a.change(madeAt, GenerateToken())
				away := a.started(madeAt)
				if end.KeyID = ""; name == "revoked" {
					end.KeyID = over.KeyID
				}
				a.change(madeAt.Add(time.Second), end)
				at := madeAt.Add(time.Hour)
				file := a.Copy(at)
				for i := range file.Tokens {
					if !secrets {
						file.Tokens[i].Token = ""
					}
				}
				b := incarnated(t, "bbbbbbbbbbbbbbbb", names[1])
				b.brings(file, at)
				away.learn(b, at)
				b.learn(away, at)
				if name == "expires" && !b.accepts(over, at) {
					t.Errorf("%v, secrets %t: the token is not valid before it expires", names, secrets)
				}
				for _, later := range someDaysLater {
					now := at.Add(12 * time.Hour).Add(later)
					for _, w := range []*writing{away, b} {
						w.prune(now)
						w.prune(now)
						if w.accepts(over, now) {
							t.Errorf("%s, %v, secrets %t, after %v: the token is valid again", name, names, secrets, later)
						}
					}
				}
				if d := b.takes(file, at); len(d.Facts) > 0 {
					t.Errorf("%s: another import of the file adds %d facts", name, len(d.Facts))
				}
			}
		}
	}
}

// A file that says that tokens are over ends them in both incarnations, also if they have one ID there, because both came from one file.
func TestImportEndsTokensOfBothIncarnations(t *testing.T) {
	for _, names := range bothOrders {
		a, b := incarnated(t, "aaaaaaaaaaaaaaaa", names[0]), incarnated(t, "bbbbbbbbbbbbbbbb", names[1])
		origin := incarnated(t, "oooooooooooooooo", "origin")
		origin.save(madeAt, madeAt, withTokens)
		common, valid := origin.change(madeAt, GenerateToken()), origin.change(madeAt, GenerateToken())
		at := madeAt.Add(time.Minute)
		a.brings(origin.Copy(at), at)
		b.brings(origin.Copy(at), at)
		inA, inB := a.change(at, GenerateToken()), b.change(at, GenerateToken())
		a.learn(b, at)
		b.learn(a, at)
		file := a.Copy(at)
		for i := range file.Tokens {
			file.Tokens[i].Revoked = file.Tokens[i].KeyID != valid.KeyID
		}
		a.incarnation = a.Current()
		a.takes(file, at.Add(time.Minute))
		b.learn(a, at)
		for _, later := range someDaysLater {
			now := at.Add(time.Hour).Add(later)
			for _, w := range []*writing{a, b, a.started(now), a.counting(names[0], now), a.counting(names[1], now)} {
				w.prune(now)
				w.prune(now)
				for _, over := range []*NewToken{common, inA, inB} {
					if w.accepts(over, now) {
						t.Errorf("%v, after %v: a token is valid that the file revokes", names, later)
					}
				}
				if !w.accepts(valid, now) {
					t.Errorf("%v, after %v: the other token is not valid", names, later)
				}
			}
		}
	}
}

// What was revoked in one store, and undone where a file has brought it, does not come back with the first.
func TestUndoneRevocationStaysUndoneAfterAnImport(t *testing.T) {
	for _, names := range bothOrders {
		a, b := incarnated(t, "aaaaaaaaaaaaaaaa", names[0]), incarnated(t, "bbbbbbbbbbbbbbbb", names[1])
		a.save(madeAt, madeAt, withTokens)
		for _, identity := range []string{"bob", "eve"} {
			_, facts, err := a.Revoke(revocation.Revocation{Identity: identity}, withTokens, madeAt)
			if err != nil {
				t.Fatal(err)
			}
			a.add(madeAt, facts...)
		}
		at := madeAt.Add(time.Minute)
		b.brings(a.Copy(at), at)
		undo := func(w *writing, identity string) {
			incarnation, f, err := w.Undo(&revocation.Revocation{Identity: identity}, at)
			if err != nil {
				t.Fatal(err)
			}
			w.incarnation = incarnation
			w.add(at, f)
		}
		undo(b, "bob")
		undo(a, "eve") // by the node that has the original
		b.learn(a, at)
		a.learn(b, at)
		for _, w := range []*writing{a, b} {
			if list := w.Revocations(0, at); len(list) > 0 {
				t.Errorf("%v: a revocation that was undone is active: %v", names, list)
			}
		}
	}
	// A file cannot make an undo reach something else: the IDs that it has may be any.
	w := incarnated(t, "aaaaaaaaaaaaaaaa", "first")
	w.save(madeAt, madeAt, withTokens)
	_, facts, err := w.Revoke(revocation.Revocation{Identity: "bob"}, withTokens, madeAt)
	if err != nil {
		t.Fatal(err)
	}
	w.add(madeAt, facts...)
	file := w.Copy(madeAt)
	file.Revocations[0].Identity = "eve"
	w.takes(file, madeAt)
	_, undo, err := w.Undo(&revocation.Revocation{Identity: "eve"}, madeAt)
	if err != nil {
		t.Fatal(err)
	}
	w.add(madeAt, undo)
	if list := w.Revocations(0, madeAt); len(list) != 1 || list[0].Identity != "bob" {
		t.Errorf("the undo of one revocation has undone another: %v", list)
	}
}

// A token that was revoked, or has expired, where a file brought it does not come back a month later under the ID that it had before.
func TestRevocationOutlivesItsToken(t *testing.T) {
	for _, names := range bothOrders {
		for name, end := range map[string]func(kid string) RingChange{
			"revoked":       func(kid string) RingChange { return RevokeToken(kid, false) },
			"rotated":       func(string) RingChange { return RotateTokens(time.Hour) },
			"rotated, at 0": func(string) RingChange { return RotateTokens(0) },
			"reset":         func(string) RingChange { return ResetTokens(false) },
		} {
			a, b := incarnated(t, "aaaaaaaaaaaaaaaa", names[0]), incarnated(t, "bbbbbbbbbbbbbbbb", names[1])
			a.save(madeAt, madeAt, withTokens)
			leaked := a.change(madeAt, GenerateToken())
			at := madeAt.Add(time.Minute)
			b.brings(a.Copy(at), at)
			b.change(at, end(leaked.KeyID))
			b.save(at, madeAt, &config.Messenger{IdentityKey: "other", SharedToken: new(config.SharedToken)}) // so that the first settings go
			for _, after := range []time.Duration{26 * time.Hour, 28 * 24 * time.Hour} {
				now := at.Add(after)
				for range 3 {
					b.prune(now)
				}
				c := b.started(now)
				c.learn(a, now)
				if c.accepts(leaked, now) {
					t.Errorf("%s, %v, after %v: the token is valid again", name, names, after)
				}
			}
		}
	}
}

// A token outlives the reset that made it, also as a copy of a file that does not know of the reset.
func TestCopyOfATokenSurvivesTheResetThatMadeIt(t *testing.T) {
	ring := newWriting(t, "aaaaaaaaaaaaaaaa")
	ring.change(madeAt, GenerateToken())
	made := ring.change(madeAt.Add(time.Minute), ResetTokens(false))
	at := madeAt.Add(time.Hour)
	other := newWriting(t, "bbbbbbbbbbbbbbbb")
	other.takes(ring.Copy(at), at)
	other.learn(ring, at)
	if !other.accepts(made, at) {
		t.Error("of a configured messenger: the token is not valid")
	}
	for _, names := range bothOrders {
		a, b := incarnated(t, "aaaaaaaaaaaaaaaa", names[0]), incarnated(t, "bbbbbbbbbbbbbbbb", names[1])
		a.save(madeAt, madeAt, withTokens)
		old := a.change(madeAt, GenerateToken())
		kept := a.change(madeAt, GenerateToken())
		reset := NewFact(factReset, madeAt.Add(time.Minute))
		outlives := NewFact(factKept, madeAt.Add(time.Minute), a.Record().Tokens[slices.IndexFunc(a.Record().Tokens, func(t Token) bool { return t.KeyID == kept.KeyID })].id)
		outlives.Knows = []string{reset.ID}
		file := a.Copy(madeAt)
		a.add(madeAt.Add(time.Minute), reset, outlives)
		b.brings(file, at)
		b.learn(a, at)
		a.learn(b, at)
		for _, w := range []*writing{a, b} {
			if !w.accepts(kept, at) || w.accepts(old, at) {
				t.Errorf("%v: what was kept is not valid, or what was reset is", names)
			}
		}
	}
}

// What two incarnations have can be exported and imported, and neither has lost against the other.
func TestTwoIncarnationsAreExportedAsOne(t *testing.T) {
	a, b := incarnated(t, "aaaaaaaaaaaaaaaa", "first"), incarnated(t, "bbbbbbbbbbbbbbbb", "second")
	for i, w := range []*writing{a, b} {
		w.save(madeAt, madeAt, withTokens)
		var facts []*Fact
		for n := range MaxRevocations {
			f := NewFact(factRevoke, madeAt)
			f.Revocation = &revocation.Revocation{TokenID: revocation.TokenID([]string{"a", "b"}[i] + time.Duration(n).String()), Created: madeAt}
			facts = append(facts, f)
		}
		w.add(madeAt, facts...)
	}
	a.learn(b, madeAt)
	for _, incarnation := range []string{"first", "second"} {
		if lost, open := a.Contest(incarnation); lost || open {
			t.Errorf("the %s has lost (%t), or is not decided (%t)", incarnation, lost, open)
		}
	}
	file := a.Copy(madeAt)
	if err := file.Check(); err != nil {
		t.Fatal(err)
	}
	if d, err := New("acme", KindStored).Lacking(file, madeAt); err != nil || d.Revocations != 2*MaxRevocations {
		t.Errorf("%d revocations of two incarnations are imported: %v", d.Revocations, err)
	}
}

// More valid tokens than a verifier takes are not imported: the others would not be used.
func TestImportWithTooManyTokensIsRefused(t *testing.T) {
	origin := incarnated(t, "oooooooooooooooo", "origin")
	origin.save(madeAt, madeAt, withTokens)
	for n := range authn.MaxRing + 1 {
		f := NewFact(factToken, madeAt)
		f.KeyID, f.Token = fmt.Sprint(n), sharedtoken.Generate()
		origin.add(madeAt, f)
	}
	file := origin.Copy(madeAt)
	if _, err := New("acme", KindStored).Lacking(file, madeAt); err == nil {
		t.Error("all are imported")
	}
	file.Tokens[0].Revoked = true
	if d, err := New("acme", KindStored).Lacking(file, madeAt); err != nil || d.Added != authn.MaxRing {
		t.Errorf("%d are imported, %v", d.Added, err)
	}
}
