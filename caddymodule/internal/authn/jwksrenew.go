package authn

import (
	"context"
	"time"
)

const (
	// renewInterval is the shortest time between two fetches that requests cause.
	renewInterval = 10 * time.Second

	// maxWaiting and maxWait bound how many requests wait for such a fetch, and how long.
	maxWaiting = 256
	maxWait    = 5 * time.Second
)

// renew is called for a token that no key of the set with this version verifies. It fetches the set once more where
// that can help: when there is no set, when the token's kid is unknown, or when the token has no kid. Otherwise the
// signature is simply wrong.
//
// Anyone can make up a kid, so all requests share one fetch in ten seconds, and a bounded number of them waits. A fetch
// that is under way serves them only if there is no set yet, or if a token caused it: one that the clock caused may bring
// the set as it was before the token's key was published.
func (j *JWKS) renew(ctx context.Context, h header, version uint64) renewal {
	j.mu.Lock()
	now := time.Now()
	s := j.usable(now)
	if s != nil {
		if s.version != version {
			j.mu.Unlock()
			return renewed
		}
		if _, known := s.set.match(h); known && h.hasKID {
			j.mu.Unlock()
			return notRenewed
		}
	}
	f := j.inflight
	if f == nil || s != nil && !f.asked {
		switch recently := !j.asked.IsZero() && now.Sub(j.asked) < renewInterval; {
		case !recently:
			j.asked = now
			f = j.fetchLocked(true)
			f.asked = true
		case f == nil:
			s := j.current.Load()
			j.mu.Unlock()
			if s != nil && now.Sub(s.fetched) < renewInterval {
				return notRenewed
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
