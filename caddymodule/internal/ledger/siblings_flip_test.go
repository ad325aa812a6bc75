package ledger

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/testsize"
)

// incarnated returns a journal of the messenger acme, whose facts a writer adds to one incarnation.
func incarnated(t *testing.T, writer, incarnation string) *writing {
	return &writing{New("acme", KindStored), t, writer, 0, incarnation}
}

// save saves settings, of a new messenger with this time of creation.
func (w *writing) save(at, created time.Time, settings *config.Messenger) {
	w.t.Helper()
	before := w.Record()
	facts, incarnation, err := w.NextVersion(settings, at)
	if err != nil {
		w.t.Fatal(err)
	}
	if before == nil {
		facts[0].Created = &created
	} else {
		w.incarnation = incarnation
	}
	w.add(at, facts...)
	w.add(at, w.Confirmation(facts[0], before, settings, at)...)
}

// counting returns what a node has that starts now, if this incarnation is the one that counts.
func (w *writing) counting(incarnation string, now time.Time) *writing {
	later := w.started(now)
	later.writer, later.incarnation = "settler", incarnation
	later.add(now, NewFact(factSettled, now))
	return later
}

// says describes the tokens and revocations of a journal.
func (w *writing) says(now time.Time) string {
	var lines []string
	for _, t := range w.ActiveTokens(now) {
		lines = append(lines, fmt.Sprint("token ", t.KeyID, " until ", t.End))
	}
	for _, rule := range w.Rules(now) {
		lines = append(lines, fmt.Sprint("revocation ", rule.TokenID, rule.Identity, rule.Before))
	}
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), "\n")
}

// Which of two incarnations counts can change: one may be settled later. Whatever was done on nodes that knew one of them or both, the same
// tokens are valid and the same revocations are active, also after what is of no use was removed.
func TestStateDoesNotDependOnTheCurrentIncarnation(t *testing.T) {
	start := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	settings := &config.Messenger{IdentityKey: "identity", SharedToken: new(config.SharedToken)}
	for seed := range uint64(testsize.Of(150, 1500)) {
		random := rand.New(rand.NewPCG(1, seed))
		a, b := incarnated(t, "aaaaaaaaaaaaaaaa", "first"), incarnated(t, "bbbbbbbbbbbbbbbb", "second")
		at := start
		a.save(at, start, settings)
		var revoked []revocation.Revocation
		dead := make(map[string]bool) // secrets
		act := func(w *writing) {
			at = at.Add(time.Minute)
			ring := w.ActiveTokens(at)
			kid := ""
			if len(ring) > 0 {
				kid = ring[random.IntN(len(ring))].KeyID
			}
			change := func(c RingChange) {
				incarnation, _, facts, err := w.ChangeRing(c, at)
				if err != nil {
					return
				}
				for _, t := range ring {
					if c.Close || t.KeyID == c.KeyID && !c.Extends {
						dead[string(t.Secret)] = true
					}
				}
				w.incarnation = incarnation
				w.add(at, facts...)
			}
			switch random.IntN(9) {
			case 0, 1, 2:
				change(GenerateToken())
			case 3:
				change(RevokeToken(kid, false))
			case 4:
				change(RotateTokens(time.Duration(1+random.IntN(40*24)) * time.Hour))
			case 5:
				change(ExtendToken(kid, time.Duration(1+random.IntN(40*24))*time.Hour))
			case 6:
				if random.IntN(3) == 0 {
					change(ResetTokens(true))
				}
			case 7:
				v := revocation.Revocation{Identity: fmt.Sprint(random.IntN(4))}
				if random.IntN(2) == 0 {
					v = revocation.Revocation{TokenID: revocation.TokenID(fmt.Sprint(random.IntN(4)))}
				}
				if incarnation, facts, err := w.Revoke(v, settings, at); err == nil {
					w.incarnation = incarnation
					w.add(at, facts...)
					revoked = append(revoked, v)
				}
			case 8:
				if len(revoked) == 0 {
					return
				}
				if incarnation, undo, err := w.Undo(&revoked[random.IntN(len(revoked))], at); err == nil {
					w.incarnation = incarnation
					w.add(at, undo)
				}
			}
		}
		for range 6 {
			act(a)
		}
		file := a.Copy(at)
		for range random.IntN(6) {
			act(a)
		}
		d, err := b.Lacking(file, at)
		if err != nil {
			t.Fatal(err)
		}
		b.save(at, start, settings)
		b.add(at, d.Facts...)
		for range random.IntN(6) {
			act([]*writing{a, b}[random.IntN(2)])
		}
		a.learn(b, at)
		b.learn(a, at)
		for range random.IntN(6) {
			act(a)
		}
		if random.IntN(2) == 0 {
			at = at.Add(time.Minute)
			a.incarnation = []string{"first", "second"}[random.IntN(2)]
			a.add(at, NewFact(factSettled, at))
			for range random.IntN(6) {
				act(a)
			}
		}
		for _, later := range []time.Duration{0, 2 * KeepUseless, keepEnds, 2 * keepEnds} {
			now := at.Add(later)
			first, second := a.counting("first", now), a.counting("second", now)
			want := a.says(now)
			for _, token := range a.ActiveTokens(now) {
				if dead[string(token.Secret)] {
					t.Fatalf("seed %d, after %v: a token is valid that was revoked", seed, later)
				}
			}
			for name, w := range map[string]*writing{"first": first, "second": second} {
				if got := w.says(now); got != want {
					t.Fatalf("seed %d, after %v: if the %s counts, it says\n%s\nwant\n%s", seed, later, name, got, want)
				}
				for range 3 {
					w.prune(now)
				}
				if got := w.says(now); got != want {
					t.Fatalf("seed %d, after %v: if the %s counts, it says after what is of no use was removed\n%s\nwant\n%s", seed, later, name, got, want)
				}
			}
			revision := first.Record().Revision
			for range 20 {
				if again := first.started(now).Record().Revision; again != revision {
					t.Fatalf("seed %d: the revision changes without a change", seed)
				}
			}
		}
	}
}

// A key that was removed from one of two incarnations is not trusted by the other, until it is saved again by someone who sees both. The
// clocks do not matter.
func TestKeyRemovedFromOneIncarnation(t *testing.T) {
	start := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	with := func(keys ...string) *config.Messenger {
		m := &config.Messenger{IdentityKey: "identity"}
		for _, key := range keys {
			m.PublicKey = append(m.PublicKey, config.PublicKey{Key: key})
		}
		return m
	}
	trusted := func(w *writing) string {
		r := w.Record()
		if r.Unusable != nil {
			return "none"
		}
		var keys []string
		for _, key := range r.Settings.PublicKey {
			keys = append(keys, key.Key)
		}
		return strings.Join(keys, " ")
	}
	for name, c := range map[string]struct {
		a       []*config.Messenger // what is saved one after the other, on a node that knows the first
		b       *config.Messenger   // what a file brings back
		bLater  bool                // it does so after that
		counted [2]string           // what is trusted, if the first counts and if the second does
	}{
		"removed before the file came": {[]*config.Messenger{with("old", "kept"), with("kept")}, with("old", "kept"), true, [2]string{"kept", "kept"}},
		"removed after the file came":  {[]*config.Messenger{with("old", "kept"), with("kept")}, with("old", "kept"), false, [2]string{"kept", "kept"}},
		"the only one":                 {[]*config.Messenger{with("old"), with("kept")}, with("old"), true, [2]string{"kept", "none"}},
		"removed, then another change": {[]*config.Messenger{with("old", "kept"), with("kept"), with("kept", "more")}, with("old", "kept"), true, [2]string{"kept more", "kept"}},
		"removed and named again":      {[]*config.Messenger{with("old", "kept"), with("kept"), with("old")}, with("old", "kept"), true, [2]string{"old", "old"}},
		"nothing was removed":          {[]*config.Messenger{with("old")}, with("old", "kept"), true, [2]string{"old", "old kept"}},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := incarnated(t, "aaaaaaaaaaaaaaaa", "first"), incarnated(t, "bbbbbbbbbbbbbbbb", "second")
			for i, settings := range c.a {
				a.save(start.Add(time.Duration(i)*time.Hour), start, settings)
			}
			at := start.Add(time.Minute)
			if c.bLater {
				at = start.Add(24 * time.Hour)
			}
			b.save(at, start, c.b)
			at = start.Add(48 * time.Hour)
			a.learn(b, at)
			for i, incarnation := range []string{"first", "second"} {
				w := a.counting(incarnation, at)
				if got := trusted(w); got != c.counted[i] {
					t.Errorf("if the %s counts, it trusts %q, want %q", incarnation, got, c.counted[i])
				}
				w.save(at, start, with("old"))
				if got := trusted(w); got != "old" {
					t.Errorf("if the %s counts, it trusts %q after the key was saved again", incarnation, got)
				}
				other := w.started(at)
				if got := trusted(other); got != "old" {
					t.Errorf("if the %s counts, another node trusts %q after the key was saved again", incarnation, got)
				}
			}
		})
	}
}
