// Package rsaverify verifies RSA signatures of PKCS #1 v1.5 (RFC 8017 section 8.2) with keys that are prepared once.
//
// crypto/rsa computes the constants of Montgomery's multiplication for every signature, which is a third of the work. A
// gateway verifies many signatures with few keys, so they are computed here when a key is loaded. The arithmetic is that of
// filippo.io/bigmod, which is the package that crypto/rsa itself uses, published by its author.
//
// Everything here works on public values, so that nothing has to take the same time for all inputs.
//
// It does not know tokens or the algorithms of JWTs: it gets a key, a hash and a signature.
//
// Begin reading with [New] and [Key.Verify].
package rsaverify

import (
	"bytes"
	"crypto"
	"crypto/fips140"
	"crypto/rsa"
	"encoding/binary"
	"math/bits"
	"sync"

	"filippo.io/bigmod"
)

// Keys of other sizes or with another exponent are left to crypto/rsa: they are rare, and these bounds limit the cases to be tested.
const (
	minBits  = 2048
	maxBits  = 4096
	exponent = 65537
)

// digestInfos are the DER encodings of DigestInfo up to the digest (RFC 8017 section 9.2, note 1).
var digestInfos = map[crypto.Hash][]byte{
	crypto.SHA256: {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
	crypto.SHA384: {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
	crypto.SHA512: {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40},
}

// A Key verifies the signatures of one public key with one hash. It is safe for concurrent use.
type Key struct {
	public *rsa.PublicKey
	hash   crypto.Hash

	modulus *bigmod.Modulus // nil if crypto/rsa verifies
	encoded []byte          // the only valid encoded message, with zeros for the digest
	scratch sync.Pool       // of *scratch
}

// scratch is the memory of one verification.
type scratch struct {
	signature, message *bigmod.Nat
	encoded            []byte
}

// New prepares public, which must be sound, for signatures over digests of hash: SHA-256, SHA-384 or SHA-512.
//
// In FIPS 140 mode all work is left to crypto/rsa, which is part of the validated module; bigmod is not.
func New(public *rsa.PublicKey, hash crypto.Hash) *Key {
	k := &Key{public: public, hash: hash}
	info := digestInfos[hash]
	length := public.N.BitLen()
	if fips140.Enabled() || info == nil || public.E != exponent || length < minBits || length > maxBits || public.N.Bit(0) == 0 {
		return k
	}
	modulus, err := bigmod.NewModulus(public.N.Bytes())
	if err != nil {
		return k // crypto/rsa reports the error
	}
	k.modulus, k.encoded = modulus, encode(public.Size(), info, hash.Size())
	return k
}

// encode is EMSA-PKCS1-v1_5 (RFC 8017 section 9.2) without the digest.
func encode(size int, info []byte, digest int) []byte {
	encoded := bytes.Repeat([]byte{0xff}, size)
	encoded[0], encoded[1] = 0, 1
	end := size - digest - len(info)
	encoded[end-1] = 0
	copy(encoded[end:], info)
	clear(encoded[size-digest:])
	return encoded
}

// Verify reports whether signature is one over digest.
//
// The encoded message is compared as a whole with the only one that is valid (RFC 8017 section 8.2.2) and is never parsed: parsers
// that accepted other encodings are how Bleichenbacher forged signatures in 2006. A signature is a number below the modulus in
// exactly as many bytes as the modulus has, so that each has one form.
func (k *Key) Verify(digest, signature []byte) bool {
	if k.modulus == nil {
		return rsa.VerifyPKCS1v15(k.public, k.hash, digest, signature) == nil
	}
	if len(signature) != len(k.encoded) || len(digest) != k.hash.Size() {
		return false
	}
	s, reused := k.scratch.Get().(*scratch)
	if !reused {
		s = &scratch{bigmod.NewNat(), bigmod.NewNat(), make([]byte, len(k.encoded))}
	}
	defer k.scratch.Put(s)
	if _, err := s.signature.SetBytes(signature, k.modulus); err != nil {
		return false // at or above the modulus
	}
	s.message.ExpShortVarTime(s.signature, exponent, k.modulus)
	fillBytes(s.encoded, s.message.Bits())
	end := len(k.encoded) - len(digest)
	return bytes.Equal(s.encoded[:end], k.encoded[:end]) && bytes.Equal(s.encoded[end:], digest)
}

// fillBytes writes a number, whose words are in limbs with the lowest first, as big-endian bytes that fill b.
func fillBytes(b []byte, limbs []uint) {
	const size = bits.UintSize / 8
	for _, limb := range limbs {
		if len(b) >= size {
			putWord(b[len(b)-size:], limb)
			b = b[:len(b)-size]
			continue
		}
		for ; len(b) > 0; limb >>= 8 {
			b[len(b)-1] = byte(limb)
			b = b[:len(b)-1]
		}
	}
	clear(b)
}

func putWord(b []byte, word uint) {
	if bits.UintSize == 64 {
		binary.BigEndian.PutUint64(b, uint64(word))
		return
	}
	binary.BigEndian.PutUint32(b, uint32(word))
}
