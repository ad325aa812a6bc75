package authn

import (
	"context"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jws"
)

const (
	maxKeys = 10 // keys of one messenger

	// maxCandidates is how many RSA verifications one token may cost us, including those after a fetch that it caused. A token
	// without a kid is tried with all keys, and anyone can send one.
	maxCandidates = 4
)

// Keys are what one messenger trusts: a [KeySet] from the configuration or the store, a [JWKS] from a URL, or an empty ring. The
// set of implementations is closed, because each of them decides which signatures are accepted.
type Keys interface {
	// algorithm is the one that every token must have in its header.
	algorithm() string

	// candidates returns the keys that may have signed a token with this header, and the version of their set. It never waits. It
	// answers [KeyUnknown] if no key fits, and [KeysUnavailable] if it cannot tell, because there is no set that can be trusted.
	candidates(h header) (keys []*Key, version uint64, rej *Rejection)

	// current returns the set that is active at this instant, and its version; nil if no set can be trusted. A key that verified a
	// token still verifies it while the version is the same, until the key expires.
	current(now time.Time) (set *KeySet, version uint64)

	// renew is called for a token with this header that no key of that version verifies. It says whether there is a newer version
	// to try, and may wait for one.
	renew(ctx context.Context, h header, version uint64) renewal

	// active returns all keys that verify tokens right now.
	active() []*Key
}

// A renewal is the outcome of [Keys.renew].
type renewal int

const (
	notRenewed    renewal = iota // the keys are up to date: the token stays refused
	renewed                      // there are newer keys to try
	renewalFailed                // it is unknown whether there are newer keys
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
}

// newSecretKey returns an HS256 key. The caller must not change secret afterwards.
func newSecretKey(secret []byte, kid string) *Key {
	// The fingerprint compares secrets in memory and is never shown.
	return &Key{alg: jwa.HS256, kid: kid, material: secret, fingerprint: sha256.Sum256(secret), macs: new(sync.Pool)}
}

// ExpiringAt returns k as a key that expires at that instant: the previous key of a rotation with an overlap.
func (k *Key) ExpiringAt(end time.Time) *Key {
	expiring := *k
	expiring.end = end
	return &expiring
}

func (k *Key) expired(now time.Time) bool { return !k.end.IsZero() && !now.Before(k.end) }

// Same reports whether k and other are the same key, even if their kids or ends differ.
func (k *Key) Same(other *Key) bool { return k.alg == other.alg && k.fingerprint == other.fingerprint }

// ID identifies the key: two keys are the same exactly if their IDs are. For a public key it is the SHA-256 that operators see;
// that of a secret is for comparing in memory and is never shown. It is interned, because every open connection has one.
func (k *Key) ID() string { return unique.Make(hex.EncodeToString(k.fingerprint[:])).Value() }

func (k *Key) isAsymmetric() bool { return k.alg != jwa.HS256 }

func (k *Key) info() KeyInfo {
	info := KeyInfo{KeyID: k.kid, Algorithm: k.alg.String()}
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

func (k *Key) verify(signed, signature []byte) bool {
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

// A KeySet is a fixed set of keys of one algorithm.
type KeySet struct {
	keys    []*Key
	byKID   map[string][]*Key // for each kid of a key: the keys with it, then those without a kid
	noKID   []*Key
	expires bool // whether some key does
}

// NewKeySet returns the set of the given keys, which must all be of one method and have kids that differ.
func NewKeySet(keys ...*Key) (*KeySet, error) {
	if len(keys) == 0 {
		return nil, errors.New("no key is given")
	}
	if len(keys) > maxKeys {
		return nil, fmt.Errorf("%d keys are given; a messenger accepts at most %d", len(keys), maxKeys)
	}
	kids := make(map[string]bool)
	for _, k := range keys {
		if k.alg != keys[0].alg {
			return nil, errors.New("keys of different methods cannot be mixed")
		}
		if k.kid != "" && kids[k.kid] {
			return nil, errors.New("two keys have the same kid; give each key a kid of its own")
		}
		kids[k.kid] = true
	}
	return newKeySet(keys), nil
}

// newKeySet returns the set of keys that were checked.
func newKeySet(keys []*Key) *KeySet {
	s := &KeySet{keys: keys, byKID: make(map[string][]*Key)}
	for _, k := range keys {
		s.expires = s.expires || !k.end.IsZero()
		if k.kid == "" {
			s.noKID = append(s.noKID, k)
		}
	}
	for _, k := range keys {
		if k.kid != "" {
			s.byKID[k.kid] = append([]*Key{k}, s.noKID...)
		}
	}
	return s
}

// equal reports whether s and other verify the same tokens.
func (s *KeySet) equal(other *KeySet) bool {
	return slices.EqualFunc(s.keys, other.keys, func(a, b *Key) bool {
		return a.Same(b) && a.kid == b.kid && a.end.Equal(b.end)
	})
}

func (s *KeySet) algorithm() string { return s.keys[0].alg.String() }

func (s *KeySet) active() []*Key { return s.withoutExpired(s.keys) }

func (s *KeySet) candidates(h header) ([]*Key, uint64, *Rejection) {
	keys, _ := s.match(h)
	keys, rej := limitCandidates(s.withoutExpired(keys))
	return keys, 0, rej
}

func (s *KeySet) withoutExpired(keys []*Key) []*Key {
	if !s.expires {
		return keys
	}
	now := time.Now()
	return slices.DeleteFunc(slices.Clone(keys), func(k *Key) bool { return k.expired(now) })
}

func (s *KeySet) current(time.Time) (*KeySet, uint64) { return s, 0 }

func (s *KeySet) renew(context.Context, header, uint64) renewal { return notRenewed }

// match returns the keys that fit h: those with its kid and those without a kid, or all if h does not have one. known reports
// whether a key has the kid.
func (s *KeySet) match(h header) (keys []*Key, known bool) {
	if !h.hasKID {
		return s.keys, true
	}
	if keys, known = s.byKID[h.kid]; known {
		return keys, true
	}
	return s.noKID, false
}

func limitCandidates(keys []*Key) ([]*Key, *Rejection) {
	switch {
	case len(keys) == 0:
		return nil, reject(KeyUnknown, "no active key has the token's kid")
	case keys[0].isAsymmetric() && len(keys) > maxCandidates:
		return nil, reject(KeyUnknown, "more than four keys could have signed the token; sign with a kid, and configure it with the key")
	}
	return keys, nil
}

// Shared reports whether a and b have a key in common, or take theirs from one URL, so that a token for one messenger would be
// valid for the other.
func Shared(a, b Keys) bool {
	if a, ok := a.(*JWKS); ok {
		b, ok := b.(*JWKS)
		return ok && a.settings.URL == b.settings.URL
	}
	for _, k := range a.active() {
		if slices.ContainsFunc(b.active(), k.Same) {
			return true
		}
	}
	return false
}
