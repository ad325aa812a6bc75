package diagnose

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

const (
	rawSecret = "J7vNq2XcW9ePzR4tYbLkMsDfGhQ8uAw3" // text, used as it is
	key64     = "c2VjcmV0LW9mLTMyLWJ5dGVzLWZvci10aGUtdGVzdHM="
)

func b64(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// sign returns a token with this header and payload, signed with HS256 whatever the header says.
func sign(header, payload, secret string) string {
	signed := b64(header) + "." + b64(payload)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// hs returns a token for this payload, signed with rawSecret.
func hs(payload string) string { return sign(`{"alg":"HS256"}`, payload, rawSecret) }

// unsigned returns an RS256 token with a signature of zeros.
func unsigned(header, payload string) string {
	return b64(header) + "." + b64(payload) + "." + strings.Repeat("A", 342)
}

func secretVerifier(t testing.TB, secret string, policy authn.Policy) *authn.Verifier {
	t.Helper()
	key, err := sigkey.ParseShared([]byte(secret), "", sigkey.HS256)
	if err != nil {
		t.Fatal(err)
	}
	return verifier(t, policy, key)
}

func verifier(t testing.TB, policy authn.Policy, keys ...*sigkey.Key) *authn.Verifier {
	t.Helper()
	set, err := authn.NewKeySet(keys...)
	if err != nil {
		t.Fatal(err)
	}
	if policy.IdentityKey == "" {
		policy.IdentityKey = "identity"
	}
	policy.ClockSkew = time.Minute
	return authn.NewVerifier(policy, set)
}

// rsaKeys returns public keys to which no private one is known.
func rsaKeys(t testing.TB, kids ...string) (keys []*sigkey.Key) {
	t.Helper()
	for _, kid := range kids {
		n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 2047))
		if err != nil {
			t.Fatal(err)
		}
		n.SetBit(n, 2047, 1).SetBit(n, 0, 1)
		der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n, E: 65537})
		if err != nil {
			t.Fatal(err)
		}
		key, err := sigkey.ParsePublic(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), kid, authn.DefaultAlgorithms)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	return keys
}

// ecKeys returns public keys for ES256.
func ecKeys(t testing.TB, kids ...string) (keys []*sigkey.Key) {
	t.Helper()
	for _, kid := range kids {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		key, err := sigkey.ParsePublic(der, kid, sigkey.AlgorithmsOf(sigkey.ES256))
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	return keys
}

// gateway has the messengers of the tests by name.
func gateway(t testing.TB) map[string]*authn.Verifier {
	t.Helper()
	decoded, err := base64.StdEncoding.DecodeString(key64)
	if err != nil {
		t.Fatal(err)
	}
	unfetched := authn.NewJWKS(authn.JWKSSettings{URL: "http://127.0.0.1:1/", Timeout: time.Second}, nil, nil, nil)
	t.Cleanup(unfetched.Close)
	rsaKey, ecKeys := rsaKeys(t, "2026")[0], ecKeys(t, "e1", "e2")
	published, err := sigkey.Published(rsaKey, ecKeys[0], ecKeys[1])
	if err != nil {
		t.Fatal(err)
	}
	mixed := authn.NewJWKS(authn.JWKSSettings{URL: "http://127.0.0.1:1/mixed", Timeout: time.Second, StaleIfError: time.Hour}, nil, nil, nil)
	t.Cleanup(mixed.Close)
	if err := mixed.Restore(published, time.Now()); err != nil {
		t.Fatal(err)
	}
	return map[string]*authn.Verifier{
		"mixed":    authn.NewVerifier(authn.Policy{IdentityKey: "identity"}, mixed),
		"two":      verifier(t, authn.Policy{}, rsaKey, ecKeys[0]),
		"raw":      secretVerifier(t, rawSecret, authn.Policy{}),
		"base64":   secretVerifier(t, string(decoded), authn.Policy{}),
		"text":     secretVerifier(t, key64, authn.Policy{}),
		"quoted":   secretVerifier(t, `"`+rawSecret+`"`, authn.Policy{}),
		"broken":   secretVerifier(t, key64[:30]+"\n"+key64[30:], authn.Policy{}),
		"strict":   secretVerifier(t, rawSecret, authn.Policy{Issuers: []string{"https://login.example.com"}, Audiences: []string{"https://api.example.com", "chat"}, RequiredClaims: []string{"department"}, MaxLifetime: time.Hour}),
		"audience": secretVerifier(t, rawSecret, authn.Policy{Audiences: []string{"https://api.example.com", "chat"}}),
		"issuer":   secretVerifier(t, rawSecret, authn.Policy{Issuers: []string{"https://login.example.com/"}}),
		"email":    secretVerifier(t, rawSecret, authn.Policy{IdentityKey: "email"}),
		"typed":    secretVerifier(t, rawSecret, authn.Policy{TokenType: "at+jwt"}),
		"rsa":      verifier(t, authn.Policy{Issuers: []string{"https://login.example.com/"}}, rsaKeys(t, "2026")...),
		"unnamed":  verifier(t, authn.Policy{}, rsaKeys(t, "")...),
		"five":     verifier(t, authn.Policy{}, rsaKeys(t, "a", "b", "c", "d", "e")...),
		"jwks":     authn.NewVerifier(authn.Policy{IdentityKey: "identity"}, unfetched),
	}
}

// examine returns why the messenger refuses text, and what is found; nothing if it is accepted.
func examine(t testing.TB, all map[string]*authn.Verifier, name, text string) (*authn.Rejection, []Finding) {
	t.Helper()
	v := all[name]
	_, rej := v.Verify(t.Context(), text)
	if rej == nil {
		return nil, nil
	}
	others := map[string]*authn.Verifier{}
	if name == "unnamed" || name == "base64" {
		others["another"] = all["raw"]
	}
	return rej, Find(v, text, rej, others)
}

func payload(more string) string {
	return fmt.Sprintf(`{"identity":"mark","exp":%d%s}`, time.Now().Add(time.Minute).Unix(), more)
}
