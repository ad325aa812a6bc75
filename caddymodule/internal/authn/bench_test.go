package authn

import (
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jws"
	jwxjwt "github.com/lestrrat-go/jwx/v2/jwt"
)

// benchToken is what the benchmarks of one validation method verify: a token of about 500 bytes, as login servers make
// them.
type benchToken struct {
	name     string
	alg      jwa.SignatureAlgorithm
	verifier *Verifier
	key      any // what libraries take
	valid    string
	forged   string // the claims of another contact under the same signature
}

func benchTokens(b *testing.B) []benchToken {
	b.Helper()
	claims := func(identity string) map[string]any {
		now := time.Now().Unix()
		return map[string]any{
			"identity": identity, "iss": "https://login.example.com/", "aud": []string{"chat-support", "chat-sales"},
			"iat": now, "nbf": now, "exp": now + 3600, "jti": "01J9Z3K5V7Q8W2X4Y6A0B1C2D3",
			"name": "Mark Twain", "email": "mark.twain@example.com", "locale": "en-US", "plan": "enterprise", "email_verified": true,
		}
	}
	public, secret := publicKey(b, &privateKey().PublicKey, "k1"), secretKey(b, testSecret, "k1")
	policy := Policy{ClockSkew: time.Minute, Issuers: []string{"https://login.example.com/"}, Audiences: []string{"chat-support"}, RequiredClaims: []string{"exp"}}
	tokens := []benchToken{
		{name: "shared_token", alg: jwa.HS256, key: []byte(testSecret), verifier: verifierOf(b, policy, secret)},
		{name: "public_key", alg: jwa.RS256, key: &privateKey().PublicKey, verifier: verifierOf(b, policy, public)},
	}
	for i, key := range []any{[]byte(testSecret), privateKey()} {
		t := &tokens[i]
		t.valid = signWith(b, key, "k1", claims("mark"))
		other := signWith(b, key, "k1", claims("eve"))
		t.forged = other[:strings.LastIndexByte(other, '.')] + t.valid[strings.LastIndexByte(t.valid, '.'):]
	}
	return tokens
}

func BenchmarkParse(b *testing.B) {
	t := benchTokens(b)[0]
	b.ReportAllocs()
	for b.Loop() {
		if _, rej := parseToken(t.valid); rej != nil {
			b.Fatal(rej.Code)
		}
	}
}

// BenchmarkVerify measures what a token costs that was not seen before, and what a refusal costs.
func BenchmarkVerify(b *testing.B) {
	for _, t := range benchTokens(b) {
		for _, c := range []struct {
			name, token string
			code        string
		}{
			{"miss", t.valid, "ok"},
			{"forged", t.forged, "signature_invalid"},
			{"unknown kid", reheaded(t.valid, `{"alg":"`+t.alg.String()+`","kid":"k2"}`), "key_unknown"},
			{"alg none", reheaded(t.valid, `{"alg":"none"}`), "algorithm_not_allowed"},
			{"two segments", t.valid[:strings.LastIndexByte(t.valid, '.')], "token_malformed"},
			{"too large", strings.Repeat("A", MaxToken+1), "token_too_large"},
		} {
			b.Run(t.name+"/"+c.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, rej := t.verifier.Verify(context.Background(), c.token); outcomeText(rej) != c.code {
						b.Fatal(outcomeText(rej))
					}
				}
			})
		}
	}
}

// reheaded returns token under another JOSE header.
func reheaded(token, header string) string {
	_, rest, _ := strings.Cut(token, ".")
	return segment(header) + "." + rest
}

// BenchmarkBaselines measures what the same tokens cost by other means: the bare cryptography, below which no verifier can be,
// and the libraries that read tokens.
func BenchmarkBaselines(b *testing.B) {
	for _, t := range benchTokens(b) {
		signed, encoded := t.valid[:strings.LastIndexByte(t.valid, '.')], t.valid[strings.LastIndexByte(t.valid, '.')+1:]
		signature, err := base64.RawURLEncoding.DecodeString(encoded)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(t.name+"/bare cryptography", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !bareVerify(t.key, signed, signature) {
					b.Fatal("not verified")
				}
			}
		})
		b.Run(t.name+"/jwx verifier", func(b *testing.B) {
			verifier, err := jws.NewVerifier(t.alg)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if verifier.Verify([]byte(signed), signature, t.key) != nil {
					b.Fatal("not verified")
				}
			}
		})
		b.Run(t.name+"/jwx jwt.Parse", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := jwxjwt.Parse([]byte(t.valid), jwxjwt.WithKey(t.alg, t.key)); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(t.name+"/golang-jwt", func(b *testing.B) {
			parser := jwt.NewParser(jwt.WithValidMethods([]string{t.alg.String()}))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := parser.Parse(t.valid, func(*jwt.Token) (any, error) { return t.key, nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(t.name+"/SHA-256 of the token", func(b *testing.B) {
			text := []byte(t.valid)
			for b.Loop() {
				sha256.Sum256(text)
			}
		})
	}
}

func bareVerify(key any, signed string, signature []byte) bool {
	if secret, ok := key.([]byte); ok {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(signed))
		return hmac.Equal(mac.Sum(nil), signature)
	}
	digest := sha256.Sum256([]byte(signed))
	return rsa.VerifyPKCS1v15(key.(*rsa.PublicKey), crypto.SHA256, digest[:], signature) == nil
}
