package authn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
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
	// algorithms returns the accepted algorithms. It does not depend on the current keys, but on whether the previous method is still
	// used.
	algorithms() sigkey.Algorithms

	// candidates returns the keys that may have signed a token with this header, and the version of their set. It never waits. It
	// answers [KeyUnknown] if no key fits, and [KeysUnavailable] if it cannot tell, because there is no set that can be trusted.
	candidates(h header) (keys []*sigkey.Key, version uint64, rej *Rejection)

	// current returns the set that is active at this instant, and its version; nil if no set can be trusted. A key that verified a
	// token still verifies it while the version is the same, until the key expires.
	current(now time.Time) (set *KeySet, version uint64)

	// renew is called for a token with this header that no key of that version verifies. It reports whether the caller should try a
	// newer version, and may wait for one.
	renew(ctx context.Context, h header, version uint64) renewal

	// active returns all keys that verify tokens right now.
	active() []*sigkey.Key
}

// A renewal is the outcome of [Keys.renew].
type renewal int

const (
	notRenewed    renewal = iota // the keys are up to date: the token stays refused
	renewed                      // there are newer keys to try
	renewalFailed                // it is unknown whether there are newer keys
	undecidable                  // the keys of one of two methods are not known, so the token cannot be decided
)

// A KeySet is a fixed set of keys, each with its algorithm.
type KeySet struct {
	keys        []*sigkey.Key
	byAlgorithm map[sigkey.Algorithm]*keySelection
	expires     bool // whether any key expires
}

// A keySelection has the keys of one algorithm.
type keySelection struct {
	keys  []*sigkey.Key
	byKID map[string][]*sigkey.Key // for each kid of a key: the keys with it, then those without a kid
	noKID []*sigkey.Key
}

// ErrTwoAlgorithms is the error for a key that should verify with two algorithms. Signatures for one algorithm could help an attacker
// against the other.
var ErrTwoAlgorithms = errors.New("one key is given with two algorithms; make a key of its own for each (RFC 8725 section 3.1)")

// NewKeySet returns the set of the given keys, which must all be of one method and have kids that differ.
func NewKeySet(keys ...*sigkey.Key) (*KeySet, error) {
	if len(keys) == 0 {
		return nil, errors.New("no key is given")
	}
	if len(keys) > maxKeys {
		return nil, fmt.Errorf("%d keys are given; a messenger accepts at most %d", len(keys), maxKeys)
	}
	kids := make(map[string]bool)
	for i, k := range keys {
		if k.IsAsymmetric() != keys[0].IsAsymmetric() {
			return nil, errors.New("keys of different methods cannot be mixed")
		}
		if slices.ContainsFunc(keys[:i], k.HasOtherAlgorithm) {
			return nil, ErrTwoAlgorithms
		}
		if k.KeyID() != "" && kids[k.KeyID()] {
			return nil, errors.New("two keys have the same kid; give each key a kid of its own")
		}
		kids[k.KeyID()] = true
	}
	return newKeySet(keys), nil
}

// newKeySet returns the set of the given keys, which the caller has checked.
func newKeySet(keys []*sigkey.Key) *KeySet {
	s := &KeySet{keys: keys, byAlgorithm: make(map[sigkey.Algorithm]*keySelection)}
	for _, k := range keys {
		s.expires = s.expires || !k.End().IsZero()
		of := s.byAlgorithm[k.Algorithm()]
		if of == nil {
			of = &keySelection{byKID: make(map[string][]*sigkey.Key)}
			s.byAlgorithm[k.Algorithm()] = of
		}
		of.keys = append(of.keys, k)
		if k.KeyID() == "" {
			of.noKID = append(of.noKID, k)
		}
	}
	for _, k := range keys {
		if k.KeyID() != "" {
			of := s.byAlgorithm[k.Algorithm()]
			of.byKID[k.KeyID()] = append(of.byKID[k.KeyID()], k)
		}
	}
	for _, of := range s.byAlgorithm {
		for kid, named := range of.byKID {
			of.byKID[kid] = append(named, of.noKID...)
		}
	}
	return s
}

// equal reports whether s and other verify the same tokens.
func (s *KeySet) equal(other *KeySet) bool {
	return slices.EqualFunc(s.keys, other.keys, func(a, b *sigkey.Key) bool {
		return a.Same(b) && a.KeyID() == b.KeyID() && a.End().Equal(b.End())
	})
}

func (s *KeySet) algorithms() (set sigkey.Algorithms) {
	for alg := range s.byAlgorithm {
		set |= sigkey.AlgorithmsOf(alg)
	}
	return set
}

func (s *KeySet) active() []*sigkey.Key { return s.withoutExpired(s.keys) }

func (s *KeySet) candidates(h header) ([]*sigkey.Key, uint64, *Rejection) {
	keys, _ := s.match(h)
	keys, rej := limitCandidates(s.withoutExpired(keys))
	return keys, 0, rej
}

func (s *KeySet) withoutExpired(keys []*sigkey.Key) []*sigkey.Key {
	if !s.expires {
		return keys
	}
	now := time.Now()
	return slices.DeleteFunc(slices.Clone(keys), func(k *sigkey.Key) bool { return k.Expired(now) })
}

func (s *KeySet) current(time.Time) (*KeySet, uint64) { return s, 0 }

func (s *KeySet) renew(context.Context, header, uint64) renewal { return notRenewed }

// match returns the keys that fit h: of those with its algorithm, the ones with its kid and those without a kid, or all if h does
// not have one. known reports whether a key has the algorithm and the kid.
func (s *KeySet) match(h header) (keys []*sigkey.Key, known bool) {
	of := s.byAlgorithm[h.algorithm]
	if of == nil {
		return nil, !h.hasKID
	}
	if !h.hasKID {
		return of.keys, true
	}
	if keys, known = of.byKID[h.kid]; known {
		return keys, true
	}
	return of.noKID, false
}

func limitCandidates(keys []*sigkey.Key) ([]*sigkey.Key, *Rejection) {
	switch {
	case len(keys) == 0:
		return nil, reject(KeyUnknown, "no active key of the token's algorithm has its kid")
	case keys[0].IsAsymmetric() && len(keys) > maxCandidates:
		return nil, reject(KeyUnknown, "more than four keys could have signed the token; sign with a kid, and configure it with the key")
	}
	return keys, nil
}

// KeyIDs returns the IDs of the keys, also of those that have expired.
func KeyIDs(keys Keys) map[string]bool {
	ids := make(map[string]bool)
	if set, _ := keys.current(time.Now()); set != nil {
		for _, k := range set.keys {
			ids[k.ID()] = true
		}
	}
	return ids
}

// shareKeys reports whether a and b have a key in common, or take theirs from one URL, so that a token for one messenger would be
// valid for the other.
func shareKeys(a, b Keys) bool {
	if t, ok := a.(*transition); ok {
		return shareKeys(t.now, b) || !t.isOver(time.Now()) && shareKeys(t.before, b)
	}
	if t, ok := b.(*transition); ok {
		return shareKeys(t, a)
	}
	if a, ok := a.(*JWKS); ok {
		b, ok := b.(*JWKS)
		return ok && a.settings.URL == b.settings.URL && a.algorithms().Overlaps(b.algorithms())
	}
	for _, k := range a.active() {
		if slices.ContainsFunc(b.active(), k.Same) {
			return true
		}
	}
	return false
}

// MaxRing is how many shared tokens a ring can have. A node allows fewer, but several nodes may make tokens at the same instant.
const MaxRing = 32

// NewRing returns the set of the given shared tokens of one algorithm, at most MaxRing. A ring may be empty, because a messenger
// exists before its first shared token is generated. Every token is then refused with [KeysUnavailable].
func NewRing(alg sigkey.Algorithm, tokens ...*sigkey.Key) (Keys, error) {
	if len(tokens) == 0 {
		return emptyRing{alg}, nil
	}
	if len(tokens) > MaxRing {
		return nil, fmt.Errorf("%d shared tokens are given, and a ring takes at most %d", len(tokens), MaxRing)
	}
	return newKeySet(tokens), nil
}

type emptyRing struct{ alg sigkey.Algorithm }

func (r emptyRing) algorithms() sigkey.Algorithms { return sigkey.AlgorithmsOf(r.alg) }
func (emptyRing) active() []*sigkey.Key           { return nil }

func (emptyRing) candidates(header) ([]*sigkey.Key, uint64, *Rejection) {
	return nil, 0, reject(KeysUnavailable, "no shared token has been generated for this messenger, or its store cannot be read")
}

func (emptyRing) current(time.Time) (*KeySet, uint64)           { return nil, 0 }
func (emptyRing) renew(context.Context, header, uint64) renewal { return notRenewed }
