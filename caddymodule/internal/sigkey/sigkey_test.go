package sigkey

import (
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"strings"
	"sync"
	"testing"
)

// testSecret is the shared token of the tests in this package.
const testSecret = "not-a-secret-but-43-characters-of-some-text"

// rs256 is what a messenger accepts that names nothing else.
var rs256 = AlgorithmsOf(RS256)

// privateKey is the one RSA key pair of the tests in this package: making one takes a while.
var privateKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// modulus returns an odd number of so many bits, for tests that look at the form of a key and verify nothing.
func modulus(bits int) *big.Int {
	n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
	return n.SetBit(n, 0, 1)
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
