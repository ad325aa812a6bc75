package ledger

import (
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
)

// The revocations of one messenger. Tokens are revoked, contacts log out, revocations are undone and settings are changed, in
// any order: no revoked token becomes valid again, except by undoing its revocation. From this follow the rules:
//
//   - A revocation by time covers clocks that are ahead by the clock_skew of that moment.
//   - A revocation whose Until is the expiry of the token itself is removed after that. Any other is kept as long as there is
//     room, because max_lifetime may be raised, and older tokens are valid longer then. Only when room is needed, those whose
//     tokens cannot be valid under max_lifetime are covered by one revocation by time.
//   - A revocation that covers others cannot be undone, because these are removed.

const (
	// MaxRevocations is how many revocations of one messenger are stored. Those of all its tokens are accepted beyond that, so that there
	// is room in an emergency.
	MaxRevocations = 10_000

	// MaxRevocationText is how many bytes these may have. With usual identities and token IDs their number is reached first.
	MaxRevocationText = 4 << 20

	// maxLogouts is how many of these may be logouts of one contact.
	maxLogouts = 20
)

// addRevocation adds a revocation, unless it is undone or covered already.
func (l *ledger) addRevocation(f *Fact, e *Effect) {
	v := f.Revocation
	if v.Covers && !l.isCovered(f) {
		l.covers = slices.DeleteFunc(l.covers, func(c *Fact) bool { return v.CoversAllOf(c.Revocation) })
		l.covers = append(l.covers, f)
		for old := range l.active() {
			if v.CoversAllOf(old.Revocation) {
				l.deactivate(old.ID)
			}
		}
	}
	if l.undone[f.ID] || l.isCovered(f) {
		return
	}
	l.revocations[f.ID] = f
	l.size += v.Size()
	if v.Contact != "" {
		l.logouts[v.Contact]++
	}
	e.added = append(e.added, f)
}

// active returns the active revocations.
func (l *ledger) active() iter.Seq[*Fact] {
	return func(yield func(*Fact) bool) {
		for _, facts := range []map[string]*Fact{l.revocations, l.past} {
			for _, f := range facts {
				if !yield(f) {
					return
				}
			}
		}
	}
}

// deactivate removes a revocation from the active ones.
func (l *ledger) deactivate(id string) {
	l.freeRoom(id)
	delete(l.past, id)
}

// freeRoom removes a revocation from those that take room.
func (l *ledger) freeRoom(id string) {
	f := l.revocations[id]
	if f == nil {
		return
	}
	delete(l.revocations, id)
	l.size -= f.Revocation.Size()
	if contact := f.Revocation.Contact; contact != "" {
		if l.logouts[contact]--; l.logouts[contact] == 0 {
			delete(l.logouts, contact)
		}
	}
}

// setAside makes room: revocations of tokens that have expired take none any more. They stay active as long as they are stored,
// because the clock of this node may be ahead, and be set back.
func (l *ledger) setAside(now time.Time) {
	for id, f := range l.revocations {
		if f.Revocation.HasExpired(now) {
			l.freeRoom(id)
			l.past[id] = f
		}
	}
}

// isCovered reports whether another revocation has replaced f.
func (l *ledger) isCovered(f *Fact) bool {
	return slices.ContainsFunc(l.covers, func(c *Fact) bool { return c != f && c.Revocation.CoversAllOf(f.Revocation) })
}

// rules returns the rules of the active revocations. For KeepUseless they include those of tokens that have expired: the clock
// of this node may be ahead, and be set back.
func (l *ledger) rules(now time.Time) []authn.Revocation {
	rules := make([]authn.Revocation, 0, len(l.revocations)+len(l.past))
	for f := range l.allActive() {
		if !f.Revocation.HasExpired(now.Add(-KeepUseless)) {
			rules = append(rules, f.Revocation.Rule())
		}
	}
	return rules
}

// rulesOf returns the rules of those facts that are active.
func (l *ledger) rulesOf(facts []*Fact) (rules []authn.Revocation) {
	for _, f := range facts {
		if (l.revocations[f.ID] != nil || l.past[f.ID] != nil) && !l.isUndone(f) {
			rules = append(rules, f.Revocation.Rule())
		}
	}
	return rules
}

// revocationFacts returns the facts by which v is revoked now: v itself, and what makes room for it. bound is the messenger's
// max_lifetime, 0 for none.
func (l *ledger) revocationFacts(v revocation.Revocation, at, now time.Time, bound time.Duration) ([]*Fact, error) {
	newRevocation := func(v revocation.Revocation) *Fact {
		f := NewFact(factRevoke, at)
		f.Revocation = &v
		return f
	}
	if l.logouts[v.Contact] >= maxLogouts || !l.hasRoom(&v) {
		l.setAside(now)
	}
	if l.logouts[v.Contact] >= maxLogouts {
		v = l.mergedLogouts(v)
	}
	facts := []*Fact{newRevocation(v)}
	if !l.hasRoom(&v) {
		floor, freed, size := l.floor(now, bound)
		if len(l.revocations)-freed >= MaxRevocations || l.size-size+v.Size() > MaxRevocationText {
			return nil, fmt.Errorf("the messenger has %d revocations, and there is no room for more; undo some of them, revoke all tokens (all), which always fits, or let tokens expire sooner (max_lifetime)", len(l.revocations))
		}
		facts = append(facts, newRevocation(floor))
	}
	return facts, nil
}

// hasRoom reports whether v fits. One of all tokens always does.
func (l *ledger) hasRoom(v *revocation.Revocation) bool {
	return v.All || v.Covers || len(l.revocations) < MaxRevocations && l.size+v.Size() <= MaxRevocationText
}

// floor returns a revocation of all tokens that were issued no later than those whose revocations have outlived max_lifetime,
// and how many revocations it covers, of which size. It covers no token that is valid now, and the revoked tokens stay revoked
// if max_lifetime is raised.
func (l *ledger) floor(now time.Time, bound time.Duration) (floor revocation.Revocation, freed, size int) {
	var reach time.Time
	for _, f := range l.revocations {
		until := f.Revocation.KeptUntil(bound)
		if f.Revocation.All || until == nil || now.Before(*until) {
			continue
		}
		freed++
		size += f.Revocation.Size()
		if latest := f.Revocation.LatestIssue(); latest.After(reach) {
			reach = latest
		}
	}
	reach = reach.UTC()
	return revocation.Revocation{All: true, Covers: true, Created: now.Truncate(time.Second), Before: &reach}, freed, size
}

// mergedLogouts returns one revocation of all tokens of a contact that were issued no later than those that it has revoked one by
// one, and v. Otherwise one contact who logs in and out again and again would leave no room for others. It uses the tokens'
// own times of issue: the clock that issued them may be ahead of ours, and the next login must not be revoked.
func (l *ledger) mergedLogouts(v revocation.Revocation) revocation.Revocation {
	all := revocation.Revocation{Identity: v.Contact, Covers: true, Until: v.Until, Exact: v.Exact, Created: v.Created}
	before := v.LatestIssue()
	for _, f := range l.revocations {
		old := f.Revocation
		if old.Contact != v.Contact {
			continue
		}
		if latest := old.LatestIssue(); latest.After(before) {
			before = latest
		}
		if all.Until != nil && (old.Until == nil || old.Until.After(*all.Until)) {
			all.Until = old.Until
		}
		all.Exact = all.Exact && old.Exact
	}
	before = before.UTC()
	all.Before = &before
	return all
}
