package command

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
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
	public, err := sigkey.ParsePublic([]byte(publicText()), "k1", authn.DefaultAlgorithms)
	if err != nil {
		t.Fatal(err)
	}
	shared, err := sigkey.ParseShared([]byte(testSecret), "k1", sigkey.HS256)
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
			signing, err := parseSigningKey([]byte(tt.text), sharedtoken.Raw, "")
			if err != nil {
				t.Fatal(err)
			}
			keys, err := authn.NewKeySet(tt.key)
			if err != nil {
				t.Fatal(err)
			}
			v, selection := authn.NewVerifier(authn.Policy{IdentityKey: "sub"}, keys), authn.NewClaimSelection([]string{"n", "html"})
			for kid, want := range map[string]string{"": "ok", "k1": "ok", "k2": "key_unknown"} {
				token, err := signing.token("JWT", kid, map[string]any{"sub": "Zoë <张>", "n": 9007199254740993, "html": "a<b>&c"})
				if err != nil {
					t.Fatal(err)
				}
				contact, rej := v.VerifySelected(context.Background(), token, selection)
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
	signing, err := parseSigningKey([]byte(testSecret), sharedtoken.Raw, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signing.token("JWT", "", map[string]any{"x": func() {}}); err == nil {
		t.Error("a claim that JSON does not have: no error")
	}
}

// Every algorithm signs with its own keys, and a messenger with the other half verifies it.
func TestEveryAlgorithmSignsAndVerifies(t *testing.T) {
	dir := t.TempDir()
	for i, alg := range append(sigkey.Asymmetric.List(), sigkey.Symmetric.List()...) {
		path, out := fmt.Sprintf("%s/%d", dir, i), new(bytes.Buffer)
		o := generateOptions{algorithm: alg.String()}
		switch alg {
		case sigkey.ES256, sigkey.ES384, sigkey.ES512:
			o.ec = path
		case sigkey.EdDSA:
			o.ed25519 = path
		case sigkey.HS256, sigkey.HS384, sigkey.HS512:
		default:
			o.rsa = path
		}
		if err := o.generate(out); err != nil {
			t.Fatalf("%s: %v", alg, err)
		}
		var key *sigkey.Key
		private, err := os.ReadFile(path + ".key.pem")
		if alg.IsSymmetric() {
			private = bytes.TrimSpace(out.Bytes())
			key, err = sigkey.ParseShared(private, "", alg)
		} else if err == nil {
			var public []byte
			if public, err = os.ReadFile(path + ".pub.pem"); err == nil {
				key, err = config.PublicKey{Alg: alg.String()}.Parse(public)
			}
		}
		if err != nil {
			t.Fatalf("%s: %v", alg, err)
		}
		signing, err := parseSigningKey(private, sharedtoken.Raw, alg.String())
		if err != nil {
			t.Fatalf("%s: %v", alg, err)
		}
		token, err := signing.token("JWT", "", map[string]any{"sub": "mark"})
		if err != nil {
			t.Fatal(err)
		}
		keys, err := authn.NewKeySet(key)
		if err != nil {
			t.Fatal(err)
		}
		contact, rej := authn.NewVerifier(authn.Policy{IdentityKey: "sub"}, keys).Verify(context.Background(), token)
		if rej != nil || contact.Identity != "mark" {
			t.Errorf("%s: got %+v", alg, rej)
		}
	}
}

func TestGenerateRefusesAKeyThatDoesNotFitTheAlgorithm(t *testing.T) {
	for _, tt := range []struct {
		o    generateOptions
		want string
	}{
		{generateOptions{algorithm: "ES256"}, "--alg ES256 needs a key pair"},
		{generateOptions{algorithm: "none"}, "is not an algorithm"},
		{generateOptions{rsa: "x", algorithm: "ES256"}, "--alg ES256 does not fit"},
		{generateOptions{ec: "x", algorithm: "HS256"}, "--alg HS256 does not fit"},
		{generateOptions{ed25519: "x", algorithm: "RS256"}, "--alg RS256 does not fit"},
	} {
		t.Chdir(t.TempDir())
		if err := tt.o.generate(new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: got %v, want an error with %q", tt.o, err, tt.want)
		}
		if files, _ := os.ReadDir("."); len(files) != 0 {
			t.Errorf("%+v: wrote %v", tt.o, files)
		}
	}
}

func TestRefusedSigningKeysHaveACause(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecDER, err := x509.MarshalPKCS8PrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	x, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	xDER, err := x509.MarshalPKCS8PrivateKey(x)
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
		{"an encrypted key", pemText("ENCRYPTED PRIVATE KEY", []byte("x")), sharedtoken.Raw, "decrypt a copy of it"},
		{"a key for Diffie-Hellman", pemText("PRIVATE KEY", xDER), sharedtoken.Raw, "not a key for signatures"},
		{"an algorithm of another curve", pemText("PRIVATE KEY", ecDER), "alg ES384", "is an elliptic curve key (P-256), and only ES384 is accepted"},
		{"an algorithm of another type", pemText("PRIVATE KEY", ecDER), "alg RS256", "is an elliptic curve key (P-256), and only RS256 is accepted"},
		{"the algorithm of a secret", pemText("PRIVATE KEY", ecDER), "alg HS256", "and only HS256 is accepted"},
		{"the algorithm of a key pair", testSecret, "alg ES256", "ES256 needs a key pair"},
		{"the algorithm none", testSecret, "alg none", `cannot sign with --alg "none"`},
		{"a secret that is short for HS512", testSecret, "alg HS512", "HS512 needs at least 64"},
		{"1024 bits", pemText("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(short)), sharedtoken.Raw, "1024 bits"},
		{"a short secret", "short", sharedtoken.Raw, "HS256 needs at least 32"},
		{"a secret in another encoding", testSecret, sharedtoken.Hex, "is not hex"},
		{"damaged PEM, taken for a secret", strings.TrimSuffix(publicText(), "-----\n"), sharedtoken.Raw, "is PEM"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			alg, named := strings.CutPrefix(string(tt.encoding), "alg ")
			if named {
				tt.encoding = sharedtoken.Raw
			} else {
				alg = ""
			}
			_, err := parseSigningKey([]byte(tt.text), tt.encoding, alg)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}
