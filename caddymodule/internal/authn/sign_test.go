package authn

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"strings"
	"testing"
)

// What the tools sign, the gateway takes: with both methods, with and without a kid, and every claim as it was given.
func TestSignedTokenVerifies(t *testing.T) {
	pkcs8, err := x509.MarshalPKCS8PrivateKey(privateKey())
	if err != nil {
		t.Fatal(err)
	}
	public, err := ParsePublicKey([]byte(pkixText(t, &privateKey().PublicKey)), "k1")
	if err != nil {
		t.Fatal(err)
	}
	shared, err := ParseSharedToken([]byte(testSecret), "k1")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		text string
		key  *Key
	}{
		{"PKCS#8", pemText("PRIVATE KEY", pkcs8), public},
		{"PKCS#1", pemText("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(privateKey())), public},
		{"a shared token", testSecret, shared},
		{"a shared token of a file with a line break", testSecret + "\r\n", shared},
	} {
		t.Run(tt.name, func(t *testing.T) {
			signing, err := ParseSigningKey([]byte(tt.text), Raw)
			if err != nil {
				t.Fatal(err)
			}
			v := verifierOf(t, Policy{IdentityKey: "sub"}, tt.key)
			for kid, want := range map[string]string{"": "ok", "k1": "ok", "k2": "key_unknown"} {
				token, err := signing.Sign(kid, map[string]any{"sub": "Zoë <张>", "n": 9007199254740993, "html": "a<b>&c"})
				if err != nil {
					t.Fatal(err)
				}
				contact, rej := v.Verify(context.Background(), token, []string{"n", "html"})
				if got := outcomeText(rej); got != want {
					t.Fatalf("kid %q: got %s, want %s", kid, got, want)
				}
				if rej == nil && (contact.Identity != "Zoë <张>" || contact.Claims[0].Text != "9007199254740993" || contact.Claims[1].Text != "a<b>&c") {
					t.Errorf("got %+v", contact)
				}
			}
		})
	}
	if _, err := (&SigningKey{alg: "HS256", material: []byte(testSecret)}).Sign("", map[string]any{"x": func() {}}); err == nil {
		t.Error("a claim that JSON does not have: no error")
	}
}

func TestSigningKeysThatAreRefusedAreNamed(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecDER, err := x509.MarshalPKCS8PrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, text string
		encoding   Encoding
		want       string
	}{
		{"a public key", ownPublic(t), Raw, "no private key"},
		{"an encrypted key", pemText("ENCRYPTED PRIVATE KEY", []byte("x")), Raw, "decrypt it first"},
		{"an elliptic curve key", pemText("PRIVATE KEY", ecDER), Raw, "is no RSA key"},
		{"1024 bits", pemText("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(short)), Raw, "1024 bits"},
		{"a short secret", "short", Raw, "HS256 needs at least 32"},
		{"a secret in another encoding", testSecret, Hex, "is not hex"},
		{"damaged PEM, taken for a secret", strings.TrimSuffix(ownPublic(t), "-----\n"), Raw, "is PEM"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseSigningKey([]byte(tt.text), tt.encoding)
			wantError(t, err, tt.want)
		})
	}
}

func ownPublic(t testing.TB) string { return pkixText(t, &privateKey().PublicKey) }
