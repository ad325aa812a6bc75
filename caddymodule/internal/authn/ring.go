package authn

import (
	"context"
	"fmt"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/sigkey"
)

// MaxRing is how many shared tokens a ring can have. Fewer can be made, but several nodes may make some at the same instant.
const MaxRing = 32

// NewRing returns the set of the given shared tokens of one algorithm, at most MaxRing. A ring may be empty, since a messenger exists before its
// first shared token was generated. Every token is then refused with [KeysUnavailable].
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
