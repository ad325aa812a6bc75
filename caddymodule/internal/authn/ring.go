package authn

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
)

// MaxRing is how many shared tokens a ring can have. Fewer can be made, but several nodes may make some at the same instant.
const MaxRing = 32

// NewRing returns the set of the given shared tokens, at most MaxRing. A ring may be empty, since a messenger exists before its
// first shared token was generated. Every token is then refused with [KeysUnavailable].
func NewRing(tokens ...*Key) (Keys, error) {
	if len(tokens) == 0 {
		return emptyRing{}, nil
	}
	if len(tokens) > MaxRing {
		return nil, fmt.Errorf("%d shared tokens are given, and a ring takes at most %d", len(tokens), MaxRing)
	}
	return newKeySet(tokens), nil
}

type emptyRing struct{}

func (emptyRing) algorithm() string { return jwa.HS256.String() }
func (emptyRing) active() []*Key    { return nil }

func (emptyRing) candidates(header) ([]*Key, uint64, *Rejection) {
	return nil, 0, reject(KeysUnavailable, "no shared token has been generated for this messenger, or its store cannot be read")
}

func (emptyRing) current(time.Time) (*KeySet, uint64)           { return nil, 0 }
func (emptyRing) renew(context.Context, header, uint64) renewal { return notRenewed }

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
