package authn

import (
	"context"
	"slices"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// An Explanation is a verification step by step, for people who have to fix a token. It comes from the verifier itself, and not
// from a second implementation that could decide differently.
type Explanation struct {
	Checks    []Check    // the checks that were made, in order; the last one failed if Rejection is not nil
	Skipped   []Step     // the checks that were not reached
	Contact   *Contact   // nil if the token was refused
	Rejection *Rejection // nil if the token was accepted
}

// Explain verifies token as Verify does, and says which check refused it.
func (v *Verifier) Explain(ctx context.Context, token string) *Explanation {
	var t trace
	e := &Explanation{}
	e.Contact, e.Rejection = v.verify(ctx, token, new(ClaimSelection), &t)
	e.Checks = t.checks
	for i := len(e.Checks); i < stepCount; i++ {
		e.Skipped = append(e.Skipped, Step(i))
	}
	return e
}

// Policy returns what the verifier requires of claims.
func (v *Verifier) Policy() Policy { return v.policy }

// Algorithms returns the accepted algorithms. Every token must have one of them in its header.
func (v *Verifier) Algorithms() sigkey.Algorithms { return v.keys.algorithms() }

// Issuers returns the values of iss that v accepts, and the option that sets them. The list is empty if v accepts any value.
func (v *Verifier) Issuers() (issuers []string, option string) {
	keys := v.keys
	if t, changing := keys.(*transition); changing {
		keys = t.now
	}
	if j, fromURL := keys.(*JWKS); fromURL && j.settings.Issuer != "" {
		return []string{j.settings.Issuer}, "jwks discovery"
	}
	return v.policy.Issuers, "issuer"
}

// KeySet returns the key set from a URL that the verifier uses, or nil.
func (v *Verifier) KeySet() *JWKS { return keysFromURL(v.keys) }

func keysFromURL(keys Keys) *JWKS {
	switch keys := keys.(type) {
	case *JWKS:
		return keys
	case *transition:
		if j := keysFromURL(keys.now); j != nil {
			return j
		}
		return keysFromURL(keys.before)
	}
	return nil
}

// Signed reports whether an active key made the signature of text, whatever its claims say. It never waits.
func (v *Verifier) Signed(text string) bool {
	t := new(token)
	if t.parse(text) != nil || !v.keys.algorithms().Has(t.header.algorithm) {
		return false
	}
	keys, _, rej := v.keys.candidates(t.header)
	return rej == nil && t.signer(keys) != nil
}

// Confused looks for a wrong encoding of a secret of v with which text was signed; see [sigkey.Key.Confusion].
func (v *Verifier) Confused(text string) (c cause.Cause, encoding string) {
	t := new(token)
	if t.parse(text) != nil {
		return cause.None, ""
	}
	for _, k := range v.keys.active() {
		if c, encoding := k.Confusion(bytesOf(t.signed), t.signature); c != cause.None {
			return c, encoding
		}
	}
	return cause.None, ""
}

// Reveals reports whether value contains a part of a secret of v.
func (v *Verifier) Reveals(value string) bool {
	return slices.ContainsFunc(v.keys.active(), func(k *sigkey.Key) bool { return k.Reveals(value) })
}

// SignatureSizes returns the lengths in bytes of the signatures that active keys verify.
func (v *Verifier) SignatureSizes() (sizes []int) {
	for _, k := range v.keys.active() {
		sizes = append(sizes, k.SignatureSize())
	}
	return sizes
}

// Keys describes the keys that verify tokens right now.
func (v *Verifier) Keys() []sigkey.Info {
	var infos []sigkey.Info
	for _, k := range v.keys.active() {
		infos = append(infos, k.Info())
	}
	return infos
}

// A Summary is the number and expiry of the keys that verify tokens right now.
type Summary struct {
	Keys  int
	Until time.Time // when the last of them expires; zero if it does not expire
}

// Summary counts the keys that verify tokens right now.
func (v *Verifier) Summary() Summary {
	var s Summary
	unlimited := false
	for _, k := range v.keys.active() {
		s.Keys++
		unlimited = unlimited || k.End().IsZero()
		if k.End().After(s.Until) {
			s.Until = k.End()
		}
	}
	if unlimited {
		s.Until = time.Time{}
	}
	return s
}
