package authn

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// A transition has the keys of a messenger whose validation method was changed: those of its method and, until an instant, those
// of the one before. A token is verified with the union of both sets, so that the order of the two does not matter, and no token
// costs more than the limit for one messenger.
//
// The union is made again when one of the two sets has changed, and when the instant has come. Each has a version of its own, by
// which a cache notices that.
type transition struct {
	now, before Keys
	until       time.Time

	mu      sync.Mutex // between those who make a union
	version uint64     // of the newest union
	newest  atomic.Pointer[union]
}

// A union has the keys of both methods at one moment. It never changes.
type union struct {
	set        *KeySet
	version    uint64
	now, prior *KeySet // what it was made of; nil for one that cannot be used
	versions   [2]uint64
	over       bool // the previous method is not used any more
}

// NewTransition returns the keys of a messenger that uses now and, until that instant, also before.
func NewTransition(now, before Keys, until time.Time) Keys {
	return &transition{now: now, before: before, until: until}
}

func (t *transition) isOver(at time.Time) bool { return !at.Before(t.until) }

// union returns the keys at that instant.
func (t *transition) union(at time.Time) *union {
	over := t.isOver(at)
	now, nowVersion := t.now.current(at)
	var prior *KeySet
	var priorVersion uint64
	if !over {
		prior, priorVersion = t.before.current(at)
	}
	versions := [2]uint64{nowVersion, priorVersion}
	fits := func(u *union) bool {
		return u != nil && u.now == now && u.prior == prior && u.versions == versions && u.over == over
	}
	if u := t.newest.Load(); fits(u) {
		return u
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if u := t.newest.Load(); fits(u) {
		return u
	}
	t.version++
	u := &union{set: newKeySet(together(now, prior)), version: t.version, now: now, prior: prior, versions: versions, over: over}
	t.newest.Store(u)
	return u
}

// CheckTransition returns an error if the keys of two methods, as far as they are known, cannot be used together.
func CheckTransition(now, before Keys) error {
	active := now.active()
	former := before.active()
	for _, k := range former {
		if slices.ContainsFunc(active, k.HasOtherAlgorithm) {
			return ErrTwoAlgorithms
		}
	}
	u := newKeySet(together(&KeySet{keys: active}, &KeySet{keys: former}))
	for alg, of := range u.byAlgorithm {
		if n := len(of.noKID); !alg.IsSymmetric() && n > maxCandidates {
			return fmt.Errorf("both methods together have %d keys for %s without a kid, and at most %d are tried for one token; give each key a kid of its own", n, alg, maxCandidates)
		}
	}
	return nil
}

// together returns the keys of both sets, which may be nil. A key that now has with another algorithm is left out of prior; see
// ErrTwoAlgorithms. Key sets from URLs can come to that at any time.
func together(now, prior *KeySet) (keys []*sigkey.Key) {
	if now != nil {
		keys = slices.Clone(now.keys)
	}
	if prior == nil {
		return keys
	}
	for _, k := range prior.keys {
		if slices.ContainsFunc(keys, func(other *sigkey.Key) bool { return other.VerifiesAllOf(k) || other.HasOtherAlgorithm(k) }) {
			continue
		}
		// The same key with fewer conditions, such as one that is bound to an issuer now and was not before, takes the other's place:
		// whichever came first would decide on a token that both verify.
		if i := slices.IndexFunc(keys, k.VerifiesAllOf); i >= 0 {
			keys[i] = k
		} else {
			keys = append(keys, k)
		}
	}
	return keys
}

// undecided returns why the keys of a method that is used are not known, or nil if they are.
func (t *transition) undecided(u *union, h header) *Rejection {
	if u.now == nil && t.now.algorithms().Has(h.algorithm) {
		if _, _, rej := t.now.candidates(h); rej != nil && rej.Code == KeysUnavailable {
			return rej
		}
	}
	if u.prior == nil && !u.over && t.before.algorithms().Has(h.algorithm) {
		if _, _, rej := t.before.candidates(h); rej != nil && rej.Code == KeysUnavailable {
			return rej
		}
	}
	return nil
}

func (t *transition) algorithms() sigkey.Algorithms {
	if t.isOver(time.Now()) {
		return t.now.algorithms()
	}
	return t.now.algorithms() | t.before.algorithms()
}

func (t *transition) candidates(h header) ([]*sigkey.Key, uint64, *Rejection) {
	u := t.union(time.Now())
	keys, _, rej := u.set.candidates(h)
	if rej != nil {
		if undecided := t.undecided(u, h); undecided != nil {
			rej = undecided // the key may be one that is not known
		}
	}
	return keys, u.version, rej
}

func (t *transition) current(now time.Time) (*KeySet, uint64) {
	u := t.union(now)
	return u.set, u.version
}

// renew asks both methods. If one of them cannot say whether it has a newer key, the token stays undecided, unless the other has
// one that fits.
func (t *transition) renew(ctx context.Context, h header, version uint64) renewal {
	u := t.union(time.Now())
	if u.version != version {
		return renewed
	}
	answers := []renewal{notRenewed, notRenewed}
	if t.now.algorithms().Has(h.algorithm) {
		answers[0] = t.now.renew(ctx, h, u.versions[0])
	}
	if !u.over && t.before.algorithms().Has(h.algorithm) {
		answers[1] = t.before.renew(ctx, h, u.versions[1])
	}
	newer := t.union(time.Now())
	switch undecided := t.undecided(newer, h) != nil; {
	case undecided && newer.version == version:
		return undecidable
	case slices.Contains(answers, renewed):
		return renewed
	case undecided:
		return undecidable
	case slices.Contains(answers, renewalFailed):
		return renewalFailed
	}
	return notRenewed
}

func (t *transition) active() []*sigkey.Key {
	at := time.Now()
	keys := t.now.active()
	if t.isOver(at) {
		return keys
	}
	keys = slices.Clip(keys)
	for _, k := range t.before.active() {
		if !slices.ContainsFunc(keys, k.Same) {
			keys = append(keys, k)
		}
	}
	return keys
}
