package revocation

import (
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
)

// A Target is what a revocation revokes, whatever its time.
type Target struct {
	Token    authn.TokenID
	Identity string
	All      bool
	Covers   bool
}

// Target returns what v revokes.
func (v *Revocation) Target() Target {
	return Target{v.token(), v.Identity, v.All, v.Covers}
}

// Reach returns the time of issue up to which v revokes tokens: those that were issued earlier are revoked.
func (v *Revocation) Reach() time.Time { return v.Before.Add(time.Duration(v.Skew)) }

// Rule returns what a verifier needs of v.
func (v *Revocation) Rule() authn.Revocation {
	rule := authn.Revocation{TokenID: v.token(), Identity: v.Identity}
	if v.Before != nil {
		rule.Before = v.Reach()
	}
	return rule
}

// HasExpired reports whether the tokens that v revokes have expired, whatever the settings will be later.
func (v *Revocation) HasExpired(now time.Time) bool {
	return v.Exact && v.Until != nil && !now.Before(*v.Until)
}

// CoversAllOf reports whether v, which covers others, revokes every token that old revokes.
func (v *Revocation) CoversAllOf(old *Revocation) bool {
	switch {
	case old == v, old.LatestIssue().After(v.Reach()), old.Covers && !old.LatestIssue().Before(v.Reach()):
		return false
	case old.Outlasts(v):
		return false
	case v.All:
		return true
	}
	return v.Identity == old.Contact || old.Covers && v.Identity == old.Identity // and no revocation by an operator, which can be undone
}

// Outlasts reports whether v has to be kept longer than other.
func (v *Revocation) Outlasts(other *Revocation) bool {
	switch {
	case other.Until == nil || !other.Exact:
		return false
	case v.Until == nil || !v.Exact:
		return true
	}
	return v.Until.After(*other.Until)
}

// Replacing returns v extended by what old, of the same target, says.
func (v Revocation) Replacing(old Revocation) Revocation {
	if old.Before != nil && v.Before != nil && v.Reach().Before(old.Reach()) {
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

// LatestIssue returns a time before which all tokens that v revokes were issued.
func (v *Revocation) LatestIssue() time.Time {
	switch {
	case v.Before != nil:
		return v.Reach()
	case v.Issued != nil:
		return v.Issued.Add(1)
	}
	return v.Created.Add(time.Second + config.MaxClockSkew) // Created is rounded down, and the clock of the site may be ahead
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

// storable returns t, or nil if JSON has no such time. That is after the year 9999, and what is kept until then is kept for
// ever.
func storable(t time.Time) *time.Time {
	if t = t.UTC(); t.Year() > 9999 {
		return nil
	}
	return &t
}
