package authn

import (
	"strings"
	"testing"
)

func TestJWKsThatAreRefusedAreNamed(t *testing.T) {
	good := jwkText(&privateKey().PublicKey, "")
	_, n, _ := strings.Cut(good, `"n":"`)
	n, _, _ = strings.Cut(n, `"`)
	withE := func(e string) string { return `{"kty":"RSA","n":"` + n + `","e":` + e + `}` }
	with := func(more string) string { return jwkText(&privateKey().PublicKey, more) }
	for _, tt := range []struct{ name, text, want string }{
		{"a JWK Set", `{"keys":[` + good + `]}`, "is a JWK Set"},
		{"a key that calls itself a set too", with(`,"keys":null`), "is a JWK Set"},
		{"a symmetric key", `{"kty":"oct","k":"` + testSecret + `"}`, "symmetric key"},
		{"an elliptic curve key", `{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}`, "elliptic curve"},
		{"an Ed25519 key", `{"kty":"OKP","crv":"Ed25519","x":"AA"}`, "elliptic curve"},
		{"no kty", `{"n":"AA","e":"AQAB"}`, "has no kty"},
		{"an unknown kty", `{"kty":"PQC"}`, "unknown kty"},
		{"a kty in another case", `{"kty":"rsa"}`, "unknown kty"},
		{"a private exponent", with(`,"d":"AA"`), "is a private key"},
		{"a private exponent that is null", with(`,"d":null`), "is a private key"},
		{"a private exponent whose name is escaped", with(`,"\u0064":"AA"`), "is a private key"},
		{"a prime", with(`,"p":"AA"`), "is a private key"},
		{"further primes", with(`,"oth":[]`), "is a private key"},
		{"a secret beside", with(`,"k":"AA"`), "is a private key"},
		{"use enc", with(`,"use":"enc"`), "use other than sig"},
		{"use null", with(`,"use":null`), "use other than sig"},
		{"alg RS512", with(`,"alg":"RS512"`), "alg other than RS256"},
		{"alg HS256", with(`,"alg":"HS256"`), "alg other than RS256"},
		{"alg RSA-OAEP", with(`,"alg":"RSA-OAEP"`), "alg other than RS256"},
		{"key_ops without verify", with(`,"key_ops":["encrypt"]`), "key_ops without verify"},
		{"empty key_ops", with(`,"key_ops":[]`), "key_ops without verify"},
		{"key_ops that are no array", with(`,"key_ops":"verify"`), "key_ops without verify"},
		{"a kid that is a number", with(`,"kid":1`), "kid that is not a string"},
		{"no e", `{"kty":"RSA","n":"` + n + `"}`, "has no e"},
		{"an e that is a number", withE(`65537`), "has no e"},
		{"an e that is no base64", withE(`"!"`), "e that is not base64url"},
		{"an empty e", withE(`""`), "unsound exponent"},
		{"an e of 2^64+65537, which the library would cut to 65537", withE(`"AQAAAAAAAQAB"`), "exponent of more than 32 bits"},
		{"an e of 1", withE(`"AQ"`), "unsound exponent"},
		{"an even e", withE(`"AQAA"`), "unsound exponent"},
		{"an e over 2^31-1", withE(`"gAAAAQ"`), "unsound exponent"},
		{"no n", `{"kty":"RSA","e":"AQAB"}`, "n or e that is missing"},
		{"an n that is a number", `{"kty":"RSA","n":1,"e":"AQAB"}`, "n or e that is missing"},
		{"an n that is no base64", `{"kty":"RSA","n":"!!","e":"AQAB"}`, "n or e that is missing"},
		{"an n of 64 bits", `{"kty":"RSA","n":"__________8","e":"AQAB"}`, "64 bits; 2048 to 8192"},
		{"two n", with(`,"n":"AA"`), "two members of the same name"},
		{"two n, once escaped", with(`,"\u006e":"AA"`), "two members of the same name"},
		{"text behind", good + "x", "something behind"},
		{"an open object", good[:len(good)-1], "ends too early"},
		{"bytes that are no UTF-8", with(",\"kid\":\"\xff\""), "UTF-8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParsePublicKey([]byte(tt.text), "")
			wantError(t, err, "the JWK ", tt.want)
			if strings.Contains(err.Error(), n[:16]) || strings.Contains(err.Error(), testSecret[:8]) {
				t.Errorf("the error quotes the key: %v", err)
			}
		})
	}
	for name, text := range map[string]string{
		"an e with zeros in front": withE(`"AAEAAQ"`),
		"an e with padding":        withE(`"Aw=="`),
	} {
		if key, err := ParsePublicKey([]byte(text), ""); err != nil {
			t.Errorf("%s: got %v %v", name, key, err)
		}
	}
}
