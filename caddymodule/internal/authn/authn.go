// Package authn turns the raw token of a request into a verified contact.
//
// It finds the token in the configured [Sources], parses it strictly, checks its signature with the [Keys] of one
// messenger, and checks its claims against that messenger's [Policy]. It knows jwx and net/http, but neither Caddy nor a
// logger, so that the whole decision can be read and tested here.
//
// Two rules hold everywhere in the package:
//
//   - The token never chooses how it is verified. The algorithm belongs to the key, and the key to the messenger.
//   - A "no" is a [Rejection] with a code from a closed list. Neither its code nor its reason holds anything that was
//     received: no token, no part of one, no claim value.
package authn

import (
	"time"
)

// A Contact is a customer of the site whose token passed every check.
type Contact struct {
	// Identity is the value of the identity key: not empty, at most 255 bytes of UTF-8, without control characters and
	// without white space at its edges. An integer stands here with exactly the digits that were signed.
	Identity string

	// Claims holds the claims that the caller asked for, in the order of the question.
	Claims []Claim

	// What the token says of itself (RFC 7519 section 4.1): its jti, iat and exp. They are empty where it has none; an
	// empty jti counts as none.
	TokenID TokenID
	Issued  time.Time
	Expires time.Time

	// SignedBy is the key that made the signature.
	SignedBy *Key

	// Until is the first instant at which the verifier would refuse the token: when exp has passed by the clock skew, or
	// the key has ended. It is zero if there is none.
	Until time.Time

	since   time.Time // the first instant at which the verifier would accept the token, whatever the clock did since
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
	// Code is what the client is told.
	Code Code

	// Reason is one constant sentence, more precise than the code, for logs and for developers who fix the token. It never
	// holds a received or configured value.
	Reason string

	// Nothing reports whether the request has what pages send in place of a token when they have none, such as
	// "Bearer undefined".
	Nothing bool
}

func reject(code Code, reason string) *Rejection { return &Rejection{Code: code, Reason: reason} }
