package integration

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// rsaKey returns the n-th RSA key of the suite. Processes that the suite starts have the same ones.
func rsaKey(n int) *rsa.PrivateKey {
	rsaKeys.Lock()
	defer rsaKeys.Unlock()
	for len(rsaKeys.list) <= n {
		rsaKeys.list = append(rsaKeys.list, sharedKey(len(rsaKeys.list)))
	}
	return rsaKeys.list[n]
}

var rsaKeys struct {
	sync.Mutex
	list []*rsa.PrivateKey
}

// sharedKey reads the n-th key from the folder that the processes of the suite share, and makes it if it is not there.
func sharedKey(n int) *rsa.PrivateKey {
	name := filepath.Join(sharedDir, fmt.Sprintf("key-%d.der", n))
	der, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		var key *rsa.PrivateKey
		if key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			panic(err)
		}
		// Linked under its name, it is whole when another process sees it; of two that make one at once the first counts.
		temp := fmt.Sprintf("%s.%d", name, os.Getpid())
		if err = os.WriteFile(temp, x509.MarshalPKCS1PrivateKey(key), 0o600); err != nil {
			panic(err)
		}
		if err = os.Link(temp, name); err != nil && !errors.Is(err, fs.ErrExist) {
			panic(err)
		}
		der, err = os.ReadFile(name)
	}
	if err != nil {
		panic(err)
	}
	key, err := x509.ParsePKCS1PrivateKey(der)
	if err != nil {
		panic(err)
	}
	return key
}

// publicPEM returns the PKIX form of key's public half.
func publicPEM(key *rsa.PrivateKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// newSecret returns a shared secret of 43 characters, known to the leak search.
func newSecret() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	secret := base64.RawURLEncoding.EncodeToString(b)
	search.secret(secret)
	return secret
}

// claims are the claims of a token.
type claims = jwt.MapClaims

// valid returns claims that every messenger of this suite accepts, with identity under the key "identity".
func valid(identity any) claims {
	return claims{"identity": identity, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
}

// sign makes a token as a site does, with a common JWT library: RS256 for an RSA key, HS256 for a secret.
func sign(key any, c claims) string { return signWithKID(key, "", c) }

func signWithKID(key any, kid string, c claims) string {
	var method jwt.SigningMethod = jwt.SigningMethodRS256
	if secret, ok := key.(string); ok {
		method, key = jwt.SigningMethodHS256, []byte(secret)
	}
	token := jwt.NewWithClaims(method, c)
	if kid != "" {
		token.Header["kid"] = kid
	}
	text, err := token.SignedString(key)
	if err != nil {
		panic(err)
	}
	search.secret(text)
	return text
}

// forge makes an HS256 token out of any header and payload text, for attacks that a library would not make.
func forge(secret, header, payload string) string {
	text := b64(header) + "." + b64(payload)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	text += "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	search.secret(text)
	return text
}

func b64(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

func bearer(token string) string { return "Authorization: Bearer " + token }

// write puts a file into a folder of the test and returns its path.
func write(t testing.TB, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The two methods of most tests: a messenger "support" of each, with its signing key.
type method struct {
	name       string
	messengers string // the global options
	key        any    // what sign takes
}

func methods(t testing.TB) []method {
	secret := newSecret()
	return []method{
		{"shared_token", "messenger support {\n identity_key identity\n shared_token {file." + write(t, "secret", []byte(secret)) + "}\n}", secret},
		{"public_key", "messenger support {\n identity_key identity\n public_key {file." + write(t, "key.pem", publicPEM(rsaKey(0))) + "}\n}", rsaKey(0)},
	}
}

// privatePEM returns the PKCS#8 form of key.
func privatePEM(key *rsa.PrivateKey) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}
