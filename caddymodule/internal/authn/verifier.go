package authn

import (
	"context"
	"slices"
	"sync/atomic"
	"time"
)

// A Verifier decides on tokens for one messenger. What it decides never changes; it is safe for concurrent use.
type Verifier struct {
	policy     Policy
	keys       Keys
	generation uint64 // no other verifier of this process has it
}

var generations atomic.Uint64

// NewVerifier returns a verifier that trusts keys and applies policy.
func NewVerifier(policy Policy, keys Keys) *Verifier {
	policy.audiences, policy.required = newTextSet(policy.Audiences), newTextSet(policy.RequiredClaims)
	return &Verifier{policy: policy, keys: keys, generation: generations.Add(1)}
}

// Active returns the IDs of the keys that verify tokens right now.
func (v *Verifier) Active() map[string]bool {
	ids := make(map[string]bool)
	for _, k := range v.keys.active() {
		ids[k.ID()] = true
	}
	return ids
}

// Verify returns the contact that text proves, with the claims that want names, or the reason why it proves none.
// It waits only where keys come from a URL and none of them fits; ctx ends that waiting.
func (v *Verifier) Verify(ctx context.Context, text string, want []string) (*Contact, *Rejection) {
	return v.verify(ctx, text, want, nil)
}

// verify is the one way from a text to a contact. Every check notes its outcome in t, which may be nil.
func (v *Verifier) verify(ctx context.Context, text string, want []string, t *Trace) (*Contact, *Rejection) {
	tok := tokens.Get().(*token)
	defer tok.release()
	rej := tok.parse(text)
	if t.note(CheckForm, rej); rej != nil {
		return nil, rej
	}
	rej = v.checkAlgorithm(tok)
	if t.note(CheckAlgorithm, rej); rej != nil {
		return nil, rej
	}
	key, version, rej := v.checkSignature(ctx, tok)
	if t.noteSignature(rej); rej != nil {
		return nil, rej
	}
	tok.noteSigned()
	var cl claims
	rej = cl.parse(tok, &v.policy, want)
	if t.note(CheckPayload, rej); rej != nil {
		return nil, rej
	}
	now := time.Now()
	rej = cl.checkTimes(&v.policy, now)
	if t.note(CheckTimes, rej); rej != nil {
		return nil, rej
	}
	rej = cl.checkIssuer(&v.policy)
	if t.note(CheckIssuer, rej); rej != nil {
		return nil, rej
	}
	rej = cl.checkAudience(&v.policy)
	if t.note(CheckAudience, rej); rej != nil {
		return nil, rej
	}
	rej = cl.checkRequired(&v.policy)
	if t.note(CheckRequired, rej); rej != nil {
		return nil, rej
	}
	identity, rej := cl.contactIdentity()
	if t.note(CheckIdentity, rej); rej != nil {
		return nil, rej
	}
	contact := &Contact{Identity: identity, Claims: cl.texts(), Issued: cl.issued, Expires: cl.expires, SignedBy: key, version: version}
	contact.since, contact.Until = cl.window(&v.policy)
	if !key.end.IsZero() && (contact.Until.IsZero() || key.end.Before(contact.Until)) {
		contact.Until = key.end
	}
	if contact.TokenID, rej = cl.tokenID(); rej == nil {
		rej = v.policy.Revoked.check(contact)
	}
	if t.note(CheckRevocation, rej); rej != nil {
		return nil, rej
	}
	return contact, nil
}

// checkAlgorithm compares, and never chooses: RFC 8725 section 3.1, the defence against algorithm confusion.
func (v *Verifier) checkAlgorithm(t *token) *Rejection {
	if t.header.alg != v.keys.algorithm() {
		return reject(AlgorithmNotAllowed, "the header's alg is not the one of this messenger's method")
	}
	return nil
}

// checkSignature finds the key and checks the signature. If no key fits, it asks once for newer keys.
func (v *Verifier) checkSignature(ctx context.Context, t *token) (*Key, uint64, *Rejection) {
	keys, version, rej := v.keys.candidates(t.header)
	if rej == nil {
		if key := t.signer(keys); key != nil {
			return key, version, nil
		}
		rej = rejectSignature()
	}
	switch v.keys.renew(ctx, t.header, version) {
	case renewed:
		newer, version, rej := v.keys.candidates(t.header)
		if rej != nil {
			return nil, 0, rej
		}
		if key := t.signer(untried(newer, keys)); key != nil {
			return key, version, nil
		}
		return nil, 0, rejectSignature()
	case renewalFailed:
		if rej.Code == KeyUnknown {
			rej = reject(KeysUnavailable, "no active key has the token's kid, and the key set cannot be fetched to look for a newer one")
		}
	}
	return nil, 0, rej
}

func rejectSignature() *Rejection {
	return reject(SignatureInvalid, "no active key made this signature over this text")
}

// untried returns those of keys that are not among tried, as many as one token may cost beside these.
func untried(keys, tried []*Key) []*Key {
	var rest []*Key
	for _, k := range keys {
		if !slices.ContainsFunc(tried, k.Same) {
			rest = append(rest, k)
		}
	}
	if len(rest) > 0 && rest[0].isAsymmetric() {
		rest = rest[:min(len(rest), max(0, maxCandidates-len(tried)))]
	}
	return rest
}

// signer returns the one of keys that made the signature of t, or nil.
func (t *token) signer(keys []*Key) *Key {
	signed := bytesOf(t.signed)
	for _, k := range keys {
		if k.verify(signed, t.signature) {
			return k
		}
	}
	return nil
}
