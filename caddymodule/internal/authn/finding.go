package authn

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

// find looks for the usual mistakes. It reads the token once more, from where the verifier stopped. The token may be unsigned then:
// what it says is advice, and no decision depends on it.
func (v *Verifier) find(ctx context.Context, text string, rej *Rejection, others map[string]*Verifier) []Finding {
	if rej.Code == TokenMalformed || rej.Code == TokenTooLarge {
		return findForm(text, v.policy.IdentityKey)
	}
	t := new(token)
	if t.parse(text) != nil {
		return nil
	}
	// The codes about claims come after the check of the payload, so that it is well-formed.
	var members map[string][]byte
	if payload, err := t.payload(); err == nil {
		members = make(map[string][]byte)
		_ = strictjson.Claims(payload, func(name, value []byte, _ bool) { members[string(name)] = value })
	}
	switch rej.Code {
	case AlgorithmNotAllowed:
		return append(v.findSigner(t, others), v.findAlgorithm(t)...)
	case KeyUnknown:
		return append(v.findSigner(t, others), v.findKID(t)...)
	case KeysUnavailable:
		return slices.Concat(v.findSigner(t, others), v.findFetch(), v.findKID(t))
	case SignatureInvalid:
		return append(v.findSigner(t, others), v.findSignature(t)...)
	case ClaimInvalid:
		if rej.Reason == reasonTokenID {
			return []Finding{{"The jti is neither a string nor an integer.", "Write it as a JSON string, or as an integer without fraction and exponent; or leave it out."}}
		}
		return v.findTimes(members, time.Now())
	case TokenExpired, TokenNotYetValid, TokenLifetimeTooLong:
		return v.findTimes(members, time.Now())
	case IssuerNotAllowed:
		return findValue("iss", members["iss"], v.policy.Issuers, "issuer")
	case AudienceNotAllowed:
		return findValue("aud", members["aud"], v.policy.Audiences, "audience")
	case ClaimMissing:
		return v.findRequired(members)
	case IdentityMissing:
		return v.findIdentity(members)
	}
	return nil
}

// findForm examines text that is not a token.
func findForm(text, identityKey string) []Finding {
	if findings := findEmpty(text); findings != nil {
		return findings
	}
	lower := strings.ToLower(text)
	switch {
	case strings.HasPrefix(lower, "authorization:"), strings.HasPrefix(lower, "bearer "), strings.HasPrefix(lower, "bearer:"):
		return []Finding{{"The text begins with a header's name or a scheme.", "Give the token alone: what follows \"Bearer \"."}}
	case strings.HasPrefix(text, sharedtoken.Prefix):
		return []Finding{{"This is a shared token, the secret itself, and not a token for a contact.", "Sign a token with it. A secret that was pasted into a browser or a request should be replaced."}}
	case strings.HasPrefix(text, "-----BEGIN"):
		return []Finding{{"This is a key, not a token.", "Sign a token with the private key, and give the token."}}
	case strings.HasPrefix(text, "{"):
		return []Finding{{"This is JSON: the claims, or another serialization.", "Sign the claims with a JWT library and give the compact form, three segments with dots between them."}}
	case strings.ContainsAny(text, " \t\r\n"):
		return []Finding{{"The token has white space in it: it was wrapped, or other text was pasted with it.", "Copy the token again, as one line."}}
	}
	segments := strings.Split(text, ".")
	if len(segments) < 3 {
		switch part := decodedObject(segments[0]); {
		case part == nil:
		case part["alg"] != nil && len(segments) == 1:
			return []Finding{{"The wrong part was pasted: this is the header alone.", "Copy the whole token: header, payload and signature."}}
		case part["alg"] != nil:
			return []Finding{{"The signature is missing: only header and payload were pasted.", "Copy the whole token, up to the end of the third segment."}}
		default:
			return []Finding{{"The wrong part was pasted: this is the payload without its header.", "Copy the whole token: header, payload and signature."}}
		}
		return []Finding{{"This is not a whole token: it has fewer than three segments.", "Copy it again, from the first to the last character."}}
	}
	if len(segments) > 3 || strings.Trim(text, base64Alphabet+".") != "" {
		return nil // the reason says what is there
	}
	if segments[2] == "" {
		return []Finding{{"The signature is missing: the token ends with its second dot.", "Copy the whole token. If the library left it out, it signed with the algorithm none: set it to this messenger's."}}
	}
	for i, name := range []string{"header", "payload", "signature"} {
		decoded, err := strictBase64.DecodeString(segments[i])
		if err != nil || i < 2 && !json.Valid(decoded) {
			return []Finding{{"A character of the " + name + " is missing, or there is one too many.", "Copy the token again, from the first to the last character."}}
		}
	}
	return nil
}

// decodedObject returns the members of the JSON object that segment encodes, or nil.
func decodedObject(segment string) map[string][]byte {
	text, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil {
		return nil
	}
	members, err := strictjson.Members(text)
	if err != nil {
		return nil
	}
	return members
}

// findSigner looks for another messenger whose key made the signature.
func (v *Verifier) findSigner(t *token, others map[string]*Verifier) []Finding {
	for _, name := range slices.Sorted(maps.Keys(others)) {
		other := others[name]
		if t.header.alg != other.keys.algorithm() {
			continue
		}
		if keys, _, rej := other.keys.candidates(t.header); rej == nil && t.signer(keys) != nil {
			return []Finding{{"The token is signed with the key of messenger " + name + ".", "Send it to that messenger, or sign with this one's key."}}
		}
	}
	return nil
}

func (v *Verifier) findAlgorithm(t *token) []Finding {
	wanted := v.keys.algorithm()
	if t.header.alg == "" {
		return []Finding{{"The header does not have an alg.", "Sign with " + wanted + "."}}
	}
	return []Finding{{fmt.Sprintf("The header says alg %q; this messenger's method uses %s.", t.header.alg, wanted), "Set the library's algorithm to " + wanted + ", and sign with this messenger's key."}}
}

// findFetch says why there are no keys.
func (v *Verifier) findFetch() []Finding {
	j, ok := v.keys.(*JWKS)
	if !ok {
		return nil
	}
	cause := "The key set has not been fetched yet."
	if err := j.Status().Err; err != nil {
		cause = fmt.Sprintf("The key set cannot be fetched: %s.", err)
	}
	return []Finding{{cause, "Make the URL answer with a key set. The gateway tries again by itself, and at once with caddy messenger refresh."}}
}

func (v *Verifier) findKID(t *token) []Finding {
	var kids []string
	for _, k := range v.keys.active() {
		if k.KeyID() != "" {
			kids = append(kids, k.KeyID())
		}
	}
	if len(kids) == 0 {
		return nil
	}
	if !t.header.hasKID {
		return []Finding{{"The token does not have a kid, and the messenger has more keys than are tried.", fmt.Sprintf("Sign with a kid; the messenger's keys have %q.", kids)}}
	}
	fix := "Sign with one of these keys and its kid, or give the messenger the new key."
	if _, ok := v.keys.(*JWKS); ok {
		fix = "Sign with one of these keys and its kid, or publish the new key at the messenger's URL."
	}
	return []Finding{{fmt.Sprintf("The token's kid is %q; the messenger's keys have %q.", t.header.kid, kids), fix}}
}

// findSignature compares the length of the signature, and tries the readings of a secret that people confuse.
func (v *Verifier) findSignature(t *token) []Finding {
	active := v.keys.active()
	for _, k := range active {
		if cause, fix, ok := k.Confusion(bytesOf(t.signed), t.signature); ok {
			return []Finding{{cause, fix}}
		}
		size := k.SignatureSize()
		switch {
		case len(t.signature) == size:
		case !k.IsAsymmetric():
			return []Finding{{fmt.Sprintf("The signature has %d bytes; %s makes %d.", len(t.signature), k.Algorithm(), size), "A character was lost or added at the end: copy the whole token again."}}
		case len(active) == 1:
			return []Finding{{fmt.Sprintf("The signature has %d bytes; this messenger's key makes signatures of %d.", len(t.signature), size), "If it was copied, copy the whole token again; otherwise the token was signed with another key."}}
		}
	}
	return []Finding{{"The token was signed with another key, or changed after it was signed.", "Check that the site signs with the key that belongs to this messenger, of this environment (test or production)."}}
}
