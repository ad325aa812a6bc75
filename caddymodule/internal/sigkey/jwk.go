package sigkey

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/lestrrat-go/jwx/v2/jwk"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/cause"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/strictjson"
)

// privateMembers are the members of a JWK (RFC 7518 sections 6.3.2 and 6.4.1) that a published key must not have.
var privateMembers = []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"}

// parseJWK reads one JWK (RFC 7517 section 4) as an RS256 verification key. It refuses a key that its owner did not publish for
// this purpose. An error continues a sentence that begins with "the JWK", and quotes nothing.
func parseJWK(text []byte) (*Key, error) {
	members, err := strictjson.Members(text)
	if err != nil {
		return nil, err
	}
	dropAbsent(members)
	if err := checkPurpose(members); err != nil {
		return nil, err
	}
	if members["x5c"] != nil && members["n"] == nil && members["e"] == nil {
		return nil, cause.ServerCertificateOnly.Err()
	}
	if err := checkExponent(members["e"]); err != nil {
		return nil, err
	}
	kid := ""
	if value, found := members["kid"]; found {
		var ok bool
		if kid, ok = strictjson.String(value); !ok {
			return nil, errors.New("has a kid that is not a string")
		}
	}
	var public rsa.PublicKey
	parsed, err := jwk.ParseKey(minimalJWK(members))
	if err == nil {
		err = parsed.Raw(&public)
	}
	if err != nil {
		return nil, errors.New("has an n or e that is missing or not base64url")
	}
	return newPublicKey(&public, kid)
}

// parseJSONKey reads a JWK, or a JWK Set with one usable key.
func parseJSONKey(text []byte, kid string) (k *Key, err error) {
	members, err := strictjson.Members(text)
	switch {
	case err == nil && members["keys"] != nil && !strictjson.IsNull(members["keys"]):
		if k, err = parseOnlyKey(members); err != nil {
			return nil, fmt.Errorf("is a JWK Set %w", err)
		}
	case err == nil && members["kty"] == nil && members["jwks_uri"] != nil:
		return nil, errors.New("is a discovery document; write jwks with the URL that it has in jwks_uri")
	default:
		if k, err = parseJWK(text); err != nil {
			return nil, fmt.Errorf("the JWK %w", err)
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
func minimalJWK(members map[string][]byte) []byte {
	var b bytes.Buffer
	b.WriteString(`{"kty":"RSA"`)
	for _, name := range []string{"n", "e"} {
		if value, found := members[name]; found {
			b.WriteString(`,"` + name + `":`)
			b.Write(value)
		}
	}
	b.WriteByte('}')
	return b.Bytes()
}

var (
	errSecretJWK  = errors.New("is a symmetric key, which must not be published")
	errPrivateJWK = errors.New("is a private key; give only its public part (kty, n, e, kid)")
)

func checkPurpose(members map[string][]byte) error {
	if members["keys"] != nil {
		return errors.New("is a JWK Set")
	}
	kty, _ := strictjson.String(members["kty"])
	if kty == "oct" {
		return errSecretJWK
	}
	for _, name := range privateMembers {
		if members[name] != nil {
			return errPrivateJWK
		}
	}
	switch kty {
	case "RSA":
	case "EC", "OKP":
		return errors.New("is an elliptic curve key; RS256 needs an RSA key")
	case "":
		return errors.New("has no kty")
	default:
		return errors.New("has an unknown kty; RS256 needs an RSA key")
	}
	if value, found := members["use"]; found {
		if use, _ := strictjson.String(value); use != "sig" {
			return errors.New("has a use other than sig")
		}
	}
	if value, found := members["alg"]; found {
		if alg, _ := strictjson.String(value); alg != "RS256" {
			return errors.New("has an alg other than RS256")
		}
	}
	if value, found := members["key_ops"]; found {
		var ops []string
		if json.Unmarshal(value, &ops) != nil || !slices.Contains(ops, "verify") {
			return errors.New("has key_ops without verify")
		}
	}
	return nil
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

// Published returns the JWK Set (RFC 7517 section 5) of public keys, for their owner to publish. The kid of a key without one is
// its thumbprint (RFC 7638), which is never that of another key.
func Published(keys ...*Key) ([]byte, error) {
	type member struct {
		KeyType   string `json:"kty"`
		KeyID     string `json:"kid"`
		Use       string `json:"use"`
		Algorithm string `json:"alg"`
		Modulus   string `json:"n"`
		Exponent  string `json:"e"`
	}
	var set struct {
		Keys []member `json:"keys"`
	}
	kids := make(map[string]bool)
	for _, k := range keys {
		public, ok := k.material.(*rsa.PublicKey)
		if !ok {
			return nil, errors.New("a shared token is a secret, and must not be published")
		}
		m := member{"RSA", k.kid, "sig", k.alg.String(),
			base64.RawURLEncoding.EncodeToString(public.N.Bytes()),
			base64.RawURLEncoding.EncodeToString(big.NewInt(int64(public.E)).Bytes())}
		if m.KeyID == "" {
			sum := sha256.Sum256([]byte(`{"e":"` + m.Exponent + `","kty":"RSA","n":"` + m.Modulus + `"}`))
			m.KeyID = base64.RawURLEncoding.EncodeToString(sum[:])
		}
		if kids[m.KeyID] {
			return nil, errors.New("two keys have the same kid; give each key a kid of its own")
		}
		kids[m.KeyID] = true
		set.Keys = append(set.Keys, m)
	}
	return json.MarshalIndent(set, "", "  ")
}
