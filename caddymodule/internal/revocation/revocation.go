// Package revocation says what one revocation is: which tokens it revokes, for how long it has to be kept, and which other one says as
// much or more. It does not know which revocations a messenger has, or how they are stored; see package ledger.
//
// Begin reading with [Revocation]. What follows from its times is in reach.go.
package revocation

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"time"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
)

// A Revocation revokes tokens of one messenger. Exactly one of TokenID, TokenHash, Identity and All is set.
type Revocation struct {
	TokenID   TokenID       `json:"jti,omitempty"`        // as an operator wrote it
	TokenHash authn.TokenID `json:"jti_sha256,omitempty"` // if only the hash is known, as after a logout, or the jti is long
	Contact   string        `json:"contact,omitempty"`    // the contact who revoked it, by a logout
	Identity  string        `json:"identity,omitempty"`
	All       bool          `json:"all,omitempty"`
	Before    *time.Time    `json:"issued_before,omitempty"` // for Identity and All; default: the time of the call
	Until     *time.Time    `json:"until,omitempty"`         // when the revocation can be removed; nil if never
	Created   time.Time     `json:"created,omitzero"`

	// What the gateway records by itself; see package ledger.
	Skew   caddy.Duration `json:"clock_skew,omitempty"` // how far the clock of an issuer may have been ahead
	Issued *time.Time     `json:"issued,omitempty"`     // the iat of the token, if it was revoked by a logout
	Exact  bool           `json:"exact,omitempty"`      // Until comes from the tokens themselves, and not from a setting
	Covers bool           `json:"covers,omitempty"`     // it replaced others, and cannot be undone
}

// DropRecorded removes what is noted when a revocation is made, so that an entry of the list can be made again as it is.
func (v *Revocation) DropRecorded() { v.Skew, v.Issued, v.Exact, v.Covers = 0, nil, false, false }

// Targets returns how many members say what is revoked; only 1 is valid.
func (v *Revocation) Targets() (n int) {
	for _, set := range []bool{v.TokenID != "", v.TokenHash != "", v.Identity != "", v.All} {
		if set {
			n++
		}
	}
	return n
}

// Check returns why v is not a valid revocation.
func (v *Revocation) Check() error {
	switch {
	case v.Targets() != 1:
		return errors.New(`exactly one of "jti", "jti_sha256", "identity" and "all" says what is revoked`)
	case v.Contact != "" && !v.IsToken() && v.Contact != v.Identity:
		return errors.New(`"contact" requires "jti"`)
	case v.Covers && v.IsToken():
		return errors.New("a revocation of one token covers no others")
	case v.IsToken() && v.Before != nil:
		return errors.New(`a jti names one token; "issued_before" requires "identity" or "all"`)
	case len(v.TokenID) > authn.MaxToken || len(v.Identity) > authn.MaxIdentity:
		return errors.New("a jti or an identity is never that long")
	}
	return nil
}

// OfLogout returns the revocation by which c logs out.
func OfLogout(c *authn.Contact, m *config.Messenger, everywhere bool, now time.Time) Revocation {
	if c.TokenID == "" || everywhere {
		// The site's clock may be ahead: the token that is used to log out must be revoked in any case.
		if next := c.Issued.Add(time.Second - config.DurationOr(m.ClockSkew, config.DefaultClockSkew)); next.After(now) {
			now = next.UTC()
		}
		return Revocation{Identity: c.Identity, Contact: c.Identity, Before: &now}
	}
	v := Revocation{TokenHash: c.TokenID, Contact: c.Identity}
	if !c.Expires.IsZero() { // and not c.Until: a key that expires earlier may be configured again
		v.Until = storable(c.Expires)
	}
	if !c.Issued.IsZero() {
		issued := c.Issued.UTC()
		v.Issued = &issued
	}
	return v
}

// Recorded returns v as it is stored when it is made now for m.
func (v Revocation) Recorded(m *config.Messenger, now time.Time) Revocation {
	v.Created, v.Skew = now.Truncate(time.Second), caddy.Duration(config.DurationOr(m.ClockSkew, config.DefaultClockSkew))
	if len(v.TokenID) > maxShownTokenID {
		v.TokenHash, v.TokenID = v.token(), ""
	}
	if !v.IsToken() && v.Before == nil {
		v.Before = &now
	}
	if v.Until == nil {
		v.Until = v.expiresBy(time.Duration(m.MaxLifetime), now)
		return v
	}
	v.Until = storable(v.Until.Add(config.MaxClockSkew)) // covers any clock_skew that is configured later
	v.Exact = v.Until != nil
	return v
}

// CheckNew returns why v is not a valid revocation, or can revoke nothing: it would be acknowledged, and a token that it was made for would
// stay valid.
func (v *Revocation) CheckNew() error {
	if err := v.Check(); err != nil {
		return err
	}
	if v.Identity != "" {
		if why := authn.WhyNotIdentity(v.Identity); why != cause.None {
			return fmt.Errorf("no token can have this identity: %s; write it as it is in the token", why.Info().Text)
		}
	}
	return nil
}

// Warning returns why v may revoke something else than its caller expects, or "".
func (v *Revocation) Warning() string {
	decoded, err := url.PathUnescape(v.Identity)
	if err != nil || decoded == v.Identity || !utf8.ValidString(decoded) || authn.WhyNotIdentity(decoded) != cause.None {
		return ""
	}
	return "the identity has %XX in it, as the backend's header writes other characters; if it was copied from there, decode it, and revoke the identity as it is in the token"
}

// The kinds of revocations, in the audit log and the output of commands.
const (
	KindToken   = "jti"
	KindContact = "identity"
	KindAll     = "all"
)

// Kind returns what kind of revocation v is, without the value.
func (v *Revocation) Kind() string {
	switch {
	case v.IsToken():
		return KindToken
	case v.Identity != "":
		return KindContact
	}
	return KindAll
}

// Overhead is an upper bound for a revocation without its texts, in bytes: the names of all members, and four times.
const Overhead = 256

// Size returns an upper bound for the size of v in a batch, in bytes.
func (v *Revocation) Size() int {
	return Overhead + jsonSize(string(v.TokenID)) + len(v.TokenHash.String()) + jsonSize(v.Contact) + jsonSize(v.Identity)
}

// jsonSize returns an upper bound for the length of text in JSON, without the quotation marks.
func jsonSize(text string) int {
	size := 0
	for _, c := range text {
		switch {
		case c < 0x20, c == '<', c == '>', c == '&', c == utf8.RuneError, c == '\u2028', c == '\u2029':
			size += len(`\u0000`)
		case c == '"', c == '\\':
			size += 2
		default:
			size += utf8.RuneLen(c)
		}
	}
	return size
}

// maxShownTokenID is the longest jti, in bytes, that is stored as it is, so that the list of revocations can show it. Longer
// ones are stored as hashes: otherwise 10,000 revocations with long ones would fill the record.
const maxShownTokenID = 255

// A TokenID is a jti as an operator writes it: a JSON string, or an integer, which means the string of its digits.
type TokenID string

var integer = regexp.MustCompile(`^-?[0-9]+$`)

// UnmarshalJSON implements json.Unmarshaler.
func (id *TokenID) UnmarshalJSON(text []byte) error {
	if integer.Match(text) && string(text) != "-0" {
		*id = TokenID(text)
		return nil
	}
	if text[0] != '"' {
		return errors.New("a jti is a string or an integer")
	}
	return json.Unmarshal(text, (*string)(id))
}

// IsToken reports whether v revokes a single token.
func (v *Revocation) IsToken() bool { return v.TokenID != "" || v.TokenHash != "" }

// token returns the ID of the single token that v revokes, or "".
func (v *Revocation) token() authn.TokenID {
	if v.TokenHash != "" {
		return v.TokenHash
	}
	return authn.NewTokenID(string(v.TokenID))
}

// Value returns what v revokes, for display.
func (v *Revocation) Value() string {
	if v.TokenHash != "" {
		return "SHA-256 " + v.TokenHash.String()
	}
	return string(v.TokenID) + v.Identity
}
