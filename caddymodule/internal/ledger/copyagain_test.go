package ledger

import (
	"fmt"
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/testsize"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// A writing journal gets facts as if a writer had written them.
type writing struct {
	*Journal
	t      *testing.T
	writer string
	number uint64

	incarnation string
}

func newWriting(t *testing.T, writer string) *writing {
	return &writing{New("support", KindRing), t, writer, 0, ConfigIncarnation}
}

func (w *writing) add(now time.Time, facts ...*Fact) {
	w.t.Helper()
	texts, err := Encode(facts)
	if err != nil {
		w.t.Fatal(err)
	}
	w.number++
	if err := w.Add(vault.Key{Folder: w.Folder(w.incarnation), Writer: w.writer, Number: w.number}, texts, now); err != nil {
		w.t.Fatal(err)
	}
}

func (w *writing) change(now time.Time, change RingChange) *NewToken {
	w.t.Helper()
	_, made, facts, err := w.ChangeRing(change, now)
	if err != nil {
		w.t.Fatal(err)
	}
	w.add(now, facts...)
	return made
}

// takes imports a copy.
func (w *writing) takes(c *Copy, now time.Time) Difference {
	w.t.Helper()
	d, err := w.Lacking(c, now)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, group := range Batches(d.Facts) {
		w.add(now, group...)
	}
	return d
}

// learn adds what another node has written.
func (w *writing) learn(other *writing, now time.Time) {
	w.t.Helper()
	for key, b := range other.batches {
		if err := w.Add(key, b.texts, now); err != nil {
			w.t.Fatal(err)
		}
	}
}

// started returns what a node has that starts now.
func (w *writing) started(now time.Time) *writing {
	w.t.Helper()
	later := &writing{New(w.Name, w.Kind), w.t, w.writer, 0, w.incarnation}
	later.learn(w, now)
	return later
}

// prune forgets what is of no use any more.
func (w *writing) prune(now time.Time) {
	for _, key := range w.removable(now, func(*batch) time.Duration { return 0 }) {
		w.forget(key, w.batches[key])
	}
}

// A storage is emptied, an old file brings its tokens back on a node that does not know more, and another node writes back what it knows:
// what that has revoked, or given an end, is over on both, and stays so.
func TestReimportedTokenStaysRevoked(t *testing.T) {
	start := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for name, end := range map[string]func(w *writing, kid string, now time.Time){
		"revoked": func(w *writing, kid string, now time.Time) { w.change(now, RevokeToken(kid, false)) },
		"reset":   func(w *writing, _ string, now time.Time) { w.change(now, ResetTokens(false)) },
		"rotated": func(w *writing, _ string, now time.Time) { w.change(now, RotateTokens(time.Hour)) },
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newWriting(t, "aaaaaaaaaaaaaaaa"), newWriting(t, "bbbbbbbbbbbbbbbb")
			made := a.change(start, GenerateToken())
			file := a.Copy(start)
			end(a, made.KeyID, start.Add(time.Minute))
			if d := b.takes(file, start.Add(2*time.Minute)); d.Added != 1 {
				t.Fatalf("%d tokens were added", d.Added)
			}
			b.learn(a, start.Add(3*time.Minute))
			a.learn(b, start.Add(3*time.Minute))
			for _, after := range []time.Duration{2 * time.Hour, 40 * 24 * time.Hour, 400 * 24 * time.Hour} {
				for _, w := range []*writing{a, b} {
					w.prune(start.Add(after))
					for _, token := range w.started(start.Add(after)).ActiveTokens(start.Add(after)) {
						if string(token.Secret) == made.Token {
							t.Errorf("after %s it is valid for the writer %s", after, w.writer[:1])
						}
					}
				}
			}
		})
	}
}

// However long ago all tokens were revoked: a file from before that brings none back, whatever else the messenger has. Of the last one that
// was revoked it is still known which it was.
func TestOldExportDoesNotRestoreRevokedTokens(t *testing.T) {
	start := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for _, revoked := range []bool{false, true} {
		w := newWriting(t, "aaaaaaaaaaaaaaaa")
		made, last := w.change(start, GenerateToken()), w.change(start, GenerateToken())
		file := w.Copy(start)
		w.change(start.Add(time.Hour), RevokeToken(made.KeyID, false))
		w.change(start.Add(2*time.Hour), RevokeToken(last.KeyID, false))
		if revoked {
			_, facts, err := w.Revoke(revocation.Revocation{TokenID: "stolen"}, new(config.Messenger), start)
			if err != nil {
				t.Fatal(err)
			}
			w.add(start, facts...)
		}
		later := start.Add(400 * 24 * time.Hour)
		for range 3 {
			w.prune(later)
		}
		if d := w.started(later).takes(file, later); d.Added > 0 || len(d.NotAdded) != 1 || d.NotAdded[0] != made.KeyID {
			t.Errorf("with a revocation: %t: %d tokens were added, and not %q", revoked, d.Added, d.NotAdded)
		}
	}
}

// A messenger may have had any number of logouts within a day: what is exported can be imported, and has all revocations of tokens that are
// still valid.
func TestManyLogoutsAreExported(t *testing.T) {
	m := new(config.Messenger)
	for _, n := range []int{12_000, 25_000}[:testsize.Of(2, 2)] {
		w, now := newWriting(t, "aaaaaaaaaaaaaaaa"), time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
		const life = 15 * time.Minute
		for i := range n {
			now = now.Add(time.Second)
			c := &authn.Contact{Identity: fmt.Sprint("c", i), TokenID: authn.NewTokenID(fmt.Sprint(i)), Issued: now, Expires: now.Add(life), Until: now.Add(life)}
			_, facts, err := w.Revoke(revocation.OfLogout(c, m, false, now), m, now)
			if err != nil {
				t.Fatalf("logout %d: %v", i, err)
			}
			w.add(now, facts...)
		}
		file := w.Copy(now)
		if err := file.Check(); err != nil {
			t.Error(err)
		}
		fresh := newWriting(t, "bbbbbbbbbbbbbbbb")
		fresh.takes(file, now)
		isRevoked := fresh.Revoked(now)
		for i := n - int(life/time.Second) + 1; i < n; i++ {
			if until := now.Add(time.Second); !isRevoked(revocation.Revocation{TokenID: revocation.TokenID(fmt.Sprint(i)), Until: &until}) {
				t.Errorf("of %d logouts number %d is missing", n, i)
				break
			}
		}
		if d := w.takes(file, now); len(d.Facts) > 0 {
			t.Errorf("importing it where it was exported adds %d facts", len(d.Facts))
		}
	}
}

// A file that was made by hand cannot make a gateway write what it cannot read afterwards.
func TestUnreadableValuesAreNotImported(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	early := time.Date(0, 1, 1, 0, 0, 0, 0, time.FixedZone("", 23*3600))
	token := func(t CopiedToken) *Copy {
		t.KeyID, t.Fingerprint = "k", fingerprintOf(t.Token)
		return &Copy{Tokens: []CopiedToken{t}}
	}
	for name, c := range map[string]*Copy{
		"a secret that is too short": token(CopiedToken{Token: "YQ", Created: now, Imported: true}),
		"one that was revoked":       token(CopiedToken{Token: "YQ", Created: now, Imported: true, Revoked: true}),
		"one that is not base64":     token(CopiedToken{Token: "????????????????????????????????????????????????", Created: now, Imported: true}),
		"a token before all time":    token(CopiedToken{Token: "a", Created: early}),
		"a messenger before it":      {Created: &early, Settings: new(config.Messenger)},
		"a revocation before it":     {Revocations: []CopiedRevocation{{ID: "r", Revocation: revocation.Revocation{TokenID: "x", Created: early}}}},
	} {
		err := c.Check()
		if err == nil {
			_, err = New("support", KindRing).Lacking(c, now)
		}
		if err == nil {
			t.Errorf("%s: it was accepted", name)
		}
	}
}

// Of two tokens with one text in a file, one revoked, none is valid.
func TestDuplicateTokenInAFile(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for _, revokedFirst := range []bool{false, true} {
		one := CopiedToken{KeyID: "k", Token: "text", Fingerprint: fingerprintOf("text"), Created: now, Revoked: revokedFirst}
		other := one
		other.Revoked = !revokedFirst
		w := newWriting(t, "aaaaaaaaaaaaaaaa")
		w.takes(&Copy{Tokens: []CopiedToken{one, other}}, now)
		if len(w.ActiveTokens(now)) > 0 {
			t.Errorf("revoked first: %t: it is valid", revokedFirst)
		}
	}
}

func BenchmarkLackingManyRevocations(b *testing.B) {
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	j, c := New("support", KindRing), new(Copy)
	l := j.ledger(ConfigIncarnation)
	for i := range MaxRevocations {
		f := NewFact(factRevoke, now)
		f.Revocation = &revocation.Revocation{TokenID: revocation.TokenID(fmt.Sprintf("0b9b3a3e-1d5e-4c38-9f8e-%012d", i))}
		l.add(f, new(Effect))
		c.Revocations = append(c.Revocations, CopiedRevocation{newID(), *f.Revocation})
	}
	for b.Loop() {
		if d, err := j.Lacking(c, now); err != nil || len(d.Facts) > 0 {
			b.Fatal(len(d.Facts), err)
		}
	}
}
