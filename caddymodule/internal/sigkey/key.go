// Package sigkey has the keys that verify signatures: what a key is, the algorithm that it is bound to, and every form in which
// people and key servers write keys.
//
// A key is checked when it is read, and its algorithm is fixed then; a token never chooses either. The package knows nothing of
// tokens, messengers or where keys come from. Begin reading with [Key].
package sigkey

import (
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// A Key is one verification key. Its algorithm was fixed when it was loaded.
type Key struct {
	alg         jwa.SignatureAlgorithm
	kid         string // "" if the key has none
	material    any    // *rsa.PublicKey or []byte, as the algorithm wants it
	fingerprint [sha256.Size]byte
	end         time.Time     // when it expires; zero if it does not
	used        *atomic.Int64 // the hour of its last use since 1970; nil if that is not recorded
	macs        *sync.Pool    // of *keyedHash, for HS256

	Note string // what the operator should know about how it was read, or ""
}

// newSecretKey returns an HS256 key. The caller must not change secret afterwards.
func newSecretKey(secret []byte, kid string) *Key {
	// The fingerprint compares secrets in memory and is never shown.
	return &Key{alg: jwa.HS256, kid: kid, material: secret, fingerprint: sha256.Sum256(withoutPadding(secret)), macs: new(sync.Pool)}
}

// ExpiringAt returns k as a key that expires at that instant: the previous key of a rotation with an overlap.
func (k *Key) ExpiringAt(end time.Time) *Key {
	expiring := *k
	expiring.end = end
	return &expiring
}

// End returns when k expires; the zero time if it does not.
func (k *Key) End() time.Time { return k.end }

// KeyID returns the kid of k, or "" if it does not have one.
func (k *Key) KeyID() string { return k.kid }

// SignatureSize returns the length in bytes of every signature that k verifies.
func (k *Key) SignatureSize() int {
	if public, ok := k.material.(*rsa.PublicKey); ok {
		return public.Size()
	}
	return sha256.Size
}

// Algorithm returns the name of the algorithm of k, as tokens have it in their header.
func (k *Key) Algorithm() string { return k.alg.String() }

// Expired reports whether k has expired.
func (k *Key) Expired(now time.Time) bool { return !k.end.IsZero() && !now.Before(k.end) }

// Same reports whether k and other are the same key, even if their kids or ends differ.
func (k *Key) Same(other *Key) bool { return k.alg == other.alg && k.fingerprint == other.fingerprint }

// ID identifies the key: two keys are the same exactly if their IDs are. For a public key it is the SHA-256 that operators see;
// that of a secret is for comparing in memory and is never shown. It is interned, because every open connection has one.
func (k *Key) ID() string { return unique.Make(hex.EncodeToString(k.fingerprint[:])).Value() }

// IsAsymmetric reports whether a verification with k costs as much as the cryptography of public keys does.
func (k *Key) IsAsymmetric() bool { return k.alg != jwa.HS256 }

// A Info describes an active key. It contains nothing that helps to guess a secret.
type Info struct {
	KeyID     string `json:"kid,omitempty"`
	Algorithm string `json:"alg"`
	Bits      int    `json:"bits"`             // of the modulus, or of the secret
	SHA256    string `json:"sha256,omitempty"` // of the public key as PKIX DER, in hexadecimal; "" for a secret
}

// Info describes k.
func (k *Key) Info() Info {
	info := Info{KeyID: k.kid, Algorithm: k.alg.String()}
	switch material := k.material.(type) {
	case *rsa.PublicKey:
		info.Bits, info.SHA256 = material.N.BitLen(), hex.EncodeToString(k.fingerprint[:])
	case []byte:
		info.Bits = 8 * len(material)
	}
	return info
}

// rs256 is jwx's signature primitive. It reads the key and the received bytes, and nothing else: in particular not the header of
// the token, by which jwx's own parsers would let a token choose.
var rs256 = func() jws.Verifier {
	v, err := jws.NewVerifier(jwa.RS256)
	if err != nil {
		panic(err) // impossible: it is built in
	}
	return v
}()

// Verify reports whether k made the signature over these bytes.
func (k *Key) Verify(signed, signature []byte) bool {
	if k.alg == jwa.HS256 {
		return k.verifyHS256(signed, signature)
	}
	return rs256.Verify(signed, signature, k.material) == nil
}

// A keyedHash is HMAC-SHA-256 whose state already contains the secret, which is half of the work for a short token.
type keyedHash struct {
	hash.Hash
	sum [sha256.Size]byte
}

// verifyHS256 computes the MAC and compares it in constant time. jwx does the same, and computes the state anew for every token.
func (k *Key) verifyHS256(signed, signature []byte) bool {
	mac, reused := k.macs.Get().(*keyedHash)
	if reused {
		mac.Reset()
	} else {
		mac = &keyedHash{Hash: hmac.New(sha256.New, k.material.([]byte))}
	}
	mac.Write(signed)
	equal := hmac.Equal(mac.Sum(mac.sum[:0]), signature)
	k.macs.Put(mac)
	return equal
}

// CountingUse returns k as a key that records in hour when it was last used.
func (k *Key) CountingUse(hour *atomic.Int64) *Key {
	counting := *k
	counting.used = hour
	return &counting
}

// Use records that a token which k signed was accepted at that time. Most calls find the hour recorded already and only read,
// so that requests on several processors do not compete for one word of memory.
func (k *Key) Use(now time.Time) {
	if k.used == nil {
		return
	}
	if hour := now.Unix() / 3600; k.used.Load() < hour {
		k.used.Store(hour)
	}
}
