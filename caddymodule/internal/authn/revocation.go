package authn

import (
	"sync/atomic"
	"time"
)

// A Revocation takes back tokens whose signatures are good. It names one token, or all tokens that were issued before an
// instant: those of one contact, or those of the whole messenger.
type Revocation struct {
	TokenID  string    // the jti of one token
	Identity string    // or the contact
	Before   time.Time // for a contact and for the messenger; tokens without an iat count as issued before
}

// Covers reports whether the revocation takes back a token of this contact. A token without an iat cannot show that it
// was issued after an instant, and is covered.
func (r *Revocation) Covers(identity, tokenID string, issued time.Time) bool {
	if r.TokenID != "" {
		return r.TokenID == tokenID
	}
	return (r.Identity == "" || r.Identity == identity) && issued.Before(r.Before)
}

// Revocations are those of one messenger. They can be replaced at any time, and hold from the next request on.
type Revocations struct {
	current atomic.Pointer[revocationIndex] // nil if there are none
}

type revocationIndex struct {
	unknown    bool
	tokens     map[string]struct{}
	identities map[string]time.Time
	everyone   time.Time
}

// Set replaces all revocations.
func (r *Revocations) Set(list []Revocation) {
	if len(list) == 0 {
		r.current.Store(nil)
		return
	}
	index := &revocationIndex{tokens: make(map[string]struct{}), identities: make(map[string]time.Time)}
	for _, rule := range list {
		switch {
		case rule.TokenID != "":
			index.tokens[rule.TokenID] = struct{}{}
		case rule.Identity != "":
			if rule.Before.After(index.identities[rule.Identity]) {
				index.identities[rule.Identity] = rule.Before
			}
		case rule.Before.After(index.everyone):
			index.everyone = rule.Before
		}
	}
	r.current.Store(index)
}

// SetUnknown says that nobody knows the revocations: whoever they may concern is refused until they are set.
func (r *Revocations) SetUnknown() { r.current.Store(&revocationIndex{unknown: true}) }

// check refuses a contact whose token was taken back. It is asked on every request, also where the token was verified
// before.
func (r *Revocations) check(c *Contact) *Rejection {
	if r == nil {
		return nil
	}
	index := r.current.Load()
	if index == nil {
		return nil
	}
	if index.unknown {
		return reject(KeysUnavailable, "the store cannot be read, so that nobody knows whether this token was revoked")
	}
	if c.TokenID != "" {
		if _, revoked := index.tokens[c.TokenID]; revoked {
			return reject(TokenRevoked, "this token was revoked by its jti")
		}
	}
	before := index.identities[c.Identity]
	if index.everyone.After(before) {
		before = index.everyone
	}
	switch {
	case before.IsZero() || !c.Issued.Before(before):
		return nil
	case c.Issued.IsZero():
		return reject(TokenRevoked, "tokens of this contact were revoked by the time of issue, and this one has no iat")
	}
	return reject(TokenRevoked, "tokens of this contact that were issued so early were revoked")
}
