// Package diagnose finds the mistake behind a refused token: which of the causes of package cause it is. It is for people who have to
// fix a token, in "explain", in the panel and in the log. It decides nothing: what it reads of a token may be unsigned.
//
// It costs much more than a refusal, so that it runs only for a line that is written to the log, and for an explanation that
// a person has requested.
//
// It does not know messengers, or requests except for a header that a person has pasted: it reads a token, and asks the verifier that
// has refused it.
//
// Begin reading with [Find].
package diagnose

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

// A Finding is a likely cause of a refusal with its fix, for those who have the token. It may contain key IDs, issuers, dates and
// names of claims, which they can read anyway. It never contains a part of the token itself, or of a secret.
type Finding struct {
	Name  string `json:"name,omitempty"` // of the cause
	Cause string `json:"cause"`          // its sentence, and what is special about this token
	Fix   string `json:"fix"`
}

// A finder looks at one refused token.
type finder struct {
	verifier *authn.Verifier
	others   map[string]*authn.Verifier
	text     string
	policy   authn.Policy
	now      time.Time
	header   map[string][]byte
	payload  map[string][]byte // nil if it cannot be read
	brief    bool              // only the first cause is wanted
	first    cause.Cause
	findings []Finding
}

// Find returns the likely causes for which v refuses text, the most likely first. others are the verifiers of other messengers by
// name: a token that was sent to the wrong messenger is signed with the key of one of them.
func Find(v *authn.Verifier, text string, rej *authn.Rejection, others map[string]*authn.Verifier) []Finding {
	f := &finder{verifier: v, others: others, text: text, policy: v.Policy(), now: time.Now()}
	f.find(rej)
	return f.findings
}

// Cause returns the most likely cause for which v refuses a token that a request has sent, or [cause.None]. Unlike Find it compares
// nothing with other messengers.
func Cause(v *authn.Verifier, text string, rej *authn.Rejection) cause.Cause {
	if rej.Cause != cause.None || text == "" || v == nil {
		return rej.Cause
	}
	f := &finder{verifier: v, text: text, policy: v.Policy(), now: time.Now(), brief: true}
	f.find(rej)
	if f.first == cause.TextIsHeader {
		return cause.SchemeTwice // the scheme in front of the text is not part of it
	}
	return f.first
}

// find looks for the mistakes behind rej. It returns false for a code that it does not have, which a test finds.
func (f *finder) find(rej *authn.Rejection) (decided bool) {
	header, rest, _ := strings.Cut(f.text, ".")
	if rej.Code == authn.TokenMalformed || rej.Code == authn.TokenTooLarge {
		f.findForm(rej.Cause, header)
		return true
	}
	payload, _, _ := strings.Cut(rest, ".")
	f.header, f.payload = decodedObject(header), decodedObject(payload)
	switch rej.Code {
	case authn.AlgorithmNotAllowed:
		f.findSigner()
		f.findLeftOut()
		f.findAlgorithm()
	case authn.KeyUnknown:
		f.findSigner()
		f.findLeftOut()
		f.findForeign()
		f.findKID()
	case authn.KeysUnavailable:
		if f.policy.Revoked.Unknown() {
			return true // the store cannot be read: the token may be valid, and what is known of keys may be out of date
		}
		f.findSigner()
		f.findLeftOut()
		f.findFetch()
		f.findKID()
	case authn.SignatureInvalid:
		f.findSigner()
		f.findForeign()
		f.findSignature()
	case authn.ClaimInvalid, authn.TokenExpired, authn.TokenNotYetValid:
		f.findTimes(rej)
	case authn.TokenLifetimeTooLong:
		f.findLifetime()
	case authn.IssuerNotAllowed:
		issuers, option := f.verifier.Issuers()
		f.findValue("iss", issuers, option)
	case authn.AudienceNotAllowed:
		f.findAudience()
	case authn.ClaimMissing:
		f.findRequired()
	case authn.IdentityMissing:
		f.findIdentity()
	case authn.TokenMissing, authn.TokenAmbiguous, authn.IdentityInvalid, authn.TokenRevoked, authn.OriginNotAllowed, authn.ProtocolNotAllowed,
		authn.TicketInvalid, authn.TicketExpired, authn.TicketUsed, authn.TicketRequestInvalid, authn.MessengerUnknown, authn.StoreUnavailable,
		authn.TooManyFailures, authn.TooManyConnections, authn.TooManyRequests:
		f.addNamed(rej) // the token does not show more
	default:
		f.addNamed(rej)
		return false
	}
	return true
}

// addNamed adds the cause that the refusal has named itself.
func (f *finder) addNamed(rej *authn.Rejection) {
	if rej.Cause != cause.None {
		f.add(rej.Cause, "")
	}
}

// add adds a finding. The detail goes on after the cause; it is made of texts that [finder.quote] returned, of names from the
// configuration, and of times.
func (f *finder) add(c cause.Cause, detail string, args ...any) {
	if f.first == cause.None {
		f.first = c
	}
	info := c.Info()
	text := info.Text
	if detail != "" && !f.brief {
		text += ": " + fmt.Sprintf(detail, args...)
	}
	f.findings = append(f.findings, Finding{c.String(), cause.Sentence(text), cause.Sentence(info.Fix)})
}

const maxQuoted = 128

// quote quotes texts of the token for those who have it, but nothing that could be a token or a secret: people put them
// into a claim or a kid.
func (f *finder) quote(values ...string) string {
	if f.brief {
		return ""
	}
	quoted := make([]string, 0, len(values))
	for _, value := range values {
		switch {
		case len(quoted) == 8:
			quoted = append(quoted, "…")
		case len(quoted) > 8:
		case len(value) > maxQuoted:
			quoted = append(quoted, fmt.Sprintf("(%d bytes)", len(value)))
		case f.mayReveal(value):
			quoted = append(quoted, "(not shown, because it could be a secret)")
		default:
			quoted = append(quoted, fmt.Sprintf("%q", value))
		}
	}
	return strings.Join(quoted, ", ")
}

// quoteNames is quote for names of claims, which are words: a long one with digits in it is more likely a part of a secret.
func (f *finder) quoteNames(names ...string) string {
	return f.quote(slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return len(name) >= 16 && strings.ContainsAny(name, "0123456789") && !strings.ContainsAny(name, ":/.")
	})...)
}

func (f *finder) mayReveal(value string) bool {
	if sharedtoken.SharesPiece(value, f.text) || f.verifier.Reveals(value) || looksLikeToken(value) || looksLikeSecret(value) {
		return true
	}
	for _, other := range f.others {
		if other.Reveals(value) {
			return true
		}
	}
	return false
}

// decodedObject returns the members of the JSON object that segment encodes, or nil.
func decodedObject(segment string) map[string][]byte {
	text, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil {
		return nil
	}
	members := make(map[string][]byte)
	if strictjson.Claims(text, func(name, value []byte, _ bool) { members[string(name)] = value }) != nil {
		return nil
	}
	return members
}

// text returns the text of a member that is a string, or "".
func text(members map[string][]byte, name string) string {
	text, _ := strictjson.String(members[name])
	return text
}

// findSigner looks for another messenger whose key made the signature.
func (f *finder) findSigner() {
	for _, name := range slices.Sorted(maps.Keys(f.others)) {
		if f.others[name].Signed(f.text) {
			f.add(cause.OtherMessenger, "it is that of %s", name)
			return
		}
	}
}
