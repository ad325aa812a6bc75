package sigkey

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"math/big"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/rsaverify"
)

// Verify reports whether k made the signature over these bytes, with its own algorithm. It reads nothing else, and above all no
// header of a token.
//
// Every signature has exactly one form and one length: where there were two, a token that was revoked or remembered in one of them
// would be valid in the other.
func (k *Key) Verify(signed, signature []byte) bool {
	if len(signature) != k.size {
		return false
	}
	var buffer [sha512.Size]byte
	alg := &algorithms[k.alg]
	switch alg.scheme {
	case pkcs1:
		return k.prepared.Verify(digest(buffer[:], alg.hash, signed), signature)
	case pss:
		// RFC 7518 section 3.5: the salt is as long as the hash, and MGF1 uses the same hash.
		options := rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: alg.hash}
		return rsa.VerifyPSS(k.material.(*rsa.PublicKey), alg.hash, digest(buffer[:], alg.hash, signed), signature, &options) == nil
	case ecdsaPlain:
		return verifyECDSA(k.material.(*ecdsa.PublicKey), digest(buffer[:], alg.hash, signed), signature)
	case eddsa:
		// The standard library refuses an S that is not below the order, and an R that is not in its only form.
		return !hasSmallOrder(signature[:ed25519.PublicKeySize]) && ed25519.Verify(k.material.(ed25519.PublicKey), signed, signature)
	case mac:
		return k.verifyMAC(signed, signature)
	}
	return false
}

// digest returns the hash of signed in buffer.
func digest(buffer []byte, hash crypto.Hash, signed []byte) []byte {
	switch hash {
	case crypto.SHA256:
		sum := sha256.Sum256(signed)
		return buffer[:copy(buffer, sum[:])]
	case crypto.SHA384:
		sum := sha512.Sum384(signed)
		return buffer[:copy(buffer, sum[:])]
	default:
		sum := sha512.Sum512(signed)
		return buffer[:copy(buffer, sum[:])]
	}
}

// verifyECDSA takes a signature of r and s as numbers of a fixed length (RFC 7518 section 3.4). Both have to be above zero and below
// the order of the curve: with zeros for both, some libraries accepted any text (CVE-2022-21449).
func verifyECDSA(public *ecdsa.PublicKey, digest, signature []byte) bool {
	half := len(signature) / 2
	r, s := new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:])
	order := public.Curve.Params().N
	if r.Sign() == 0 || s.Sign() == 0 || r.Cmp(order) >= 0 || s.Cmp(order) >= 0 {
		return false
	}
	return ecdsa.Verify(public, digest, r, s)
}

// A keyedHash is an HMAC whose state already contains the secret, which is half of the work for a short token.
type keyedHash struct {
	hash.Hash
	sum [sha512.Size]byte
}

// verifyMAC computes the MAC and compares it in constant time.
func (k *Key) verifyMAC(signed, signature []byte) bool {
	mac, reused := k.macs.Get().(*keyedHash)
	if reused {
		mac.Reset()
	} else {
		mac = &keyedHash{Hash: hmac.New(algorithms[k.alg].hash.New, k.material.([]byte))}
	}
	mac.Write(signed)
	equal := hmac.Equal(mac.Sum(mac.sum[:0]), signature)
	k.macs.Put(mac)
	return equal
}

// prepare computes what every verification with k needs.
func (k *Key) prepare() {
	switch material := k.material.(type) {
	case *rsa.PublicKey:
		k.size = material.Size()
		if alg := algorithms[k.alg]; alg.scheme == pkcs1 {
			k.prepared = rsaverify.New(material, alg.hash)
		}
	case *ecdsa.PublicKey:
		k.size = 2 * ((material.Curve.Params().BitSize + 7) / 8)
	case ed25519.PublicKey:
		k.size = ed25519.SignatureSize
	default:
		k.size = algorithms[k.alg].hash.Size()
	}
}
