package registry

import (
	"fmt"
	"slices"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// How the revocations of one messenger are stored in its record. Tokens are revoked, contacts log out, revocations are undone
// and settings are changed, in any order: no revoked token becomes valid again, except by undoing its revocation. From this
// follow the rules:
//
//   - A revocation by time covers clocks that are ahead by the clock_skew of that moment.
//   - A revocation whose Until is the expiry of the token itself is removed after that. Any other is kept as long as there is
//     room, because max_lifetime may be raised, and older tokens are valid longer then. Only when room is needed, those whose
//     tokens cannot be valid under max_lifetime are replaced by one revocation by time.
//   - A revocation that replaced others cannot be undone.

const (
	// maxRevocations is how many revocations of one messenger are stored. Those of all its tokens do not count, so that there
	// is room in an emergency.
	maxRevocations = 10_000

	// maxLogouts is how many of these may be single tokens that one contact has revoked.
	maxLogouts = 20
)

// SameTarget reports whether v and other revoke the same tokens, so that one can replace the other.
func (v *Revocation) SameTarget(other Revocation) bool {
	return v.token() == other.token() && v.Identity == other.Identity && v.All == other.All && v.Covers == other.Covers
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

// rules returns the revocations that are active.
func (r *Record) rules(now time.Time) []authn.Revocation {
	var rules []authn.Revocation
	for i := range r.Revocations {
		if v := &r.Revocations[i]; !v.hasExpired(now) {
			rules = append(rules, v.rule())
		}
	}
	return rules
}

// addRevocation adds v. A revocation of the same target is merged with it, so that nothing it covered becomes valid.
func (r *Record) addRevocation(v Revocation, now time.Time) error {
	r.Revocations = slices.DeleteFunc(r.Revocations, func(old Revocation) bool { return old.hasExpired(now) })
	for i, old := range r.Revocations {
		if v.SameTarget(old) {
			r.Revocations[i] = v.replacing(old)
			return nil
		}
	}
	if v.Contact != "" && r.logouts(v.Contact) >= maxLogouts {
		return r.addRevocation(r.mergeLogouts(v), now)
	}
	if !r.hasRoom(&v) {
		if r.forgetRevocations(now); !r.hasRoom(&v) {
			return fmt.Errorf("the messenger has %d revocations, and there is no room for more; undo some of them, revoke all tokens (all), which always fits, or let tokens expire sooner (max_lifetime)", len(r.Revocations))
		}
	}
	r.Revocations = append(r.Revocations, v)
	return nil
}

// replacing returns v extended by what old covers.
func (v Revocation) replacing(old Revocation) Revocation {
	if old.Before != nil && v.Before != nil && v.reach().Before(old.reach()) {
		v.Before, v.Skew = old.Before, old.Skew
	}
	if old.Until == nil || v.Until != nil && v.Until.Before(*old.Until) {
		v.Until = old.Until
	}
	v.Exact = v.Exact && old.Exact
	if old.Contact != v.Contact {
		v.Contact = "" // an operator or another contact has revoked it too; mergeLogouts must not replace that
	}
	if v.Issued != nil && (old.Issued == nil || old.Issued.After(*v.Issued)) {
		v.Issued = old.Issued
	}
	return v
}

// hasRoom reports whether v fits into the record.
func (r *Record) hasRoom(v *Revocation) bool {
	if v.All {
		return true // there are two at most, one of which replaced others
	}
	number, atMost := 1, v.sizeAtMost()
	for i := range r.Revocations {
		if old := &r.Revocations[i]; !old.All {
			number++
			atMost += old.sizeAtMost()
		}
	}
	if number > maxRevocations || atMost <= maxRevocationText { // this cheap bound is enough in most cases
		return number <= maxRevocations
	}
	size := v.size()
	for i := range r.Revocations {
		size += r.Revocations[i].size()
	}
	return size <= maxRevocationText
}

// forgetRevocations replaces the revocations whose tokens have expired according to max_lifetime by one revocation of all
// tokens that were issued as early. That one covers no token that is valid now, and the revoked tokens stay revoked if
// max_lifetime is raised.
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

// logouts returns how many tokens a contact has revoked.
func (r *Record) logouts(contact string) (count int) {
	for i := range r.Revocations {
		if r.Revocations[i].Contact == contact {
			count++
		}
	}
	return count
}

// mergeLogouts replaces the single tokens that a contact has revoked, and v, by one revocation of all its tokens that were
// issued no later than these. Otherwise one contact who logs in and out again and again would leave no room for others.
// It uses the tokens' own times of issue: the clock that issued them may be ahead of ours, and the next login must not be
// revoked.
func (r *Record) mergeLogouts(v Revocation) Revocation {
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

// expiresBy returns when the last token that v revokes has expired if none is valid for longer than bound, or nil if nobody
// can say: the messenger has no max_lifetime.
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

// KeptUntil returns when v can be forgotten, or nil if never. Where it rests on max_lifetime, that may be longer now.
func (v *Revocation) KeptUntil(bound time.Duration) *time.Time {
	if v.Exact || v.Until == nil {
		return v.Until
	}
	until := v.expiresBy(bound, v.Created)
	if until != nil && until.Before(*v.Until) {
		return v.Until
	}
	return until
}
