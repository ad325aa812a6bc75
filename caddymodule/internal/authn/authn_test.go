package authn

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// testSecret is the shared token of the tests in this package.
const testSecret = "not-a-secret-but-43-characters-of-some-text"

// forgeHS256 signs any header and payload text with testSecret, whatever they are.
func forgeHS256(header, payload string) string {
	return macWith(testSecret, segment(header)+"."+segment(payload))
}

// signHS256 signs claims as a site does.
func signHS256(claims string) string { return forgeHS256(`{"alg":"HS256","typ":"JWT"}`, claims) }

func macWith(secret, signed string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// signWith returns a token with these claims, signed by an RSA private key or by a secret.
func signWith(t testing.TB, key any, kid string, claims map[string]any) string {
	t.Helper()
	header := map[string]string{"typ": "JWT"}
	if kid != "" {
		header["kid"] = kid
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	if secret, ok := key.([]byte); ok {
		header["alg"] = "HS256"
		encoded, _ := json.Marshal(header)
		return macWith(string(secret), segment(string(encoded))+"."+segment(string(payload)))
	}
	header["alg"] = "RS256"
	encoded, _ := json.Marshal(header)
	signed := segment(string(encoded)) + "." + segment(string(payload))
	digest := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(nil, key.(*rsa.PrivateKey), crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + segment(string(signature))
}

func segment(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// parseToken returns a parsed token that is not released for reuse.
func parseToken(text string) (*token, *Rejection) {
	t := new(token)
	return t, t.parse(text)
}

// publicKey returns the RS256 key of an RSA public key.
func publicKey(t testing.TB, public *rsa.PublicKey, kid string) *sigkey.Key {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	key, err := sigkey.ParsePublic(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), kid, DefaultAlgorithms)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// secretKey returns the HS256 key of a secret.
func secretKey(t testing.TB, secret, kid string) *sigkey.Key {
	t.Helper()
	key, err := sigkey.ParseShared([]byte(secret), kid, sigkey.HS256)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sharedTokenVerifier returns a verifier that trusts testSecret.
func sharedTokenVerifier(t testing.TB, policy Policy) *Verifier {
	t.Helper()
	return verifierOf(t, policy, secretKey(t, testSecret, ""))
}

func verifierOf(t testing.TB, policy Policy, keys ...*sigkey.Key) *Verifier {
	t.Helper()
	set, err := NewKeySet(keys...)
	if err != nil {
		t.Fatal(err)
	}
	if policy.IdentityKey == "" {
		policy.IdentityKey = "identity"
	}
	return NewVerifier(policy, set)
}

// privateKey is the one RSA key pair of the tests in this package: making one takes a while.
var privateKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// modulus returns an odd number with this many bits, for tests that look at the form of a key and verify nothing.
func modulus(bits int) *big.Int {
	n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
	return n.SetBit(n, 0, 1)
}

// outcomeText is what a test compares: "ok" or the code of the rejection.
func outcomeText(rej *Rejection) string {
	if rej == nil {
		return "ok"
	}
	return string(rej.Code)
}

// wantError checks that err says all of want.
func wantError(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one that says %q", want)
	}
	for _, text := range want {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("got the error %q, want one that says %q", err, text)
		}
	}
}
