package authn

import (
	"context"
	"time"
)

const (
	// renewInterval is the shortest time between two fetches that tokens cause. An attacker can put a new kid into every
	// token, and must not be able to make the gateway flood the key server.
	renewInterval = 10 * time.Second

	// maxWaiting and maxWait bound how many requests wait for such a fetch, and how long.
	maxWaiting = 256
	maxWait    = 5 * time.Second
)

// renew is called for a token that no key of the set with this version verifies. It fetches the set once more where
// that can help: when there is no set, when the token's kid is unknown, or when the token has no kid. Otherwise the
// signature is simply wrong.
//
// All requests share one fetch in renewInterval. A fetch that is under way is used if there is no set yet, or if a token caused it:
// one that the clock caused may bring the set as it was before the token's key was published. Within renewInterval, where no other
// fetch may be started, that one is used too.
func (j *JWKS) renew(ctx context.Context, h header, version uint64) renewal {
	j.mu.Lock()
	now := time.Now()
	s := j.usable(now)
	if s != nil {
		if s.version != version { // replaced since the caller looked
			j.mu.Unlock()
			return renewed
		}
		if _, known := s.set.match(h); known && h.hasKID {
			j.mu.Unlock()
			return notRenewed
		}
	}
	f := j.inflight
	if f == nil || s != nil && !f.byToken {
		switch recently := !j.renewed.IsZero() && now.Sub(j.renewed) < renewInterval; {
		case !recently:
			j.renewed = now
			f = j.beginLocked(&fetch{byToken: true})
		case f == nil:
			s := j.snapshot.Load()
			j.mu.Unlock()
			if s != nil && now.Sub(s.fetched) < renewInterval {
				return notRenewed // the set was fetched a moment ago, so that the key is certainly unknown
			}
			return renewalFailed
		}
	}
	if j.waiting >= maxWaiting {
		j.mu.Unlock()
		return renewalFailed
	}
	j.waiting++
	j.mu.Unlock()
	return j.await(ctx, f)
}

func (j *JWKS) await(ctx context.Context, f *fetch) renewal {
	defer func() {
		j.mu.Lock()
		j.waiting--
		j.mu.Unlock()
	}()
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	select {
	case <-f.done:
		if f.err == nil {
			return renewed
		}
	case <-timer.C:
	case <-ctx.Done():
	}
	return renewalFailed
}
