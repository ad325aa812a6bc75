package ledger

import (
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
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

	// maxLogouts is how many of these may be logouts of one contact.
	maxLogouts = 20
)

// A revocationTarget is what a revocation revokes, whatever its time.
type revocationTarget struct {
	token    authn.TokenID
	identity string
	all      bool
	covers   bool
}

func (v *Revocation) target() revocationTarget {
	return revocationTarget{v.token(), v.Identity, v.All, v.Covers}
}

// reach returns the time of issue up to which v revokes tokens: those that were issued earlier are revoked.
func (v *Revocation) reach() time.Time { return v.Before.Add(time.Duration(v.Skew)) }

// rule returns what a verifier needs of v.
func (v *Revocation) rule() authn.Revocation {
	rule := authn.Revocation{TokenID: v.token(), Identity: v.Identity}
	if v.Before != nil {
		rule.Before = v.reach()
	}
	return rule
}

// hasExpired reports whether the tokens that v revokes have expired, whatever the settings will be later.
func (v *Revocation) hasExpired(now time.Time) bool {
	return v.Exact && v.Until != nil && !now.Before(*v.Until)
}

// addRevocation adds a revocation, unless it is undone or covered already.
func (l *ledger) addRevocation(f *Fact, e *Effect) {
	v := f.Revocation
	if v.Covers && !l.isCovered(f) {
		l.covers = slices.DeleteFunc(l.covers, func(c *Fact) bool { return v.coversAllOf(c.Revocation) })
		l.covers = append(l.covers, f)
		for old := range l.active() {
			if v.coversAllOf(old.Revocation) {
				l.deactivate(old.ID)
			}
		}
	}
	if l.undone[f.ID] || l.isCovered(f) {
		return
	}
	l.revocations[f.ID] = f
	l.size += v.size()
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
	l.size -= f.Revocation.size()
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
		if f.Revocation.hasExpired(now) {
			l.freeRoom(id)
			l.past[id] = f
		}
	}
}

// isCovered reports whether another revocation has replaced f.
func (l *ledger) isCovered(f *Fact) bool {
	return slices.ContainsFunc(l.covers, func(c *Fact) bool { return c != f && c.Revocation.coversAllOf(f.Revocation) })
}

// coversAllOf reports whether v, which covers others, revokes every token that old revokes.
func (v *Revocation) coversAllOf(old *Revocation) bool {
	switch {
	case old == v, old.latestIssue().After(v.reach()), old.Covers && !old.latestIssue().Before(v.reach()):
		return false
	case old.hasLonger(v):
		return false
	case v.All:
		return true
	}
	return v.Identity == old.Contact || old.Covers && v.Identity == old.Identity // and no revocation by an operator, which can be undone
}

// hasLonger reports whether v has to be kept longer than other.
func (v *Revocation) hasLonger(other *Revocation) bool {
	switch {
	case other.Until == nil || !other.Exact:
		return false
	case v.Until == nil || !v.Exact:
		return true
	}
	return v.Until.After(*other.Until)
}

// rules returns the rules of the active revocations. For KeepUseless they include those of tokens that have expired: the clock
// of this node may be ahead, and be set back.
func (l *ledger) rules(now time.Time) []authn.Revocation {
	rules := make([]authn.Revocation, 0, len(l.revocations)+len(l.past))
	for f := range l.allActive() {
		if !f.Revocation.hasExpired(now.Add(-KeepUseless)) {
			rules = append(rules, f.Revocation.rule())
		}
	}
	return rules
}

// rulesOf returns the rules of those facts that are active.
func (l *ledger) rulesOf(facts []*Fact) (rules []authn.Revocation) {
	for _, f := range facts {
		if (l.revocations[f.ID] != nil || l.past[f.ID] != nil) && !l.isUndone(f) {
			rules = append(rules, f.Revocation.rule())
		}
	}
	return rules
}

// revocationFacts returns the facts by which v is revoked now: v itself, and what makes room for it. bound is the messenger's
// max_lifetime, 0 for none.
func (l *ledger) revocationFacts(v Revocation, at, now time.Time, bound time.Duration) ([]*Fact, error) {
	newRevocation := func(v Revocation) *Fact {
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
		if len(l.revocations)-freed >= MaxRevocations || l.size-size+v.size() > MaxRevocationText {
			return nil, fmt.Errorf("the messenger has %d revocations, and there is no room for more; undo some of them, revoke all tokens (all), which always fits, or let tokens expire sooner (max_lifetime)", len(l.revocations))
		}
		facts = append(facts, newRevocation(floor))
	}
	return facts, nil
}

// hasRoom reports whether v fits. One of all tokens always does.
func (l *ledger) hasRoom(v *Revocation) bool {
	return v.All || v.Covers || len(l.revocations) < MaxRevocations && l.size+v.size() <= MaxRevocationText
}

// floor returns a revocation of all tokens that were issued no later than those whose revocations have outlived max_lifetime,
// and how many revocations it covers, of which size. It covers no token that is valid now, and the revoked tokens stay revoked
// if max_lifetime is raised.
func (l *ledger) floor(now time.Time, bound time.Duration) (floor Revocation, freed, size int) {
	var reach time.Time
	for _, f := range l.revocations {
		until := f.Revocation.keptUntil(bound)
		if f.Revocation.All || until == nil || now.Before(*until) {
			continue
		}
		freed++
		size += f.Revocation.size()
		if latest := f.Revocation.latestIssue(); latest.After(reach) {
			reach = latest
		}
	}
	reach = reach.UTC()
	return Revocation{All: true, Covers: true, Created: now.Truncate(time.Second), Before: &reach}, freed, size
}

// replacing returns v extended by what old, of the same target, says.
func (v Revocation) replacing(old Revocation) Revocation {
	if old.Before != nil && v.Before != nil && v.reach().Before(old.reach()) {
		v.Before, v.Skew = old.Before, old.Skew
	}
	if old.Until == nil || v.Until != nil && v.Until.Before(*old.Until) {
		v.Until = old.Until
	}
	v.Exact = v.Exact && old.Exact
	if old.Contact != v.Contact {
		v.Contact = ""
	}
	return v
}

// latestIssue returns a time before which all tokens that v revokes were issued.
func (v *Revocation) latestIssue() time.Time {
	switch {
	case v.Before != nil:
		return v.reach()
	case v.Issued != nil:
		return v.Issued.Add(1)
	}
	return v.Created.Add(time.Second + config.MaxClockSkew) // Created is rounded down, and the clock of the site may be ahead
}

// mergedLogouts returns one revocation of all tokens of a contact that were issued no later than those that it has revoked one by
// one, and v. Otherwise one contact who logs in and out again and again would leave no room for others. It uses the tokens'
// own times of issue: the clock that issued them may be ahead of ours, and the next login must not be revoked.
func (l *ledger) mergedLogouts(v Revocation) Revocation {
	all := Revocation{Identity: v.Contact, Covers: true, Until: v.Until, Exact: v.Exact, Created: v.Created}
	before := v.latestIssue()
	for _, f := range l.revocations {
		old := f.Revocation
		if old.Contact != v.Contact {
			continue
		}
		if latest := old.latestIssue(); latest.After(before) {
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

// expiresBy returns when the last token that v revokes has expired if none is valid for longer than bound, or nil if that
// is unknown, because the messenger has no max_lifetime.
func (v *Revocation) expiresBy(bound time.Duration, now time.Time) *time.Time {
	if bound <= 0 {
		return nil
	}
	issued := now
	if v.Before != nil && v.Before.After(now) {
		issued = *v.Before
	}
	// A token may have been issued by a clock that is ahead, and is valid for as long after its exp.
	return storable(issued.Add(bound).Add(3 * config.MaxClockSkew))
}

// keptUntil returns when v can be forgotten, or nil if never. Where it rests on max_lifetime, that may be longer now.
func (v *Revocation) keptUntil(bound time.Duration) *time.Time {
	if v.Exact || v.Until == nil {
		return v.Until
	}
	until := v.expiresBy(bound, v.Created)
	if until != nil && until.Before(*v.Until) {
		return v.Until
	}
	return until
}
