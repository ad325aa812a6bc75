package command

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"sync"
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sharedtoken"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

const testSecret = "not-a-secret-but-43-characters-of-some-text"

// privateKey is the one RSA key pair of these tests: making one takes a while.
var privateKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func pemText(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func publicText() string {
	return pemText("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&privateKey().PublicKey))
}

// The gateway accepts what the commands sign: with both methods, with and without a kid, and with every claim as it was
// given.
func TestSignedTokenVerifies(t *testing.T) {
	pkcs8, err := x509.MarshalPKCS8PrivateKey(privateKey())
	if err != nil {
		t.Fatal(err)
	}
	public, err := sigkey.ParsePublic([]byte(publicText()), "k1")
	if err != nil {
		t.Fatal(err)
	}
	shared, err := sigkey.ParseShared([]byte(testSecret), "k1")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		text string
		key  *sigkey.Key
	}{
		{"PKCS#8", pemText("PRIVATE KEY", pkcs8), public},
		{"PKCS#1", pemText("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(privateKey())), public},
		{"a shared token", testSecret, shared},
		{"a shared token of a file with a line break", testSecret + "\r\n", shared},
	} {
		t.Run(tt.name, func(t *testing.T) {
			signing, err := parseSigningKey([]byte(tt.text), sharedtoken.Raw)
			if err != nil {
				t.Fatal(err)
			}
			keys, err := authn.NewKeySet(tt.key)
			if err != nil {
				t.Fatal(err)
			}
			v := authn.NewVerifier(authn.Policy{IdentityKey: "sub"}, keys)
			for kid, want := range map[string]string{"": "ok", "k1": "ok", "k2": "key_unknown"} {
				token, err := signing.sign(kid, map[string]any{"sub": "Zoë <张>", "n": 9007199254740993, "html": "a<b>&c"})
				if err != nil {
					t.Fatal(err)
				}
				contact, rej := v.Verify(context.Background(), token, []string{"n", "html"})
				got := "ok"
				if rej != nil {
					got = string(rej.Code)
				}
				if got != want {
					t.Fatalf("kid %q: got %s, want %s", kid, got, want)
				}
				if rej == nil && (contact.Identity != "Zoë <张>" || contact.Claims[0].Text != "9007199254740993" || contact.Claims[1].Text != "a<b>&c") {
					t.Errorf("got %+v", contact)
				}
			}
		})
	}
	signing, err := parseSigningKey([]byte(testSecret), sharedtoken.Raw)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signing.sign("", map[string]any{"x": func() {}}); err == nil {
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
		encoding   sharedtoken.Encoding
		want       string
	}{
		{"a public key", publicText(), sharedtoken.Raw, "not a private key"},
		{"an encrypted key", pemText("ENCRYPTED PRIVATE KEY", []byte("x")), sharedtoken.Raw, "decrypt it first"},
		{"an elliptic curve key", pemText("PRIVATE KEY", ecDER), sharedtoken.Raw, "is not an RSA key"},
		{"1024 bits", pemText("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(short)), sharedtoken.Raw, "1024 bits"},
		{"a short secret", "short", sharedtoken.Raw, "HS256 needs at least 32"},
		{"a secret in another encoding", testSecret, sharedtoken.Hex, "is not hex"},
		{"damaged PEM, taken for a secret", strings.TrimSuffix(publicText(), "-----\n"), sharedtoken.Raw, "is PEM"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseSigningKey([]byte(tt.text), tt.encoding)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}
