package authn

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

// maxIdentity is the longest contact identity in bytes, before encoding.
const maxIdentity = 255

// lastYear is the first second of the year 10000. A NumericDate beyond it is not an intended date, and most often
// a count of milliseconds.
const lastYear = 253402300800

const reasonMilliseconds = "exp, nbf or iat counts milliseconds; a NumericDate counts seconds"

// A Policy says which claims a messenger's tokens need.
type Policy struct {
	IdentityKey    string        // the claim that holds the contact identity; see CheckIdentityKey
	Issuers        []string      // accepted values of iss; empty accepts any
	Audiences      []string      // accepted values of aud; empty accepts any
	RequiredClaims []string      // claims that must be there and not null
	ClockSkew      time.Duration // tolerance for exp, nbf and iat
	MaxLifetime    time.Duration // longest time between iat and exp, which it makes mandatory; 0 is any
	Revoked        *Revocations  // revoked tokens; nil if none can be revoked

	audiences, required textSet // of a Verifier
}

// claims are the members of a payload that the checks read, as they were received.
type claims struct {
	exp, nbf, iat []byte
	iss, aud, jti []byte
	identity      []byte
	expires       time.Time // exp, once checkTimes has read it
	begins        time.Time // nbf, likewise
	issued        time.Time // iat, likewise
	required      int       // how many of the required claims are there
	wanted        [][]byte  // in the order of the question
}

// parse reads the payload of t in one pass.
func (c *claims) parse(t *token, p *Policy, want []string) *Rejection {
	payload, err := t.payload()
	if err != nil {
		return reject(TokenMalformed, "the payload "+err.Error())
	}
	if len(want) > 0 {
		c.wanted = make([][]byte, len(want))
	}
	err = strictjson.Object(payload, func(name, value []byte) {
		switch string(name) {
		case "exp":
			c.exp = value
		case "nbf":
			c.nbf = value
		case "iat":
			c.iat = value
		case "iss":
			c.iss = value
		case "aud":
			c.aud = value
		case "jti":
			c.jti = value
		}
		if string(name) == p.IdentityKey {
			c.identity = value
		}
		if p.required.has(name) && !isNull(value) {
			c.required++
		}
		for i := range want {
			if string(name) == want[i] {
				c.wanted[i] = value
			}
		}
	})
	if err != nil {
		return reject(TokenMalformed, "the payload "+err.Error())
	}
	return nil
}

// checkTimes honours exp, nbf and iat (RFC 7519 sections 4.1.4 to 4.1.6) wherever the token has them.
func (c *claims) checkTimes(p *Policy, now time.Time) *Rejection {
	if c.exp != nil {
		var rej *Rejection
		if c.expires, rej = numericDate(c.exp); rej != nil {
			return rej
		}
		if !now.Before(c.expires.Add(p.ClockSkew)) {
			return reject(TokenExpired, "exp has passed")
		}
	}
	if c.nbf != nil {
		var rej *Rejection
		if c.begins, rej = numericDate(c.nbf); rej != nil {
			return rej
		}
		if now.Add(p.ClockSkew).Before(c.begins) {
			return reject(TokenNotYetValid, "nbf is still to come")
		}
	}
	if c.iat != nil {
		var rej *Rejection
		if c.issued, rej = numericDate(c.iat); rej != nil {
			return rej
		}
		if now.Add(p.ClockSkew).Before(c.issued) {
			return reject(TokenNotYetValid, "iat is still to come: the token was made by a clock that is ahead")
		}
	}
	return c.checkLifetime(p)
}

// checkLifetime wants iat as well as exp: without it nobody can say when the token was made, and so neither how long it
// lives nor how long a revocation has to be kept.
func (c *claims) checkLifetime(p *Policy) *Rejection {
	switch {
	case p.MaxLifetime == 0:
		return nil
	case c.exp == nil:
		return reject(ClaimMissing, "exp is absent, and max_lifetime needs it")
	case c.iat == nil:
		return reject(ClaimMissing, "iat is absent, and max_lifetime needs it")
	case c.expires.After(c.issued.Add(p.MaxLifetime)): // a difference is never more than 292 years
		return reject(TokenLifetimeTooLong, "the time from iat to exp is longer than max_lifetime")
	}
	return nil
}

// window returns the first instant at which checkTimes accepts c, and the first after that at which it does not. A zero
// time is no bound.
func (c *claims) window(p *Policy) (since, until time.Time) {
	later := func(t time.Time) {
		if t.After(since) {
			since = t
		}
	}
	if c.nbf != nil {
		later(c.begins.Add(-p.ClockSkew))
	}
	if c.iat != nil {
		later(c.issued.Add(-p.ClockSkew))
	}
	if c.exp != nil {
		until = c.expires.Add(p.ClockSkew)
	}
	return since, until
}

// numericDate reads a NumericDate (RFC 7519 section 2): a JSON number of seconds since 1970, fractions allowed. Strings,
// and numbers that would wrap around or mean no time at all, are refused instead of being taken for "no limit".
func numericDate(value []byte) (time.Time, *Rejection) {
	if c := value[0]; c != '-' && (c < '0' || c > '9') {
		return time.Time{}, reject(ClaimInvalid, "exp, nbf or iat is not a JSON number")
	}
	if seconds, ok := wholeSeconds(value); ok {
		return time.Unix(seconds, 0), nil
	}
	seconds, err := strconv.ParseFloat(string(value), 64)
	switch {
	case err != nil || math.Abs(seconds) >= 1e15:
		return time.Time{}, reject(ClaimInvalid, "exp, nbf or iat is not a date")
	case math.Abs(seconds) >= lastYear:
		return time.Time{}, reject(ClaimInvalid, reasonMilliseconds)
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*1e9)), nil
}

// wholeSeconds reads the usual form of a NumericDate, digits alone, and leaves all others to the long way.
func wholeSeconds(value []byte) (seconds int64, ok bool) {
	if len(value) > 12 {
		return 0, false
	}
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, false
		}
		seconds = 10*seconds + int64(c-'0')
	}
	return seconds, seconds < lastYear
}

func (c *claims) checkIssuer(p *Policy) *Rejection {
	if len(p.Issuers) == 0 {
		return nil
	}
	iss, ok := strictjson.Bytes(c.iss)
	switch {
	case c.iss == nil:
		return reject(IssuerNotAllowed, "iss is absent")
	case !ok:
		return reject(IssuerNotAllowed, "iss is not a string")
	case !contains(p.Issuers, iss):
		return reject(IssuerNotAllowed, "iss is not one of the configured issuers")
	}
	return nil
}

// checkAudience takes aud as a string or as an array of strings (RFC 7519 section 4.1.3).
func (c *claims) checkAudience(p *Policy) *Rejection {
	if len(p.Audiences) == 0 {
		return nil
	}
	if c.aud == nil {
		return reject(AudienceNotAllowed, "aud is absent")
	}
	found := false
	look := func(aud []byte) { found = found || p.audiences.has(aud) }
	if aud, ok := strictjson.Bytes(c.aud); ok {
		if look(aud); found {
			return nil
		}
		return reject(AudienceNotAllowed, "aud is not one of the configured audiences")
	}
	switch {
	case !strictjson.Strings(c.aud, look):
		return reject(AudienceNotAllowed, "aud is neither a string nor an array of strings")
	case !found:
		return reject(AudienceNotAllowed, "aud has none of the configured audiences")
	}
	return nil
}

// contains is slices.Contains for text that was not copied into a string.
func contains(list []string, text []byte) bool {
	return slices.Contains(list, string(text))
}

func (c *claims) checkRequired(p *Policy) *Rejection {
	if c.required < len(p.RequiredClaims) {
		return reject(ClaimMissing, "a claim of require_claims is absent or null")
	}
	return nil
}

// contactIdentity returns the identity exactly as it was signed. Whatever could be read as another identity further on,
// trimmed, rounded, or cut at a control character, is refused.
func (c *claims) contactIdentity() (string, *Rejection) {
	if c.identity == nil {
		return "", reject(IdentityMissing, "the token does not have the claim that is the identity key")
	}
	if isInteger(c.identity) {
		if len(c.identity) > maxIdentity {
			return "", reject(IdentityInvalid, "the identity is longer than 255 bytes")
		}
		return string(c.identity), nil
	}
	identity, ok := strictjson.String(c.identity)
	if !ok {
		return "", reject(IdentityInvalid, "the identity is neither a string nor an integer")
	}
	if identity == "" {
		return "", reject(IdentityInvalid, "the identity is empty")
	}
	if len(identity) > maxIdentity {
		return "", reject(IdentityInvalid, "the identity is longer than 255 bytes")
	}
	for _, r := range identity {
		if unicode.IsControl(r) {
			return "", reject(IdentityInvalid, "the identity has a control character in it")
		}
	}
	first, _ := utf8.DecodeRuneInString(identity)
	last, _ := utf8.DecodeLastRuneInString(identity)
	if unicode.IsSpace(first) || unicode.IsSpace(last) {
		return "", reject(IdentityInvalid, "the identity is blank, or begins or ends with white space")
	}
	return identity, nil
}

// isInteger reports whether value is an integer in its one usual spelling: no fraction, no exponent, not -0.
func isInteger(value []byte) bool {
	digits := bytes.TrimPrefix(value, []byte("-"))
	if len(digits) == 0 || len(digits) < len(value) && digits[0] == '0' {
		return false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

func isNull(value []byte) bool { return value[0] == 'n' }

// texts returns the claims that the caller asked for.
func (c *claims) texts() []Claim {
	if len(c.wanted) == 0 {
		return nil
	}
	texts := make([]Claim, len(c.wanted))
	for i, value := range c.wanted {
		texts[i] = claimText(value)
	}
	return texts
}

func claimText(value []byte) Claim {
	if value == nil || isNull(value) {
		return Claim{}
	}
	switch value[0] {
	case '"':
		text, _ := strictjson.String(value)
		return Claim{Text: text, Present: true}
	case '{', '[':
		var compact bytes.Buffer
		_ = json.Compact(&compact, value) // Object has checked the syntax
		return Claim{Text: compact.String(), Present: true}
	default:
		return Claim{Text: string(value), Present: true}
	}
}
