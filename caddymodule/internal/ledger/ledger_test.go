package ledger

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
)

// stateOf returns everything that follows from the facts of a ledger.
func stateOf(l *ledger, now time.Time) string {
	if l == nil {
		return "nothing"
	}
	return fmt.Sprint("revision ", l.record("an incarnation").Revision, "\n", meaningOf(l, now))
}

// meaningOf is stateOf without tokens that have expired.
func meaningOf(l *ledger, now time.Time) string {
	var text strings.Builder
	if v := l.version(); v != nil {
		fmt.Fprintln(&text, "version", v.ID)
	}
	r := l.record("an incarnation")
	settings, _ := json.Marshal(r.Settings)
	fmt.Fprintln(&text, "record", r.Created, string(settings), r.Unusable)
	for _, token := range activeTokens(l.ring(), now) {
		fmt.Fprintln(&text, "token", token.id, token.KeyID, token.End)
	}
	active, _ := json.Marshal(l.activeRevocations(now))
	fmt.Fprintln(&text, "revocations", string(active))
	rules := l.rules(now)
	slices.SortFunc(rules, func(a, b authn.Revocation) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	fmt.Fprintln(&text, "rules", rules)
	return text.String()
}

// A factMaker makes facts as nodes make them that know only a part of what there is.
type factMaker struct {
	*rand.Rand
	now   time.Time
	facts []*Fact
}

// partial returns what a node knows that has read some of the facts.
func (w *factMaker) partial() *ledger {
	l := newLedger()
	for _, f := range w.facts {
		if w.IntN(5) > 0 {
			l.add(f, new(Effect))
		}
	}
	return l
}

func (w *factMaker) make() {
	w.now = w.now.Add(time.Duration(w.Int64N(int64(time.Hour))))
	if w.IntN(10) == 0 {
		w.now = w.now.Add(time.Duration(w.Int64N(int64(20 * 24 * time.Hour))))
	}
	l, at := w.partial(), w.now
	var made []*Fact
	switch w.IntN(13) {
	case 0:
		_, made, _ = testRing{l}.of(GenerateToken(), at)
	case 1:
		_, made, _ = testRing{l}.of(RotateTokens(time.Duration(w.IntN(48))*time.Hour), at)
	case 2:
		if w.IntN(3) == 0 {
			_, made, _ = testRing{l}.of(ResetTokens(w.IntN(2) == 0), at)
		}
	case 3:
		if ring := l.ring(); len(ring) > 0 {
			_, made, _ = testRing{l}.of(RevokeToken(ring[w.IntN(len(ring))].KeyID, false), at)
		}
	case 4: // a token that was made at the same instant as resets
		for id, token := range l.tokens {
			if kept := NewFact(factKept, at, id); l.isReset(token, l) && w.IntN(3) == 0 {
				kept.Knows = l.resetIDs()
				made = append(made, kept)
			}
			break
		}
	case 5, 6:
		made = w.settings(l)
	case 7, 8, 9:
		made, _ = l.revocationFacts(w.revocation(), at, w.now, 48*time.Hour)
	case 10: // of which two nodes may import the same
		_, made, _ = testRing{l}.of(ImportToken(fmt.Appendf(nil, "the secret number %d of a site that moves in", w.IntN(3)), ""), at)
	default:
		var ids []string
		for f := range l.active() {
			if target := f.Revocation.Target(); !target.Covers {
				ids = l.revocationsOf(target)
				break
			}
		}
		if len(ids) > 0 {
			made = []*Fact{NewFact(factUndo, at, ids...)}
		}
	}
	w.facts = append(w.facts, made...)
}

// settings makes a version, which may stay without confirmation, or be withdrawn, and drops keys.
func (w *factMaker) settings(l *ledger) []*Fact {
	v := NewFact(factSettings, w.now)
	v.Number, v.Created = 1, &v.At
	m := &config.Messenger{IdentityKey: "sub"}
	for _, key := range []string{"one", "two", "three"} {
		if w.IntN(2) == 0 {
			m.PublicKey = append(m.PublicKey, config.PublicKey{Key: key})
		}
	}
	v.Settings, _ = json.Marshal(m)
	var before *Record
	if parent := l.version(); parent != nil {
		v.Parent, v.Number, v.Created = parent.ID, parent.Number+1, parent.Created
		before = l.record("")
	}
	for _, hash := range keyHashes(m) {
		for _, d := range l.dropped[hash] {
			v.Knows = append(v.Knows, d.ID)
		}
	}
	made := []*Fact{v}
	switch w.IntN(6) {
	case 0: // its writer has died
	case 1:
		made = append(made, NewFact(factWithdrawn, w.now, v.ID))
	default:
		made = append(made, New("", KindStored).Confirmation(v, before, m, w.now)...)
	}
	return made
}

func (w *factMaker) revocation() revocation.Revocation {
	skew := time.Minute
	m := &config.Messenger{ClockSkew: (*caddy.Duration)(&skew)}
	contact := fmt.Sprint("contact ", w.IntN(3))
	issued, until := w.now.Add(-time.Duration(w.Int64N(int64(time.Hour)))).Truncate(time.Second), w.now.Add(time.Duration(w.IntN(50))*time.Hour)
	switch w.IntN(12) {
	case 0:
		return revocation.Revocation{Identity: contact}.Recorded(m, w.now)
	case 1:
		return revocation.Revocation{All: true}.Recorded(m, w.now)
	case 2:
		return revocation.Revocation{Identity: contact, Covers: true, Before: &issued, Until: &until, Exact: true, Created: w.now}
	case 3:
		return revocation.Revocation{All: true, Covers: true, Before: &issued, Created: w.now}
	case 4, 5:
		return revocation.Revocation{TokenID: revocation.TokenID(fmt.Sprint("token ", w.IntN(20)))}.Recorded(m, w.now)
	}
	return revocation.Revocation{TokenID: revocation.TokenID(fmt.Sprint("token ", w.IntN(20))), Contact: contact, Issued: &issued, Until: &until}.Recorded(m, w.now)
}

// fill adds facts to a new ledger, in another order, some of them twice.
func (w *factMaker) fill(facts []*Fact) *ledger {
	l := newLedger()
	for _, i := range w.Perm(len(facts)) {
		l.add(facts[i], new(Effect))
		if w.IntN(4) == 0 {
			l.add(facts[w.IntN(len(facts))], new(Effect))
		}
		if w.IntN(20) == 0 {
			l.setAside(w.now)
		}
	}
	for _, f := range facts {
		l.add(f, new(Effect))
	}
	return l
}

// The state of a ledger is the same for every order, repetition and partition of the same facts. What has outlived its use
// changes nothing when it is removed, and nothing when it comes back.
func TestLedgerStateDependsOnItsFactsOnly(t *testing.T) {
	for seed := range uint64(120) {
		w := &factMaker{Rand: rand.New(rand.NewPCG(seed, 15)), now: time.Unix(1_800_000_000, 0).UTC()}
		for len(w.facts) < 60 {
			w.make()
		}
		l := newLedger()
		for _, f := range w.facts {
			l.add(f, new(Effect))
		}
		for range 3 {
			if got, want := stateOf(w.fill(w.facts), w.now), stateOf(l, w.now); got != want {
				t.Fatalf("seed %d: in another order\n%s\ninstead of\n%s", seed, got, want)
			}
		}
		now, removed := w.now, []*Fact(nil)
		for range 6 {
			now = now.Add(time.Duration(w.Int64N(int64(10 * 24 * time.Hour))))
			before := meaningOf(l, now)
			var useless []*Fact
			for _, f := range l.facts {
				if !l.isOfUse(f, now) && w.IntN(3) > 0 {
					useless = append(useless, f)
				}
			}
			l.forget(useless)
			left := slices.DeleteFunc(slices.Clone(w.facts), func(f *Fact) bool { return l.facts[f.ID] == nil })
			if got := meaningOf(l, now); got != before {
				t.Fatalf("seed %d: removing %d facts made\n%s\nof\n%s", seed, len(useless), got, before)
			}
			if got := meaningOf(w.fill(left), now); got != before {
				t.Fatalf("seed %d: a node that starts after %d facts were removed says\n%s\ninstead of\n%s", seed, len(useless), got, before)
			}
			// Within a day, writes of what was removed arrive once more: some of them, at a node that has the rest.
			back := slices.Clone(left)
			for _, f := range useless {
				if w.IntN(2) == 0 {
					back = append(back, f)
				}
			}
			if got := meaningOf(w.fill(back), now); got != before {
				t.Fatalf("seed %d: facts that came back made\n%s\nof\n%s", seed, got, before)
			}
			removed = append(removed, useless...)
		}
		if seed == 0 && len(removed) == 0 {
			t.Error("nothing was removed, which shows nothing")
		}
	}
}
