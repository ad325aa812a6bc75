// Package authn turns the raw token of a request into a verified contact.
//
// It finds the token in the configured [Sources] and removes it from what goes upstream, parses it strictly, checks its
// signature with the [Keys] of one messenger, and checks its claims against that messenger's [Policy]. It knows neither
// Caddy nor a logger, nor where messengers, keys and revocations are stored, so that the whole decision can be read and tested
// here.
//
// Two rules apply everywhere in the package:
//
//   - The token never chooses how it is verified. The algorithm belongs to the key, and the key to the messenger.
//   - A refusal is a [Rejection] with a code from a closed list. Neither its code nor its reason contains anything that was
//     received: no token, no part of one, no claim value. "We cannot decide" is a refusal too, with [KeysUnavailable].
//
// Begin reading with Verifier.verify, which makes the checks in their order. What leads to it: [Sources.Find] finds the token,
// [Cache.Verify] answers for a token that was verified before. Each check is in the file of its subject: token.go for the form,
// keys.go and jwks.go for the key, claims.go for the claims, revocation.go for the revocations. The texts for people who have to
// fix a token are in codes.go and in package cause; package diagnose finds the cause of a refusal.
package authn

import (
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// A Contact is a customer of the site whose token passed every check.
type Contact struct {
	// Identity is the value of the identity key: not empty, at most 255 bytes of UTF-8, without control characters and
	// without white space at its edges. An integer has exactly the digits that were signed.
	Identity string

	// Claims are the claims that the caller asked for, in the caller's order.
	Claims []Claim

	// Information has the claims of Policy.ContactClaims that the token has, as one compact JSON object in their order, with every
	// value exactly as it was signed. It is empty if the token has none of them.
	Information string

	// The token's own jti, iat and exp (RFC 7519 section 4.1). They are empty where the token does not have them; an empty jti
	// counts as absent.
	TokenID TokenID
	Issued  time.Time
	Expires time.Time

	// SignedBy is the key that made the signature.
	SignedBy *sigkey.Key

	// Until is the first instant at which the verifier would refuse the token: exp plus the clock skew, or the end of the key if
	// that is earlier. It is zero if neither exists.
	Until time.Time

	since   time.Time // the first instant at which the verifier would accept the token; the clock may be set back before it
	version uint64    // of the key set that SignedBy is from
}

// A Claim is one claim as text: strings as they are, numbers and booleans as they were signed, arrays and objects as
// compact JSON.
type Claim struct {
	Text    string
	Present bool // false if the token does not have the claim, or has null
}

// A Rejection says that a request carries no verified contact, and why.
type Rejection struct {
	// Code is sent to the client.
	Code Code

	// Reason is one constant sentence, more precise than the code, for logs and for developers who fix the token. It never
	// contains a received or configured value.
	Reason string

	// Cause is the mistake, if the check that failed knows it at no cost. Package diagnose looks for other causes. With the code
	// [TokenMissing] it says what the page has sent instead of a token, such as "Bearer undefined".
	Cause cause.Cause

	// RetryAfter is after how many seconds the request may be sent again; 0 if the code decides that.
	RetryAfter int
}

func reject(code Code, reason string) *Rejection { return &Rejection{Code: code, Reason: reason} }

// rejectFor is reject for a cause that is known.
func rejectFor(code Code, c cause.Cause) *Rejection {
	return &Rejection{Code: code, Reason: c.Info().Text, Cause: c}
}
