package sigkey

import (
	"strings"
	"testing"
)

func TestRefusedJWKsHaveACause(t *testing.T) {
	valid := jwkText(&privateKey().PublicKey, "")
	_, n, _ := strings.Cut(valid, `"n":"`)
	n, _, _ = strings.Cut(n, `"`)
	withE := func(e string) string { return `{"kty":"RSA","n":"` + n + `","e":` + e + `}` }
	with := func(more string) string { return jwkText(&privateKey().PublicKey, more) }
	for _, tt := range []struct{ name, text, want string }{
		{"a symmetric key", `{"kty":"oct","k":"` + testSecret + `"}`, "symmetric key"},
		{"an elliptic curve key", `{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}`, "elliptic curve"},
		{"an Ed25519 key", `{"kty":"OKP","crv":"Ed25519","x":"AA"}`, "elliptic curve"},
		{"no kty", `{"n":"AA","e":"AQAB"}`, "has no kty"},
		{"an unknown kty", `{"kty":"PQC"}`, "unknown kty"},
		{"a kty in another case", `{"kty":"rsa"}`, "unknown kty"},
		{"a private exponent", with(`,"d":"AA"`), "is a private key"},
		{"a private exponent that is an empty list", with(`,"d":[]`), "is a private key"},
		{"a private exponent that is an empty text", with(`,"d":""`), "is a private key"},
		{"a private exponent whose name is escaped", with(`,"\u0064":"AA"`), "is a private key"},
		{"a prime", with(`,"p":"AA"`), "is a private key"},
		{"further primes", with(`,"oth":[{}]`), "is a private key"},
		{"a private elliptic curve key", `{"kty":"EC","crv":"P-256","x":"AA","y":"AA","d":"AA"}`, "is a private key"},
		{"a secret beside", with(`,"k":"AA"`), "is a private key"},
		{"use enc", with(`,"use":"enc"`), "use other than sig"},
		{"a use that is an empty list", with(`,"use":[]`), "use other than sig"},
		{"an alg that is empty", with(`,"alg":""`), "alg other than RS256"},
		{"alg RS512", with(`,"alg":"RS512"`), "has the alg RS512, and only RS256 is accepted; if your site signs with RS512, name it with the key: alg RS512"},
		{"alg HS256", with(`,"alg":"HS256"`), "alg other than RS256"},
		{"alg RSA-OAEP", with(`,"alg":"RSA-OAEP"`), "alg other than RS256"},
		{"key_ops without verify", with(`,"key_ops":["encrypt"]`), "key_ops without verify"},
		{"key_ops that are an empty object", with(`,"key_ops":{}`), "key_ops without verify"},
		{"key_ops of null", with(`,"key_ops":[null]`), "key_ops without verify"},
		{"key_ops that are not an array", with(`,"key_ops":"verify"`), "key_ops without verify"},
		{"a kid that is a number", with(`,"kid":1`), "kid that is not a string"},
		{"a kty that is null", `{"kty":null,"n":"` + n + `","e":"AQAB"}`, "has no kty"},
		{"no e", `{"kty":"RSA","n":"` + n + `"}`, "has no e"},
		{"an e that is null", withE(`null`), "has no e"},
		{"an n that is null", `{"kty":"RSA","n":null,"e":"AQAB"}`, "n or e that is missing"},
		{"an e that is a number", withE(`65537`), "has no e"},
		{"an e that is not base64", withE(`"!"`), "e that is not base64url"},
		{"an empty e", withE(`""`), "unsound exponent"},
		{"an e of 2^64+65537, which the library would cut to 65537", withE(`"AQAAAAAAAQAB"`), "exponent of more than 32 bits"},
		{"an e of 1", withE(`"AQ"`), "unsound exponent"},
		{"an even e", withE(`"AQAA"`), "unsound exponent"},
		{"an e over 2^31-1", withE(`"gAAAAQ"`), "unsound exponent"},
		{"no n", `{"kty":"RSA","e":"AQAB"}`, "n or e that is missing"},
		{"an n that is a number", `{"kty":"RSA","n":1,"e":"AQAB"}`, "n or e that is missing"},
		{"an n that is not base64", `{"kty":"RSA","n":"!!","e":"AQAB"}`, "n or e that is missing"},
		{"an n of 64 bits", `{"kty":"RSA","n":"__________8","e":"AQAB"}`, "64 bits; 2048 to 8192"},
		{"two n", with(`,"n":"AA"`), "two members of the same name"},
		{"two n, once escaped", with(`,"\u006e":"AA"`), "two members of the same name"},
		{"text after it", valid + "x", "text after"},
		{"an open object", valid[:len(valid)-1], "ends too early"},
		{"bytes that are not UTF-8", with(",\"kid\":\"\xff\""), "UTF-8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParsePublic([]byte(tt.text), "", rs256)
			wantError(t, err, "is a JWK that ", tt.want)
			if strings.Contains(err.Error(), n[:16]) || strings.Contains(err.Error(), testSecret[:8]) {
				t.Errorf("the error quotes the key: %v", err)
			}
		})
	}
	for name, text := range map[string]string{
		"an e with zeros in front": withE(`"AAEAAQ"`),
		"an e with padding":        withE(`"Aw=="`),

		// .NET writes a member for everything that a key could have.
		"empty lists": with(`,"key_ops":[],"oth":[ ],"x5c":[]`),
		"null":        with(`,"use":null,"alg":null,"kid":null,"key_ops":null,"d":null,"p":null,"q":null,"dp":null,"dq":null,"qi":null,"oth":null,"k":null,"keys":null,"x5c":null,"x5t":null,"x5u":null`),
	} {
		if key, err := ParsePublic([]byte(text), "", rs256); err != nil {
			t.Errorf("%s: got %v %v", name, key, err)
		}
	}
}

// A set that is given in place of a key names one key, or none.
func TestKeySetAsPublicKeyHasExactlyOneUsableKey(t *testing.T) {
	valid := jwkText(&privateKey().PublicKey, `,"kid":"2026"`)
	encryption := jwkText(&privateKey().PublicKey, `,"kid":"enc","use":"enc"`)
	key, err := ParsePublic([]byte(`{"keys":[`+encryption+`,`+valid+`,{"kty":"EC"},7]}`), "", rs256)
	if err != nil || key.kid != "2026" {
		t.Fatalf("one usable key: got %v %v", key, err)
	}
	if named, err := ParsePublic([]byte(`{"keys":[`+valid+`]}`), "mine", rs256); err != nil || named.kid != "mine" {
		t.Errorf("with a kid: got %v %v", named, err)
	}
	for _, tt := range []struct{ name, text, want string }{
		{"two usable keys", `{"keys":[` + valid + `,` + rfc7638 + `]}`, "more than one key that can be used"},
		{"the same key twice", `{"keys":[` + valid + `,` + valid + `]}`, "more than one key that can be used"},
		{"no key", `{"keys":[]}`, "has no entry"},
		{"no usable key", `{"keys":[` + encryption + `]}`, "use other than sig"},
		{"a private key beside it", `{"keys":[` + valid + `,{"kty":"RSA","d":"AA"}]}`, "is a private key"},
		{"a private key of a type that is not used", `{"keys":[` + valid + `,{"kty":"OKP","d":"AA"}]}`, "is a private key"},
		{"a secret beside it", `{"keys":[{"kty":"oct","k":"AA"},` + valid + `]}`, "symmetric key"},
		{"an object of keys", `{"keys":{"a":` + valid + `}}`, "not a list"},
		{"a set that is a key as well", jwkText(&privateKey().PublicKey, `,"keys":[]`), "and a JWK at once"},
		{"a set in a set", `{"keys":[{"keys":[` + valid + `]}]}`, "without a key that can be used"},
		{"a list twice", `{"keys":[` + valid + `],"keys":[` + valid + `]}`, "two members of the same name"},
		{"too many entries", `{"keys":[` + valid + strings.Repeat(`,7`, maxKeySetEntries) + `]}`, "too many"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParsePublic([]byte(tt.text), "", rs256)
			wantError(t, err, tt.want)
		})
	}
}

// rfc7638 is the key of RFC 7638 section 3.1, whose thumbprint is given there.
const rfc7638 = `{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB"}`

// A set that the tools make is one that the gateway takes, with the same keys, each under a kid of its own.
func TestPublishedSetIsReadBack(t *testing.T) {
	bare, err := ParsePublic([]byte(rfc7638), "", rs256)
	if err != nil {
		t.Fatal(err)
	}
	named, err := ParsePublic([]byte(pkixText(t, &privateKey().PublicKey)), "2026", rs256)
	if err != nil {
		t.Fatal(err)
	}
	text, err := Published(bare, named)
	if err != nil {
		t.Fatal(err)
	}
	set, omitted, err := ParseSet(text, rs256, false)
	if err != nil || len(omitted) != 0 || len(set) != 2 {
		t.Fatalf("%v, left out %+v\n%s", err, omitted, text)
	}
	for i, want := range []*Key{bare, named} {
		if got := set[i]; !got.Same(want) {
			t.Errorf("key %d is another one", i)
		}
	}
	if kid := set[0].kid; kid != "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs" {
		t.Errorf("the thumbprint of the RFC: got %s", kid)
	}
	if kid := set[1].kid; kid != "2026" {
		t.Errorf("got kid %s, want 2026", kid)
	}
	if _, err := Published(named, named); err == nil || !strings.Contains(err.Error(), "same kid") {
		t.Errorf("one kid twice: %v", err)
	}
	secret, err := ParseShared([]byte(testSecret), "", HS256)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := Published(secret); err == nil {
		t.Errorf("a secret was published: %s", text)
	}
}
