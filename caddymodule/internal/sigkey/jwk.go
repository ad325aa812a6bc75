package sigkey

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lestrrat-go/jwx/v2/jwk"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

// privateMembers are the members of a JWK (RFC 7518 sections 6.2.2, 6.3.2 and 6.4.1) that a published key must not have.
var privateMembers = []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"}

// keyMembers are the members that are the public key itself (RFC 7518 sections 6.2.1 and 6.3.1, RFC 8037 section 2).
var keyMembers = map[string][]string{"RSA": {"n", "e"}, "EC": {"crv", "x", "y"}, "OKP": {"crv", "x"}}

// parseJWK reads one JWK (RFC 7517 section 4) as a verification key for one of the accepted algorithms. It refuses a key that its
// owner did not publish for this purpose. An error continues a sentence that begins with "is a JWK that", and quotes nothing.
func parseJWK(text []byte, accepted Algorithms) (*Key, error) {
	members, err := strictjson.Members(text)
	if err != nil {
		return nil, err
	}
	dropAbsent(members)
	kty, err := checkPurpose(members)
	if err != nil {
		return nil, err
	}
	if members["x5c"] != nil && !slices.ContainsFunc(keyMembers[kty], func(name string) bool { return members[name] != nil }) {
		return nil, cause.ServerCertificateOnly.Err()
	}
	kid := ""
	if value, found := members["kid"]; found {
		var ok bool
		if kid, ok = strictjson.String(value); !ok {
			return nil, errors.New("has a kid that is not a string")
		}
	}
	var own *string
	if value, found := members["alg"]; found {
		name, _ := strictjson.String(value) // "" names no algorithm
		own = &name
	}
	public, err := readPublic(kty, members)
	if err != nil {
		return nil, err
	}
	return newPublicKey(public, kid, own, 0, accepted)
}

// readPublic returns the key itself as crypto/x509 would.
func readPublic(kty string, members map[string][]byte) (any, error) {
	if kty == "RSA" {
		if err := checkExponent(members["e"]); err != nil {
			return nil, err
		}
	}
	var public any
	switch curve, _ := strictjson.String(members["crv"]); {
	case kty == "RSA":
		public = new(rsa.PublicKey)
	case kty == "EC" && slices.Contains([]string{"P-256", "P-384", "P-521"}, curve):
		public = new(ecdsa.PublicKey)
	case kty == "OKP" && curve == "Ed25519":
		public = new(ed25519.PublicKey)
	default:
		return nil, errors.New("is an elliptic curve key with a crv other than P-256, P-384, P-521 and Ed25519")
	}
	parsed, err := jwk.ParseKey(minimalJWK(kty, members))
	if err == nil {
		err = parsed.Raw(public)
	}
	if err != nil {
		return nil, fmt.Errorf("has an %s that is missing or not base64url", strings.Join(keyMembers[kty], " or "))
	}
	if key, ok := public.(*ed25519.PublicKey); ok {
		return *key, nil
	}
	return public, nil
}

// parseJSONKey reads a JWK, or a JWK Set with one usable key.
func parseJSONKey(text []byte, kid string, accepted Algorithms) (k *Key, err error) {
	members, err := strictjson.Members(text)
	switch {
	case err == nil && members["keys"] != nil && !strictjson.IsNull(members["keys"]):
		if k, err = parseOnlyKey(members, accepted); err != nil {
			return nil, fmt.Errorf("is a JWK Set %w", err)
		}
	case err == nil && members["kty"] == nil && members["jwks_uri"] != nil:
		return nil, errors.New("is a discovery document; write jwks with the URL that it has in jwks_uri")
	default:
		if k, err = parseJWK(text, accepted); err != nil {
			return nil, fmt.Errorf("is a JWK that %w", err)
		}
	}
	if kid != "" {
		k.kid = kid
	}
	return k, nil
}

// dropAbsent removes the members that say nothing: null, and the empty lists that .NET writes for lists that a key does not have.
func dropAbsent(members map[string][]byte) {
	for name, value := range members {
		if strictjson.IsNull(value) || slices.Contains(listMembers, name) && isEmptyList(value) {
			delete(members, name)
		}
	}
}

// listMembers are the members of a JWK that are lists (RFC 7517 sections 4.3 and 4.7, RFC 7518 section 6.3.2.7).
var listMembers = []string{"key_ops", "x5c", "oth"}

func isEmptyList(value []byte) bool {
	return value[0] == '[' && len(bytes.TrimSpace(value[1:len(value)-1])) == 0
}

// minimalJWK returns only the members that are the key itself. The library parses others too, such as x5c, and we do not rely on
// what it makes of them.
func minimalJWK(kty string, members map[string][]byte) []byte {
	minimal := make(map[string]json.RawMessage)
	for _, name := range append([]string{"kty"}, keyMembers[kty]...) {
		if value, found := members[name]; found {
			minimal[name] = value
		}
	}
	text, _ := json.Marshal(minimal) // strictjson has checked the members
	return text
}

var (
	errSecretJWK  = errors.New("is a symmetric key, which must not be published")
	errPrivateJWK = errors.New("is a private key; give only its public part")
)

// checkPurpose returns the type of a key that was published for verifying signatures.
func checkPurpose(members map[string][]byte) (kty string, err error) {
	if members["keys"] != nil {
		return "", errors.New("is a JWK Set")
	}
	kty, _ = strictjson.String(members["kty"])
	if kty == "oct" {
		return "", errSecretJWK
	}
	for _, name := range privateMembers {
		if members[name] != nil {
			return "", errPrivateJWK
		}
	}
	switch {
	case kty == "":
		return "", errors.New("has no kty")
	case keyMembers[kty] == nil:
		return "", errors.New("has an unknown kty; RSA, EC and OKP keys can be used")
	}
	if value, found := members["use"]; found {
		if use, _ := strictjson.String(value); use != "sig" {
			return "", errors.New("has a use other than sig")
		}
	}
	if value, found := members["key_ops"]; found {
		var ops []string
		if json.Unmarshal(value, &ops) != nil || !slices.Contains(ops, "verify") {
			return "", errors.New("has key_ops without verify")
		}
	}
	return kty, nil
}

// checkExponent refuses exponents that the library would cut to the size of an int: it reads 2^64 + 65537 as 65537.
func checkExponent(value []byte) error {
	text, ok := strictjson.String(value)
	if !ok {
		return errors.New("has no e")
	}
	e, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return errors.New("has an e that is not base64url")
	}
	if e = bytes.TrimLeft(e, "\x00"); len(e) > 4 {
		return errors.New("has an exponent of more than 32 bits")
	}
	return nil
}
