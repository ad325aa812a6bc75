package ledger

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
)

// revocationsToCopy returns the active revocations. Those whose tokens have expired, of which there can be any number, are among them while
// there is room: a clock may be behind where they are imported.
func (l *ledger) revocationsToCopy(now time.Time) (facts []*Fact) {
	var past []*Fact
	size := 0
	for f := range l.allActive() {
		switch {
		case !f.Revocation.HasExpired(now):
			facts, size = append(facts, f), size+f.Revocation.Size()
		case !f.Revocation.HasExpired(now.Add(-KeepUseless)):
			past = append(past, f)
		}
	}
	slices.SortFunc(past, func(a, b *Fact) int {
		return cmp.Or(b.Revocation.Until.Compare(*a.Revocation.Until), strings.Compare(a.ID, b.ID))
	})
	for _, f := range past {
		if size += f.Revocation.Size(); len(facts) >= MaxRevocations || size > MaxRevocationText {
			break
		}
		facts = append(facts, f)
	}
	return facts
}

// revoking returns a function that reports whether the ledger has a revocation, or has one that says the same.
func (l *ledger) revoking() func(id string, v *revocation.Revocation) bool {
	of := l.byTarget()
	return func(id string, v *revocation.Revocation) bool {
		target := v.Target()
		if f := l.fact(id); f != nil && f.Kind == factRevoke && f.Revocation.Target() == target {
			return true
		}
		return slices.ContainsFunc(of[target], func(old *revocation.Revocation) bool {
			return (v.Before == nil || !old.Reach().Before(v.Reach())) && !v.Outlasts(old) && (old.Until == nil || v.Until != nil && !old.Until.Before(*v.Until))
		})
	}
}

// byTarget returns the active revocations by what they revoke.
func (l *ledger) byTarget() map[revocation.Target][]*revocation.Revocation {
	of := make(map[revocation.Target][]*revocation.Revocation, len(l.revocations)+len(l.past))
	for f := range l.allActive() {
		target := f.Revocation.Target()
		of[target] = append(of[target], f.Revocation)
	}
	return of
}

// Revoked returns a function that reports whether the tokens that a revocation revokes are revoked already, for as long as it says.
func (j *Journal) Revoked(now time.Time) func(v revocation.Revocation) bool {
	var of map[revocation.Target][]*revocation.Revocation
	j.view(func(_ string, l *ledger) { of = l.byTarget() })
	return func(v revocation.Revocation) bool {
		return slices.ContainsFunc(of[v.Target()], func(old *revocation.Revocation) bool {
			longEnough := v.Until == nil || old.Until == nil || !old.Until.Before(*v.Until)
			return longEnough && !old.HasExpired(now) && (v.IsToken() || v.Before != nil && !old.Reach().Before(*v.Before))
		})
	}
}
