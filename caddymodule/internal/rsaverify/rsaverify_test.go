package rsaverify

import (
	"crypto"
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	_ "crypto/sha512"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/testsize"
)

var (
	pairsMu sync.Mutex
	made    = make(map[int]*rsa.PrivateKey)
)

// privateKey returns the key pair of that size, which is made once.
func privateKey(t testing.TB, size int) *rsa.PrivateKey {
	t.Helper()
	pairsMu.Lock()
	defer pairsMu.Unlock()
	if made[size] == nil {
		key, err := rsa.GenerateKey(rand.Reader, size)
		if err != nil {
			t.Fatal(err)
		}
		made[size] = key
	}
	return made[size]
}

// A pair is a key that can sign any encoded message, valid or not.
type pair struct {
	name    string
	public  *rsa.PublicKey
	d, p, q *big.Int
}

// sign computes with both primes and joins the results (RFC 8017 section 5.1.2), in a third of the time.
func (p *pair) sign(message *big.Int) []byte {
	one := big.NewInt(1)
	power := func(prime *big.Int) *big.Int {
		return new(big.Int).Exp(message, new(big.Int).Mod(p.d, new(big.Int).Sub(prime, one)), prime)
	}
	m1, m2 := power(p.p), power(p.q)
	h := new(big.Int).Mul(m1.Sub(m1, m2), new(big.Int).ModInverse(p.q, p.p))
	m := h.Mod(h, p.p).Mul(h, p.q)
	return m.Add(m, m2).FillBytes(make([]byte, p.public.Size()))
}

func pairOf(private *rsa.PrivateKey) *pair {
	return &pair{fmt.Sprint(private.N.BitLen(), " bits"), &private.PublicKey, private.D, private.Primes[0], private.Primes[1]}
}

// withModulus returns a pair whose modulus is as near to target as a product of two primes comes from below or above.
func withModulus(t testing.TB, name string, target *big.Int, step int64) *pair {
	t.Helper()
	one := big.NewInt(1)
	p, err := rand.Prime(rand.Reader, target.BitLen()/2)
	if err != nil {
		t.Fatal(err)
	}
	for {
		p.Add(p, big.NewInt(2))
		if !p.ProbablyPrime(10) {
			continue
		}
		q := new(big.Int).Div(target, p)
		if q.SetBit(q, 0, 1); step > 0 {
			q.Add(q, big.NewInt(2))
		}
		for !q.ProbablyPrime(10) {
			q.Add(q, big.NewInt(step))
		}
		phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		if d := new(big.Int).ModInverse(big.NewInt(exponent), phi); d != nil {
			return &pair{name, &rsa.PublicKey{N: new(big.Int).Mul(p, q), E: exponent}, d, new(big.Int).Set(p), q}
		}
	}
}

// pairs are keys of usual sizes and moduli of unusual shapes: sizes that fill no byte or word, and numbers just above and below a
// power of two, whose highest words are zeros or ones but for a bit.
func pairs(t testing.TB) []*pair {
	t.Helper()
	power := func(bits uint) *big.Int { return new(big.Int).Lsh(big.NewInt(1), bits) }
	list := []*pair{pairOf(privateKey(t, 2048)), pairOf(privateKey(t, 3072))}
	for _, shape := range []struct {
		name   string
		target *big.Int
		step   int64
	}{
		{"just below 2^2048", new(big.Int).Sub(power(2048), big.NewInt(1)), -2},
		{"just above 2^2047", power(2047), 2},
		{"just above 2^2048, 2049 bits", power(2048), 2},
		{"2055 bits", new(big.Int).Add(power(2054), power(2053)), 2},
		{"just above 2^2112, a word more than whole ones", power(2112), 2},
	} {
		list = append(list, withModulus(t, shape.name, shape.target, shape.step))
	}
	return list
}

// sharedPairs are pairs, which several tests use.
var sharedPairs = sync.OnceValue(func() []*pair { return pairs(new(testing.T)) })

// agree fails the test if a prepared key and crypto/rsa decide differently. It returns what they decide.
func agree(t *testing.T, key *Key, hash crypto.Hash, digest, signature []byte) bool {
	t.Helper()
	got, want := key.Verify(digest, signature), rsa.VerifyPKCS1v15(key.public, hash, digest, signature) == nil
	if got != want {
		t.Fatalf("%d bits, %s: got %t, crypto/rsa says %t, for the digest %x and the signature %x", key.public.N.BitLen(), hash, got, want, digest, signature)
	}
	return got
}

func digestOf(hash crypto.Hash, text string) []byte {
	h := hash.New()
	h.Write([]byte(text))
	return h.Sum(nil)
}

var hashes = []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512}

func TestValidSignaturesAndThoseWithOneBitChanged(t *testing.T) {
	for _, p := range sharedPairs() {
		for _, hash := range hashes {
			key, digest := New(p.public, hash), digestOf(hash, "a token")
			if !key.prepared() && !fips140.Enabled() {
				t.Errorf("%s, %s: the key is not prepared", p.name, hash)
			}
			message := encode(p.public.Size(), digestInfos[hash], hash.Size())
			copy(message[len(message)-len(digest):], digest)
			signature := p.sign(new(big.Int).SetBytes(message))
			if !agree(t, key, hash, digest, signature) {
				t.Errorf("%s, %s: a valid signature is refused", p.name, hash)
			}
			for _, bit := range []int{0, 1, 7, 8, 63, 64, 8*len(signature) - 1} {
				changed := append([]byte(nil), signature...)
				changed[len(changed)-1-bit/8] ^= 1 << (bit % 8)
				if agree(t, key, hash, digest, changed) {
					t.Errorf("%s, %s: a signature whose bit %d was changed is accepted", p.name, hash, bit)
				}
			}
			digest[0] ^= 1
			if agree(t, key, hash, digest, signature) {
				t.Errorf("%s, %s: a signature over another digest is accepted", p.name, hash)
			}
		}
	}
}

// A signature is a number below the modulus, in as many bytes as the modulus has. Otherwise one signature would have several forms,
// and lists of revoked or remembered tokens would miss the others.
func TestSignaturesAtAndAboveTheModulusAndOfOtherLengths(t *testing.T) {
	for _, p := range sharedPairs() {
		key, digest, size := New(p.public, crypto.SHA256), digestOf(crypto.SHA256, "a token"), p.public.Size()
		message := encode(size, digestInfos[crypto.SHA256], crypto.SHA256.Size())
		copy(message[size-len(digest):], digest)
		valid := p.sign(new(big.Int).SetBytes(message))
		bytesOf := func(n *big.Int) []byte {
			if (n.BitLen()+7)/8 > size {
				return n.Bytes()
			}
			return n.FillBytes(make([]byte, size))
		}
		n, s := p.public.N, new(big.Int).SetBytes(valid)
		for name, signature := range map[string][]byte{
			"zero":                             make([]byte, size),
			"one":                              bytesOf(big.NewInt(1)),
			"the modulus minus one":            bytesOf(new(big.Int).Sub(n, big.NewInt(1))),
			"the modulus":                      bytesOf(n),
			"the modulus plus one":             bytesOf(new(big.Int).Add(n, big.NewInt(1))),
			"a valid one plus the modulus":     bytesOf(new(big.Int).Add(s, n)),
			"the modulus minus a valid one":    bytesOf(new(big.Int).Sub(n, s)),
			"a valid one with a zero in front": append([]byte{0}, valid...),
			"a valid one with a zero behind":   append(append([]byte(nil), valid...), 0),
			"a valid one without its first":    valid[1:],
			"a valid one without its last":     valid[:size-1],
			"all ones":                         bytesOf(new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), uint(8*size)), big.NewInt(1))),
			"nothing":                          nil,
		} {
			if agree(t, key, crypto.SHA256, digest, signature) {
				t.Errorf("%s: %s is accepted", p.name, name)
			}
		}
		for _, wrong := range [][]byte{nil, digest[1:], append([]byte{0}, digest...), digestOf(crypto.SHA512, "a token")} {
			if agree(t, key, crypto.SHA256, wrong, valid) {
				t.Errorf("%s: a digest of %d bytes is accepted", p.name, len(wrong))
			}
		}
	}
}

// Other keys are crypto/rsa's, and so is everything in FIPS 140 mode.
func TestOnlyUsualKeysArePrepared(t *testing.T) {
	odd := func(bits uint) *big.Int { return new(big.Int).SetBit(new(big.Int).Lsh(big.NewInt(1), bits-1), 0, 1) }
	for name, tt := range map[string]struct {
		public *rsa.PublicKey
		hash   crypto.Hash
		want   bool
	}{
		"2048 bits":        {&rsa.PublicKey{N: odd(2048), E: 65537}, crypto.SHA256, true},
		"4096 bits":        {&rsa.PublicKey{N: odd(4096), E: 65537}, crypto.SHA512, true},
		"2047 bits":        {&rsa.PublicKey{N: odd(2047), E: 65537}, crypto.SHA256, false},
		"4097 bits":        {&rsa.PublicKey{N: odd(4097), E: 65537}, crypto.SHA256, false},
		"the exponent 3":   {&rsa.PublicKey{N: odd(2048), E: 3}, crypto.SHA256, false},
		"an even modulus":  {&rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047), E: 65537}, crypto.SHA256, false},
		"another hash":     {&rsa.PublicKey{N: odd(2048), E: 65537}, crypto.SHA1, false},
		"a modulus of one": {&rsa.PublicKey{N: big.NewInt(1), E: 65537}, crypto.SHA256, false},
	} {
		key := New(tt.public, tt.hash)
		if want := tt.want && !fips140.Enabled(); key.prepared() != want {
			t.Errorf("%s: prepared is %t, want %t", name, key.prepared(), want)
		}
		if key.Verify(make([]byte, tt.hash.Size()), make([]byte, tt.public.Size())) {
			t.Errorf("%s: zeros are a signature", name)
		}
	}
}

// In FIPS 140 mode only code of the validated module may verify. The mode is that of a process from its start.
func TestFIPSModeUsesTheStandardLibrary(t *testing.T) {
	if testsize.Raced {
		t.Skip("no goroutines share anything here")
	}
	if os.Getenv("RSAVERIFY_FIPS") != "" {
		if !fips140.Enabled() {
			t.Fatal("FIPS 140 mode is off")
		}
		private := privateKey(t, 2048)
		key, digest := New(&private.PublicKey, crypto.SHA256), sha256.Sum256([]byte("a token"))
		signature, err := rsa.SignPKCS1v15(nil, private, crypto.SHA256, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		if key.prepared() || !key.Verify(digest[:], signature) {
			t.Errorf("prepared is %t, verified %t; want a verification by crypto/rsa", key.prepared(), key.Verify(digest[:], signature))
		}
		signature[0] ^= 1
		if key.Verify(digest[:], signature) {
			t.Error("a changed signature is accepted")
		}
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"on", "only"} {
		child := exec.Command(self, "-test.run=^TestFIPSModeUsesTheStandardLibrary$", "-test.count=1", "-test.v")
		child.Env = append(os.Environ(), "GODEBUG=fips140="+mode, "RSAVERIFY_FIPS=1")
		if output, err := child.CombinedOutput(); err != nil {
			t.Errorf("fips140=%s: %v\n%s", mode, err, output)
		}
	}
}

func TestVerificationDoesNotAllocate(t *testing.T) {
	if fips140.Enabled() {
		t.Skip("crypto/rsa verifies in FIPS 140 mode")
	}
	private := privateKey(t, 2048)
	key, digest := New(&private.PublicKey, crypto.SHA256), sha256.Sum256([]byte("a token"))
	signature, err := rsa.SignPKCS1v15(nil, private, crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	key.Verify(digest[:], signature)
	if got := testing.AllocsPerRun(100, func() { key.Verify(digest[:], signature) }); got >= 1 && !testsize.Raced {
		t.Errorf("got %g allocations, want none", got)
	}
}

// prepared reports whether k is verified here and not by crypto/rsa.
func (k *Key) prepared() bool { return k.modulus != nil }
