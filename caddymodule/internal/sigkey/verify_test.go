package sigkey

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"
)

// A signer has a private key or a secret, and signs with any algorithm for keys of its type.
type signer struct {
	name    string
	private any // *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey or []byte
	public  []byte
}

func newSigners(t testing.TB) (signers []signer) {
	t.Helper()
	add := func(name string, private crypto.Signer, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(private.Public())
		if err != nil {
			t.Fatal(err)
		}
		signers = append(signers, signer{name, private, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})})
	}
	for _, name := range []string{"RSA", "another RSA key"} {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		add(name, key, err)
	}
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		add(curve.Params().Name, key, err)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	add("Ed25519", key, err)
	return append(signers, signer{"a secret", bytes.Repeat([]byte("secret"), 11), nil})
}

// key makes the key of s for an algorithm, or returns nil if s has none for it.
func (s *signer) key(alg Algorithm) *Key {
	if secret, ok := s.private.([]byte); ok {
		key, _ := ParseShared(secret, "", alg)
		return key
	}
	if alg.IsSymmetric() {
		return nil
	}
	key, _ := ParsePublic(s.public, "", AlgorithmsOf(alg))
	return key
}

// sign signs with an algorithm, or returns nil if s cannot. An attacker takes what the gateway publishes for a secret, too.
func (s *signer) sign(t testing.TB, alg Algorithm, text []byte) (signature []byte) {
	t.Helper()
	scheme := algorithms[alg]
	if scheme.scheme == mac {
		secret, ok := s.private.([]byte)
		if !ok {
			secret = s.public
		}
		h := hmac.New(scheme.hash.New, secret)
		h.Write(text)
		return h.Sum(nil)
	}
	var err error
	var sum []byte
	if scheme.scheme != eddsa {
		h := scheme.hash.New()
		h.Write(text)
		sum = h.Sum(nil)
	}
	switch private := s.private.(type) {
	case *rsa.PrivateKey:
		switch scheme.scheme {
		case pkcs1:
			signature, err = rsa.SignPKCS1v15(rand.Reader, private, scheme.hash, sum)
		case pss:
			signature, err = rsa.SignPSS(rand.Reader, private, scheme.hash, sum, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		}
	case *ecdsa.PrivateKey:
		if scheme.scheme == ecdsaPlain {
			var r, v *big.Int
			r, v, err = ecdsa.Sign(rand.Reader, private, sum)
			if err == nil {
				signature = plain(r, v, (private.Curve.Params().BitSize+7)/8)
			}
		}
	case ed25519.PrivateKey:
		if scheme.scheme == eddsa {
			signature = ed25519.Sign(private, text)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

// plain writes a signature of ECDSA as JWS has it (RFC 7518 section 3.4).
func plain(r, s *big.Int, size int) []byte {
	return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
}

// No key verifies what was signed with another key or another algorithm: every signer and algorithm against every key and its
// algorithm, public keys used as secrets among them.
func TestKeysVerifyTheirAlgorithmOnly(t *testing.T) {
	signers, text := newSigners(t), []byte("header.payload")
	valid := 0
	for _, by := range signers {
		for signed := RS256; signed <= HS512; signed++ {
			signature := by.sign(t, signed, text)
			if signature == nil {
				continue
			}
			for _, of := range signers {
				for alg := RS256; alg <= HS512; alg++ {
					key := of.key(alg)
					if key == nil {
						continue
					}
					want := by.name == of.name && signed == alg
					if key.Verify(text, signature) != want {
						t.Errorf("signed by %s with %s: the key of %s for %s says %t", by.name, signed, of.name, alg, !want)
					}
					if key.Verify(append(text, 'x'), signature) {
						t.Errorf("%s: another text is accepted", alg)
					}
					if want {
						valid++
					}
				}
			}
		}
	}
	if want := 2*6 + 3 + 1 + 3; valid != want {
		t.Errorf("%d combinations are valid, want %d", valid, want)
	}
}

// Every signature has one form: another length, DER, numbers outside their range, another salt and an unreduced S are refused.
func TestNonCanonicalSignaturesAreRefused(t *testing.T) {
	text := []byte("header.payload")
	for _, s := range newSigners(t) {
		for alg := RS256; alg <= HS512; alg++ {
			key := s.key(alg)
			if key == nil {
				continue
			}
			signature := s.sign(t, alg, text)
			forms := map[string][]byte{
				"empty": {}, "longer": append(slices.Clone(signature), 0), "with a zero in front": append([]byte{0}, signature...),
				"shorter": signature[:len(signature)-1], "zeros": make([]byte, len(signature)), "ones": bytes.Repeat([]byte{0xff}, len(signature)),
			}
			switch private := s.private.(type) {
			case *ecdsa.PrivateKey:
				half, order := len(signature)/2, private.Curve.Params().N
				r, v := new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:])
				sum := algorithms[alg].hash.New()
				sum.Write(text)
				der, err := ecdsa.SignASN1(rand.Reader, private, sum.Sum(nil))
				if err != nil {
					t.Fatal(err)
				}
				forms["DER"] = der
				forms["r zero"], forms["s zero"] = plain(new(big.Int), v, half), plain(r, new(big.Int), half)
				forms["r the order"], forms["s the order"] = plain(order, v, half), plain(r, order, half)
				if above := new(big.Int).Add(v, order); above.BitLen() <= 8*half {
					forms["s above the order"] = plain(r, above, half)
				}
				forms["numbers of another length"] = append(append(signature[:half:half], 0), signature[half:]...)
			case ed25519.PrivateKey:
				order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
				v := slices.Clone(signature[32:])
				slices.Reverse(v)
				above := new(big.Int).Add(new(big.Int).SetBytes(v), order).FillBytes(make([]byte, 32))
				slices.Reverse(above)
				forms["S above the order"] = append(slices.Clone(signature[:32]), above...)
				for i := range smallOrder {
					forms["R of small order "+string(rune('0'+i))] = append(slices.Clone(smallOrder[i][:]), signature[32:]...)
				}
			case *rsa.PrivateKey:
				if algorithms[alg].scheme == pss {
					sum := algorithms[alg].hash.New()
					sum.Write(text)
					for _, salt := range []int{0, 20, algorithms[alg].hash.Size() + 1} {
						other, err := rsa.SignPSS(rand.Reader, private, algorithms[alg].hash, sum.Sum(nil), &rsa.PSSOptions{SaltLength: salt})
						if err != nil {
							t.Fatal(err)
						}
						if salt == 0 { // means as long as possible
							forms["the longest salt"] = other
							continue
						}
						forms["another salt"+string(rune('0'+salt%10))] = other
					}
				}
				above := new(big.Int).Add(new(big.Int).SetBytes(signature), private.N)
				forms["above the modulus"] = above.Bytes()
			}
			for form, bad := range forms {
				if key.Verify(text, bad) {
					t.Errorf("%s of %s: a signature that is %s is accepted", alg, s.name, form)
				}
			}
		}
	}
}

// Anyone can sign for a public key of small order. The points are those of Go's own arithmetic: eight times each
// is the neutral element, so that a signature of zeros is valid for a part of all texts.
func TestKeysOfSmallOrderAreRefused(t *testing.T) {
	for i := range smallOrder {
		for _, sign := range []byte{0, 0x80} {
			point := smallOrder[i]
			point[31] |= sign
			if checkEd25519(point[:]) == nil {
				t.Errorf("point %d with the sign %#x is taken for a key", i, sign)
			}
		}
	}
	accepted := 0
	for i := range smallOrder {
		signature := make([]byte, ed25519.SignatureSize) // R is the neutral element, and S is zero
		signature[0] = 1
		for n := range 64 {
			if ed25519.Verify(smallOrder[i][:], []byte{byte(n)}, signature) {
				accepted++
				break
			}
		}
	}
	if accepted < 5 {
		t.Errorf("under %d of the points a signature without a key is valid, which does not show that they are of small order", accepted)
	}
}

// BenchmarkVerify has one row for each algorithm; that of a forged token costs the same.
func BenchmarkVerify(b *testing.B) {
	text := bytes.Repeat([]byte("x"), 300)
	for _, s := range newSigners(b) {
		for alg := RS256; alg <= HS512; alg++ {
			key := s.key(alg)
			if key == nil || s.name == "another RSA key" {
				continue
			}
			signature := s.sign(b, alg, text)
			b.Run(alg.String(), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if !key.Verify(text, signature) {
						b.Fatal("refused")
					}
				}
			})
		}
	}
}
