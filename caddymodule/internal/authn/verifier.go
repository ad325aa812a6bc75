package authn

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// A Verifier decides on tokens for one messenger. Its policy and its keys are fixed: a messenger whose settings change gets a new
// verifier. It is safe for concurrent use.
type Verifier struct {
	policy     Policy
	keys       Keys
	generation uint64 // unique in this process; it tells a cache which verifier made an entry
}

var generations atomic.Uint64

// NewVerifier returns a verifier that trusts keys and applies policy.
func NewVerifier(policy Policy, keys Keys) *Verifier {
	policy.audiences, policy.required = newTextSet(policy.Audiences), newTextSet(policy.RequiredClaims)
	policy.information = newInformation(policy.ContactClaims)
	policy.identityMember = policy.IdentityKey
	if len(policy.IdentityPath) > 0 {
		policy.identityMember = policy.IdentityPath[0]
	}
	return &Verifier{policy: policy, keys: keys, generation: generations.Add(1)}
}

// SharesKeys reports whether v and other have a key in common; see shareKeys.
func (v *Verifier) SharesKeys(other *Verifier) bool { return shareKeys(v.keys, other.keys) }

// Active returns the IDs of the keys that verify tokens right now.
func (v *Verifier) Active() map[string]bool {
	ids := make(map[string]bool)
	for _, k := range v.keys.active() {
		ids[k.ID()] = true
	}
	return ids
}

// Verify returns the contact that a token proves, or the reason for which it is refused.
//
//   - token is its text as it was received. The verifier parses it itself and takes nothing else of the request: the decision
//     depends on the token, the messenger and the clock alone.
//   - ctx is for the one case in which a verification waits: keys come from a URL, and no known key fits the token. Its end
//     cancels the waiting, and not the fetch, which other requests share.
//
// Requests are verified by [Cache.Verify], which has more parameters, and says why.
func (v *Verifier) Verify(ctx context.Context, token string) (*Contact, *Rejection) {
	return v.VerifySelected(ctx, token, new(ClaimSelection))
}

// VerifySelected is Verify for a contact with the claims of a selection.
func (v *Verifier) VerifySelected(ctx context.Context, token string, selection *ClaimSelection) (*Contact, *Rejection) {
	return v.verify(ctx, token, selection, nil)
}

// verify is the one way from a text to a contact. The order of the checks is a rule: nothing in the payload is read before the
// signature is valid, and the revocations, which name contacts and tokens, come last, when both are known. Every check is
// recorded in t, which may be nil.
func (v *Verifier) verify(ctx context.Context, text string, selection *ClaimSelection, t *trace) (*Contact, *Rejection) {
	tok := tokens.Get().(*token)
	defer tok.release()
	rej := tok.parse(text)
	if rej == nil && !v.policy.Revoked.Unknown() { // the type is a setting that may have changed: see checkAlgorithm
		rej = tok.header.checkType(v.policy.TokenType)
	}
	if t.record(CheckForm, rej) {
		return nil, rej
	}
	if rej := v.checkAlgorithm(tok); t.record(CheckAlgorithm, rej) {
		return nil, rej
	}
	key, version, rej := v.checkSignature(ctx, tok)
	if t.recordSignature(rej) {
		return nil, rej
	}
	tok.rememberSigned()
	var cl claims
	if rej := cl.parse(tok, &v.policy, selection); t.record(CheckPayload, rej) {
		return nil, rej
	}
	if rej := cl.checkTimes(&v.policy, time.Now()); t.record(CheckTimes, rej) {
		return nil, rej
	}
	if rej := cl.checkIssuer(&v.policy, key.Issuer()); t.record(CheckIssuer, rej) {
		return nil, rej
	}
	if rej := cl.checkAudience(&v.policy); t.record(CheckAudience, rej) {
		return nil, rej
	}
	if rej := cl.checkRequired(&v.policy); t.record(CheckRequired, rej) {
		return nil, rej
	}
	identity, rej := cl.contactIdentity()
	if t.record(CheckIdentity, rej) {
		return nil, rej
	}
	contact := &Contact{Identity: identity, Claims: cl.texts(), Information: v.policy.information.text(&cl), Issued: cl.issued, Expires: cl.expires, SignedBy: key, version: version}
	contact.since, contact.Until = cl.window(&v.policy)
	if !key.End().IsZero() && (contact.Until.IsZero() || key.End().Before(contact.Until)) {
		contact.Until = key.End()
	}
	if contact.TokenID, rej = cl.tokenID(); rej == nil {
		rej = v.policy.Revoked.check(contact)
	}
	if t.record(CheckRevocation, rej) {
		return nil, rej
	}
	return contact, nil
}

// checkAlgorithm compares, and never chooses: RFC 8725 section 3.1, the defence against algorithm confusion.
//
// It is the first check that depends on the messenger. While the store cannot be read, another node may
// have added a key, an algorithm or another setting that this node does not know. Then the token cannot be decided, and must not be
// refused for what this node knew before.
func (v *Verifier) checkAlgorithm(t *token) *Rejection {
	if v.policy.Revoked.Unknown() {
		return rejectUnknown()
	}
	if !v.keys.algorithms().Has(t.header.algorithm) {
		return reject(AlgorithmNotAllowed, "the header's alg is not one of this messenger's keys")
	}
	return nil
}

// checkSignature finds the key and checks the signature. If no key fits, it asks once for newer keys: a site may sign with a key
// that it has just published.
func (v *Verifier) checkSignature(ctx context.Context, t *token) (*sigkey.Key, uint64, *Rejection) {
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
	case undecidable:
		return nil, 0, reject(KeysUnavailable, "no active key made this signature, and the keys of one of the messenger's two methods are not known right now")
	case renewalFailed:
		// A key that we do not know may exist: "unknown key" would blame the token for what we cannot decide.
		if rej.Code == KeyUnknown {
			rej = reject(KeysUnavailable, "no active key has the token's kid, and the key set cannot be fetched to look for a newer one")
		}
	}
	return nil, 0, rej
}

func rejectSignature() *Rejection {
	return reject(SignatureInvalid, "no active key made this signature over this text")
}

// untried returns the keys that are not among tried, as many as the limit for one token leaves after these.
func untried(keys, tried []*sigkey.Key) []*sigkey.Key {
	var rest []*sigkey.Key
	for _, k := range keys {
		if !slices.ContainsFunc(tried, k.Same) {
			rest = append(rest, k)
		}
	}
	if len(rest) > 0 && rest[0].IsAsymmetric() {
		rest = rest[:min(len(rest), max(0, maxCandidates-len(tried)))]
	}
	return rest
}

// signer returns the key that made the signature of t, or nil.
func (t *token) signer(keys []*sigkey.Key) *sigkey.Key {
	signed := bytesOf(t.signed)
	for _, k := range keys {
		if k.Verify(signed, t.signature) {
			return k
		}
	}
	return nil
}
