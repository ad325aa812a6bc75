// Package succession says whether a site still signs with a shared token that expires soon. After a rotation both the old and the new
// token are valid, and nothing fails until the old one expires: then all contacts are refused at once.
//
// It does not know how tokens are stored or verified: it compares the times of a ring with those of its last uses.
//
// Begin reading with [Of].
package succession

import (
	"slices"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
)

// soon is how long before the end of a token operators are warned.
const soon = 24 * time.Hour

// A Warning says which token expires, and with which to sign instead.
type Warning struct {
	Token ledger.Token  // the one in use, or the last one if all expire
	Next  *ledger.Token // the newest one that outlives the one in use; nil if all expire
	Used  bool          // the next one was used before
}

// Of returns the warning for shared tokens, the oldest first, with these last uses, or nil if the one in use does not expire, or
// was replaced by a newer one. It does not say how soon that is; see IsSoon.
func Of(tokens []ledger.Token, uses map[string]time.Time) *Warning {
	if len(tokens) == 0 {
		return nil
	}
	at, last := 0, tokens[0]
	for i, t := range tokens {
		if uses[t.KeyID].After(uses[tokens[at].KeyID]) {
			at = i
		}
		if outlives(t, last) {
			last = t
		}
	}
	used := tokens[at]
	replaced := slices.ContainsFunc(tokens[at+1:], func(newer ledger.Token) bool { // within this hour, if the one before was used then
		return !uses[newer.KeyID].IsZero()
	})
	if !uses[used.KeyID].IsZero() && !replaced {
		for _, t := range slices.Backward(tokens) {
			if outlives(t, used) {
				return &Warning{Token: used, Next: &t, Used: !uses[t.KeyID].IsZero()}
			}
		}
	}
	if last.End == nil {
		return nil
	}
	return &Warning{Token: last}
}

// outlives reports whether t is valid for longer than other.
func outlives(t, other ledger.Token) bool {
	return other.End != nil && (t.End == nil || t.End.After(*other.End))
}

// IsSoon reports whether the token of a warning, which may be nil, expires soon.
func (w *Warning) IsSoon(now time.Time) bool { return w != nil && w.Token.End.Sub(now) <= soon }
