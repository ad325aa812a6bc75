package registry

import (
	"fmt"
	"slices"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// How the revocations of one messenger are kept in its record. Whatever the order in which tokens are revoked, contacts
// log out, revocations are undone and settings are changed: no revoked token becomes valid again, except by undoing its
// revocation. Hence the rules:
//
//   - A revocation by time covers clocks that are ahead by the clock_skew of that moment.
//   - One that rests on the end of the token itself is forgotten after that. Any other is kept as long as there is room:
//     max_lifetime may be raised, and older tokens last longer then. Only when room is needed are those forgotten whose
//     tokens cannot be valid under max_lifetime; one revocation by time replaces them all.
//   - What replaces others cannot be undone.

const (
	// maxRevocations is how many revocations of one messenger are kept. Those of all its tokens need no place among them,
	// so that an emergency finds room.
	maxRevocations = 10_000

	// maxLogouts is how many of these are single tokens that one contact has revoked.
	maxLogouts = 20
)

// SameTarget reports whether v and other revoke the same tokens, so that one can replace the other.
func (v *Revocation) SameTarget(other Revocation) bool {
	return v.token() == other.token() && v.Identity == other.Identity && v.All == other.All && v.Covers == other.Covers
}

// reach is the time of issue from which on tokens are not meant.
func (v *Revocation) reach() time.Time { return v.Before.Add(time.Duration(v.Skew)) }

func (v *Revocation) rule() authn.Revocation {
	rule := authn.Revocation{TokenID: v.token(), Identity: v.Identity}
	if v.Before != nil {
		rule.Before = v.reach()
	}
	return rule
}

// isOver reports whether the tokens that v means have expired, whatever the settings say later.
func (v *Revocation) isOver(now time.Time) bool {
	return v.Exact && v.Until != nil && !now.Before(*v.Until)
}

// rules returns the revocations that hold.
func (r *Record) rules(now time.Time) []authn.Revocation {
	var rules []authn.Revocation
	for i := range r.Revocations {
		if v := &r.Revocations[i]; !v.isOver(now) {
			rules = append(rules, v.rule())
		}
	}
	return rules
}

// addRevocation adds v. One for the same target is replaced, unless it reaches further.
func (r *Record) addRevocation(v Revocation, now time.Time) error {
	r.Revocations = slices.DeleteFunc(r.Revocations, func(old Revocation) bool { return old.isOver(now) })
	for i, old := range r.Revocations {
		if v.SameTarget(old) {
			r.Revocations[i] = v.replacing(old)
			return nil
		}
	}
	if v.Contact != "" && r.logouts(v.Contact) >= maxLogouts {
		return r.addRevocation(r.everywhere(v), now)
	}
	if !r.hasRoom(&v) {
		if r.forgetRevocations(now); !r.hasRoom(&v) {
			return fmt.Errorf("the messenger has %d revocations, and there is no room for more; undo some of them, revoke all tokens (all), which always fits, or let tokens expire sooner (max_lifetime)", len(r.Revocations))
		}
	}
	r.Revocations = append(r.Revocations, v)
	return nil
}

// replacing returns v with what old covers beside it.
func (v Revocation) replacing(old Revocation) Revocation {
	if old.Before != nil && v.Before != nil && v.reach().Before(old.reach()) {
		v.Before, v.Skew = old.Before, old.Skew
	}
	if old.Until == nil || v.Until != nil && v.Until.Before(*old.Until) {
		v.Until = old.Until
	}
	v.Exact = v.Exact && old.Exact
	if old.Contact != v.Contact {
		v.Contact = "" // an operator or another contact has revoked it too, and no number of logouts may replace that
	}
	if v.Issued != nil && (old.Issued == nil || old.Issued.After(*v.Issued)) {
		v.Issued = old.Issued
	}
	return v
}

// hasRoom reports whether v fits into the record.
func (r *Record) hasRoom(v *Revocation) bool {
	if v.All {
		return true // there is one at most, or two with one that replaced others
	}
	number, atMost := 1, v.sizeAtMost()
	for i := range r.Revocations {
		if old := &r.Revocations[i]; !old.All {
			number++
			atMost += old.sizeAtMost()
		}
	}
	if number > maxRevocations || atMost <= maxRevocationText { // which spares most the reading of all texts
		return number <= maxRevocations
	}
	size := v.size()
	for i := range r.Revocations {
		size += r.Revocations[i].size()
	}
	return size <= maxRevocationText
}

// forgetRevocations replaces those whose tokens have expired, as far as max_lifetime says, by one of all tokens that were
// issued so early. It concerns no token that is valid now, and none that a longer max_lifetime would make valid comes back.
func (r *Record) forgetRevocations(now time.Time) {
	floor := Revocation{All: true, Covers: true, Created: now.Truncate(time.Second)}
	var reach time.Time
	r.Revocations = slices.DeleteFunc(r.Revocations, func(old Revocation) bool {
		until := old.KeptUntil(r.bound)
		if old.All || until == nil || now.Before(*until) {
			return false
		}
		if latest := old.latestIssue(); latest.After(reach) {
			reach = latest
		}
		return true
	})
	if floor.Before = &reach; !reach.IsZero() {
		_ = r.addRevocation(floor, now) // one of all tokens always fits
	}
}

// latestIssue is the first time of issue at which no token that v means was issued.
func (v *Revocation) latestIssue() time.Time {
	switch {
	case v.Before != nil:
		return v.reach()
	case v.Issued != nil:
		return v.Issued.Add(1)
	}
	return v.Created.Add(time.Second + config.MaxClockSkew) // Created is rounded down, and the clock of the site may be ahead
}

// logouts returns how many tokens a contact has revoked.
func (r *Record) logouts(contact string) (count int) {
	for i := range r.Revocations {
		if r.Revocations[i].Contact == contact {
			count++
		}
	}
	return count
}

// everywhere replaces the revocations of single tokens that a contact has made, and v, by one of all its tokens that were
// issued no later than these. Otherwise one contact who logs in and out again and again would leave no room for others.
// It goes by the tokens' own times of issue: the clock that wrote them may be ahead of ours, and the next login is not
// meant.
func (r *Record) everywhere(v Revocation) Revocation {
	all := Revocation{Identity: v.Contact, Covers: true, Until: v.Until, Exact: v.Exact, Created: v.Created}
	before := v.latestIssue()
	r.Revocations = slices.DeleteFunc(r.Revocations, func(old Revocation) bool {
		if old.Contact != v.Contact {
			return false
		}
		if latest := old.latestIssue(); latest.After(before) {
			before = latest
		}
		if all.Until != nil && (old.Until == nil || old.Until.After(*all.Until)) {
			all.Until = old.Until
		}
		all.Exact = all.Exact && old.Exact
		return true
	})
	before = before.UTC()
	all.Before = &before
	return all
}

// endsBy returns when the last token that v revokes has expired if none is valid for longer than bound, or nil if nobody
// can say: the messenger has no max_lifetime.
func (v *Revocation) endsBy(bound time.Duration, now time.Time) *time.Time {
	if bound <= 0 {
		return nil
	}
	issued := now
	if v.Before != nil && v.Before.After(now) {
		issued = *v.Before
	}
	// A token may have been issued by a clock that is ahead, and is valid for as long after its exp.
	return writable(issued.Add(bound).Add(3 * config.MaxClockSkew))
}

// KeptUntil returns when v can be forgotten, or nil if never. Where it rests on max_lifetime, that may be longer now.
func (v *Revocation) KeptUntil(bound time.Duration) *time.Time {
	if v.Exact || v.Until == nil {
		return v.Until
	}
	until := v.endsBy(bound, v.Created)
	if until != nil && until.Before(*v.Until) {
		return v.Until
	}
	return until
}
