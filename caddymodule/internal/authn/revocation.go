package authn

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

// A Revocation revokes tokens whose signatures are valid. It names one token, or all tokens that were issued before an
// instant: those of one contact, or those of the whole messenger.
type Revocation struct {
	TokenID  TokenID   // one token
	Identity string    // or the contact
	Before   time.Time // for a contact and for the messenger; a token without an iat counts as issued before it
}

// Revocations are the revocations of one messenger. They can be replaced at any time, and apply from the next request on, to tokens in the
// cache too. A request reads an immutable index behind an atomic pointer and takes no lock.
type Revocations struct {
	current atomic.Pointer[revocationIndex] // nil if there are none
}

// A revocationIndex is immutable, except that recent may be replaced by one with more revocations in a copy of the index.
type revocationIndex struct {
	unknown    bool // then the rest is empty
	tokens     map[TokenID]struct{}
	identities map[string]time.Time
	everyone   time.Time
	recent     []Revocation // added since the maps were made; few, so that adding one does not copy the maps
}

// maxRecent is how many revocations are compared one by one before they are put into the maps.
const maxRecent = 64

// Set replaces all revocations.
func (r *Revocations) Set(list []Revocation) {
	if len(list) == 0 {
		r.current.Store(nil)
		return
	}
	r.current.Store(newRevocationIndex(list))
}

// Add adds revocations. Callers do not call it, Set and SetUnknown at the same time. If the revocations are unknown, they stay
// unknown.
func (r *Revocations) Add(list []Revocation) {
	before := r.current.Load()
	switch {
	case len(list) == 0:
	case before == nil:
		r.current.Store(newRevocationIndex(list))
	case before.unknown:
	case len(before.recent)+len(list) <= maxRecent:
		next := *before
		next.recent = append(slices.Clone(before.recent), list...)
		r.current.Store(&next)
	default:
		next := &revocationIndex{tokens: maps.Clone(before.tokens), identities: maps.Clone(before.identities), everyone: before.everyone}
		next.add(before.recent)
		next.add(list)
		r.current.Store(next)
	}
}

func newRevocationIndex(list []Revocation) *revocationIndex {
	index := &revocationIndex{tokens: make(map[TokenID]struct{}), identities: make(map[string]time.Time)}
	index.add(list)
	return index
}

func (index *revocationIndex) add(list []Revocation) {
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
}

// NewRevocations returns Revocations with this list.
func NewRevocations(list []Revocation) *Revocations {
	r := new(Revocations)
	r.Set(list)
	return r
}

// Covers reports whether a token of this contact, with this jti and time of issue, is revoked.
func (r *Revocations) Covers(identity string, tokenID TokenID, issued time.Time) bool {
	return r.check(&Contact{Identity: identity, TokenID: tokenID, Issued: issued}) != nil
}

// SetUnknown records that the revocations are unknown, because what the store has about the messenger cannot be read. Its keys and
// settings may have changed as well, so no token is decided until the revocations are set.
func (r *Revocations) SetUnknown() { r.current.Store(&revocationIndex{unknown: true}) }

// Unknown reports whether the revocations are unknown.
func (r *Revocations) Unknown() bool {
	if r == nil {
		return false
	}
	index := r.current.Load()
	return index != nil && index.unknown
}

func rejectUnknown() *Rejection {
	return reject(KeysUnavailable, "the store cannot be read, so that it is unknown which keys are active and whether this token was revoked")
}

// check refuses a contact whose token is revoked. It is called for every request, even if the token is in the cache: a cached
// answer would delay a revocation.
func (r *Revocations) check(c *Contact) *Rejection {
	if r == nil {
		return nil
	}
	index := r.current.Load()
	if index == nil {
		return nil
	}
	if index.unknown {
		return rejectUnknown()
	}
	if c.TokenID != "" {
		if _, revoked := index.tokens[c.TokenID]; revoked || slices.ContainsFunc(index.recent, func(v Revocation) bool { return v.TokenID == c.TokenID }) {
			return reject(TokenRevoked, "this token was revoked by its jti")
		}
	}
	before := index.identities[c.Identity]
	if index.everyone.After(before) {
		before = index.everyone
	}
	for i := range index.recent {
		if v := &index.recent[i]; v.TokenID == "" && (v.Identity == "" || v.Identity == c.Identity) && v.Before.After(before) {
			before = v.Before
		}
	}
	switch {
	case before.IsZero() || !c.Issued.Before(before):
		return nil
	case c.Issued.IsZero():
		return reject(TokenRevoked, "tokens of this contact were revoked by their time of issue, and this one does not have an iat")
	}
	return reject(TokenRevoked, "tokens of this contact that were issued before a revocation, or within clock_skew after it, were revoked")
}

// A TokenID identifies a token: the 32 bytes of the SHA-256 of its jti (RFC 7519 section 4.1.7), or "" if it does not have one. A
// site can make a jti of any length; its hash takes the same memory in the cache and for every connection.
type TokenID string

// NewTokenID returns the TokenID of this jti. An integer is the text of its digits.
func NewTokenID(jti string) TokenID { return newTokenID([]byte(jti)) }

func newTokenID(jti []byte) TokenID {
	if len(jti) == 0 {
		return ""
	}
	sum := sha256.Sum256(jti)
	return TokenID(sum[:])
}

// String returns the SHA-256 in hexadecimal.
func (id TokenID) String() string { return hex.EncodeToString([]byte(id)) }

// MarshalText implements encoding.TextMarshaler.
func (id TokenID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText wrote, in either case.
func (id *TokenID) UnmarshalText(text []byte) error {
	sum, err := hex.DecodeString(string(text))
	if err != nil || len(sum) != sha256.Size {
		return errors.New("is not a SHA-256 in hexadecimal, 64 digits")
	}
	*id = TokenID(sum)
	return nil
}

// tokenID reads jti. A token whose jti cannot be named in a revocation is refused. Otherwise the token would stay valid although an
// operator has revoked it, and the gateway has confirmed that.
func (c *claims) tokenID() (TokenID, *Rejection) {
	if c.jti == nil {
		return "", nil
	}
	if text, ok := strictjson.Bytes(c.jti); ok {
		return newTokenID(text), nil
	}
	if isInteger(c.jti) {
		return newTokenID(c.jti), nil
	}
	return "", &Rejection{Code: ClaimInvalid, Reason: reasonTokenID, Cause: cause.TokenIDOther}
}

const reasonTokenID = "jti is neither a string nor an integer, so that the token could not be revoked by it"
