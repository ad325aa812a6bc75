// Package sigkey has the keys that verify signatures: what a key is, the algorithm that it is bound to, and every form in which
// people and key servers write keys.
//
// Every key has exactly one algorithm, which is fixed when the key is read (RFC 8725 section 3.1); a token never chooses. A key whose
// type the algorithm does not fit is never made. The package knows nothing of tokens, messengers or where keys come from.
//
// Begin reading with [Key] and [Algorithm].
package sigkey

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/rsaverify"
)

// A Key is one verification key. Its algorithm was fixed when it was loaded.
type Key struct {
	alg         Algorithm
	kid         string // "" if the key has none
	material    any    // *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey or []byte, as the algorithm wants it
	fingerprint [sha256.Size]byte
	end         time.Time     // when it expires; zero if it does not
	issuer      string        // the iss that every token must have which it verifies; "" for any
	used        *atomic.Int64 // the hour of its last use since 1970; nil if that is not recorded

	// What prepare makes of these.
	size     int            // of every signature, in bytes
	prepared *rsaverify.Key // for RS256, RS384 and RS512
	macs     *sync.Pool     // of *keyedHash, for secrets

	Note string // what the operator should know about how it was read, or ""
}

// newSecretKey returns the key of a secret. The caller must not change secret afterwards.
func newSecretKey(secret []byte, kid string, alg Algorithm) *Key {
	// The fingerprint compares secrets in memory and is never shown.
	k := &Key{alg: alg, kid: kid, material: secret, fingerprint: sha256.Sum256(withoutPadding(secret, alg)), macs: new(sync.Pool)}
	k.prepare()
	return k
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
func (k *Key) SignatureSize() int { return k.size }

// Algorithm returns the algorithm of k.
func (k *Key) Algorithm() Algorithm { return k.alg }

// IssuedBy returns k as a key that verifies only tokens with this iss: a key that was found through an issuer is trusted for that
// issuer alone.
func (k *Key) IssuedBy(issuer string) *Key {
	bound := *k
	bound.issuer = issuer
	return &bound
}

// Issuer returns the iss that every token must have which k verifies, or "" for any.
func (k *Key) Issuer() string { return k.issuer }

// VerifiesAllOf reports whether k verifies every token that other verifies: both are the same key, and k is bound to no kid, time or
// issuer to which other is not.
func (k *Key) VerifiesAllOf(other *Key) bool {
	return k.Same(other) && (k.kid == other.kid || k.kid == "") && (k.end.IsZero() || k.end.Equal(other.end)) && (k.issuer == other.issuer || k.issuer == "")
}

// Expired reports whether k has expired.
func (k *Key) Expired(now time.Time) bool { return !k.end.IsZero() && !now.Before(k.end) }

// Same reports whether k and other are the same key with the same algorithm, even if their kids or ends differ.
func (k *Key) Same(other *Key) bool { return k.alg == other.alg && k.fingerprint == other.fingerprint }

// HasOtherAlgorithm reports whether k and other are the same key with different algorithms, as no two keys may be that verify for one
// messenger (RFC 8725 section 3.1).
func (k *Key) HasOtherAlgorithm(other *Key) bool {
	return k.fingerprint == other.fingerprint && k.alg != other.alg
}

// ID identifies the key with its algorithm: two are the same exactly if their IDs are. It is for comparing in memory and is never
// shown. It is interned, because every open connection has one.
func (k *Key) ID() string {
	return unique.Make(k.alg.String() + ":" + hex.EncodeToString(k.fingerprint[:])).Value()
}

// IsAsymmetric reports whether a verification with k costs as much as the cryptography of public keys does.
func (k *Key) IsAsymmetric() bool { return !k.alg.IsSymmetric() }

// An Info describes an active key. It contains nothing that helps to guess a secret.
type Info struct {
	KeyID     string `json:"kid,omitempty"`
	Algorithm string `json:"alg"`
	Bits      int    `json:"bits"`             // of the modulus, the curve, or the secret
	SHA256    string `json:"sha256,omitempty"` // of the public key as PKIX DER, in hexadecimal; "" for a secret
}

// Info describes k.
func (k *Key) Info() Info {
	info := Info{KeyID: k.kid, Algorithm: k.alg.String(), SHA256: hex.EncodeToString(k.fingerprint[:])}
	switch material := k.material.(type) {
	case *rsa.PublicKey:
		info.Bits = material.N.BitLen()
	case *ecdsa.PublicKey:
		info.Bits = material.Curve.Params().BitSize
	case ed25519.PublicKey:
		info.Bits = 8 * ed25519.PublicKeySize
	case []byte:
		info.Bits, info.SHA256 = 8*len(material), ""
	}
	return info
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
