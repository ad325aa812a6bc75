package ledger

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// revocationsToCopy returns the active revocations. Those whose tokens have expired, of which there can be any number, are among them while
// there is room: a clock may be behind where they are imported.
func (l *ledger) revocationsToCopy(now time.Time) (facts []*Fact) {
	var past []*Fact
	size := 0
	for f := range l.allActive() {
		switch {
		case !f.Revocation.hasExpired(now):
			facts, size = append(facts, f), size+f.Revocation.size()
		case !f.Revocation.hasExpired(now.Add(-KeepUseless)):
			past = append(past, f)
		}
	}
	slices.SortFunc(past, func(a, b *Fact) int {
		return cmp.Or(b.Revocation.Until.Compare(*a.Revocation.Until), strings.Compare(a.ID, b.ID))
	})
	for _, f := range past {
		if size += f.Revocation.size(); len(facts) >= MaxRevocations || size > MaxRevocationText {
			break
		}
		facts = append(facts, f)
	}
	return facts
}

// revoking returns a function that reports whether the ledger has a revocation, or has one that says the same.
func (l *ledger) revoking() func(id string, v *Revocation) bool {
	of := l.byTarget()
	return func(id string, v *Revocation) bool {
		target := v.target()
		if f := l.fact(id); f != nil && f.Kind == factRevoke && f.Revocation.target() == target {
			return true
		}
		return slices.ContainsFunc(of[target], func(old *Revocation) bool {
			return (v.Before == nil || !old.reach().Before(v.reach())) && !v.hasLonger(old) && (old.Until == nil || v.Until != nil && !old.Until.Before(*v.Until))
		})
	}
}

// byTarget returns the active revocations by what they revoke.
func (l *ledger) byTarget() map[revocationTarget][]*Revocation {
	of := make(map[revocationTarget][]*Revocation, len(l.revocations)+len(l.past))
	for f := range l.allActive() {
		target := f.Revocation.target()
		of[target] = append(of[target], f.Revocation)
	}
	return of
}

// addFormer adds the revocations that a deleted messenger had which this copy brings back. ledgers are the one that they are added to, and
// those of deleted messengers.
func (d *Difference) addFormer(j *Journal, c *Copy, ledgers []*ledger, copied map[string]bool, at time.Time) {
	for _, l := range ledgers[1:] {
		if v := l.version(); v == nil || !v.Created.Equal(*c.Created) {
			continue
		}
		for f := range l.allActive() {
			id := j.copiedID("revocation", f.ID, *f.Revocation)
			known := copied[id] || copied[f.ID] || ledgers[0].hasFact(id)
			if copied[id] = true; known {
				continue
			}
			d.Facts, d.Revocations = append(d.Facts, &Fact{ID: id, Kind: factRevoke, At: at, Of: []string{f.ID}, Revocation: f.Revocation}), d.Revocations+1
		}
	}
}

// Revoked returns a function that reports whether the tokens that a revocation revokes are revoked already, for as long as it says.
func (j *Journal) Revoked(now time.Time) func(v Revocation) bool {
	var of map[revocationTarget][]*Revocation
	j.view(func(_ string, l *ledger) { of = l.byTarget() })
	return func(v Revocation) bool {
		return slices.ContainsFunc(of[v.target()], func(old *Revocation) bool {
			longEnough := v.Until == nil || old.Until == nil || !old.Until.Before(*v.Until)
			return longEnough && !old.hasExpired(now) && (v.IsToken() || v.Before != nil && !old.reach().Before(*v.Before))
		})
	}
}
