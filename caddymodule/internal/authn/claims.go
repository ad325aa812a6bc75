package authn

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

// MaxIdentity is the longest contact identity in bytes, before encoding.
const MaxIdentity = 255

// A Policy says which claims a messenger's tokens need.
type Policy struct {
	IdentityKey string // the claim that holds the contact identity; see config.CheckIdentityKey

	// IdentityPath is where the identity is, in place of IdentityKey; nil if that is set.
	IdentityPath strictjson.Pointer

	TokenType      string        // the one accepted typ, as TypeOf returns it; "" for those that IsContactType accepts, or none
	Issuers        []string      // accepted values of iss; empty accepts any
	Audiences      []string      // accepted values of aud; empty accepts any
	RequiredClaims []string      // claims that must be there and not null
	ContactClaims  []string      // claims that Contact.Information has
	ClockSkew      time.Duration // tolerance for exp, nbf and iat
	MaxLifetime    time.Duration // longest time between iat and exp, which it makes mandatory; 0 accepts any
	Revoked        *Revocations  // revoked tokens; nil if none can be revoked

	audiences, required textSet // of a Verifier
	information         *information
	identityMember      string // the same: the top-level member that is the identity, or has it inside
}

// claims are the members of a payload that the checks read, as they were received. They point into the memory of the token, and
// are not valid after its release.
type claims struct {
	exp, nbf, iat []byte
	iss, aud, jti []byte
	identity      []byte
	expires       time.Time // exp, once checkTimes has read it
	begins        time.Time // nbf, likewise
	issued        time.Time // iat, likewise
	required      int       // how many of the required claims are present
	wanted        [][]byte  // the claims that the caller asked for, in its order
	information   [][]byte  // those of Policy.ContactClaims, in their order; nil if there are none
}

// errSurrogate is for a lone surrogate where two readers could take it for different texts. Claims that are not read may have one.
var errSurrogate = errors.New("has an unpaired UTF-16 surrogate in a claim that is read")

// parse reads the payload of t in one pass. Names are unique, which Object checks: no member is read twice.
func (c *claims) parse(t *token, p *Policy, selection *ClaimSelection) *Rejection {
	payload, err := t.payload()
	if err != nil {
		return reject(TokenMalformed, "the payload "+err.Error())
	}
	if len(selection.members) > 0 {
		c.wanted = make([][]byte, len(selection.members))
	}
	damaged := false
	err = strictjson.Claims(payload, func(name, value []byte, whole bool) {
		read := true // a member with a case below is read, by us or by those who read registered claims
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
		case "sub":
		default:
			read = false
		}
		if string(name) == p.identityMember {
			c.identity, read = value, true
		}
		if p.required.has(name) && !strictjson.IsNull(value) {
			c.required++
		}
		for i := range selection.members {
			if string(name) == selection.members[i] {
				c.wanted[i], read = value, true
			}
		}
		if p.information != nil && p.information.take(c, name, value) {
			read = true
		}
		damaged = damaged || read && !whole
	})
	if err == nil && damaged {
		err = errSurrogate
	}
	if err != nil {
		return rejectPayload(payload, err)
	}
	if len(p.IdentityPath) > 1 {
		c.identity = p.IdentityPath[1:].Find(c.identity)
	}
	for i, path := range selection.inside {
		c.wanted[i] = path.Find(c.wanted[i])
	}
	return nil
}

// rejectPayload names the cause of a payload that is not JSON: its signature is valid, so that it was not damaged on the way.
func rejectPayload(payload []byte, err error) *Rejection {
	rej := reject(TokenMalformed, "the payload "+err.Error())
	if !json.Valid(payload) {
		rej.Cause = cause.PayloadNotJSON
	}
	return rej
}

// checkIssuer checks iss. bound is the issuer to which the key is bound that made the signature, or "".
func (c *claims) checkIssuer(p *Policy, bound string) *Rejection {
	if len(p.Issuers) == 0 && bound == "" {
		return nil
	}
	iss, ok := strictjson.Bytes(c.iss)
	switch {
	case c.iss == nil:
		return reject(IssuerNotAllowed, "iss is absent")
	case !ok:
		return reject(IssuerNotAllowed, "iss is not a string")
	case bound != "" && string(iss) != bound:
		return reject(IssuerNotAllowed, "iss is not the issuer at which the key set was discovered")
	case len(p.Issuers) > 0 && !slices.Contains(p.Issuers, string(iss)):
		return reject(IssuerNotAllowed, "iss is not one of the configured issuers")
	}
	return nil
}

// checkAudience accepts aud as a string or as an array of strings (RFC 7519 section 4.1.3).
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

func (c *claims) checkRequired(p *Policy) *Rejection {
	if c.required < len(p.RequiredClaims) {
		return reject(ClaimMissing, "a claim of require_claims is absent or null")
	}
	return nil
}

// contactIdentity returns the identity exactly as it was signed. An identity that a backend could read as another one is refused:
// it may trim white space, round a number, or stop at a control character.
func (c *claims) contactIdentity() (string, *Rejection) {
	if c.identity == nil {
		return "", reject(IdentityMissing, "the token does not have the claim that is the identity key")
	}
	if isInteger(c.identity) {
		if len(c.identity) > MaxIdentity {
			return "", rejectFor(IdentityInvalid, cause.IdentityTooLong)
		}
		return string(c.identity), nil
	}
	identity, ok := strictjson.String(c.identity)
	if !ok {
		return "", rejectFor(IdentityInvalid, whatIdentity(c.identity))
	}
	if why := WhyNotIdentity(identity); why != cause.None {
		return "", rejectFor(IdentityInvalid, why)
	}
	return identity, nil
}

// WhyNotIdentity says why text is not an identity, or returns [cause.None].
func WhyNotIdentity(text string) cause.Cause {
	switch {
	case text == "":
		return cause.IdentityEmpty
	case len(text) > MaxIdentity:
		return cause.IdentityTooLong
	case strings.ContainsFunc(text, unicode.IsControl):
		return cause.IdentityControl
	}
	first, _ := utf8.DecodeRuneInString(text)
	last, _ := utf8.DecodeLastRuneInString(text)
	switch {
	case !unicode.IsSpace(first) && !unicode.IsSpace(last):
		return cause.None
	case strings.TrimSpace(text) == "":
		return cause.IdentityBlank
	}
	return cause.IdentityEdges
}

// isInteger reports whether value is an integer in its only canonical spelling: without a fraction or exponent, and not -0. Other
// spellings of the same number would be other identities for us, and the same one for the backend.
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
	if value == nil || strictjson.IsNull(value) {
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
