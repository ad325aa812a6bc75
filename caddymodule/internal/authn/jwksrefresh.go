package authn

import (
	"context"
	"time"
)

// Operators can request a fetch as often as they can press a button, and the key server belongs to a third party. So requests
// that come together share one fetch, and further fetches begin in turn, no sooner than this rate allows. The fetch belongs to
// the engine: a caller that stops waiting cancels nothing, and the fetch ends with its time-out or with Close.
const (
	refreshInterval = time.Second
	refreshBurst    = 5
)

// Refresh fetches the set at once and waits for the answer, or for that of a fetch that is under way. With distrust the
// current set is dropped first, and the answer of an earlier fetch is thrown away, because it may bring the distrusted keys
// once more: no token passes until a new set was fetched.
func (j *JWKS) Refresh(ctx context.Context, distrust bool) error {
	j.mu.Lock()
	if distrust {
		j.snapshot.Store(nil)
	}
	f := j.queued
	switch {
	case f != nil:
		if distrust && j.inflight != nil {
			j.inflight.successor = f
		}
	case j.inflight != nil && !distrust:
		f = j.inflight
	default:
		f = j.requestLocked()
	}
	j.mu.Unlock()
	select {
	case <-f.done:
		return j.shown(f.err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// requestLocked begins a fetch as soon as the rate allows, and returns it. The caller holds j.mu.
func (j *JWKS) requestLocked() *fetch {
	delay := j.requests.Reserve().Delay()
	if delay <= 0 {
		return j.beginLocked(new(fetch))
	}
	f := &fetch{done: make(chan struct{})}
	j.queued = f
	if j.inflight != nil {
		j.inflight.successor = f // only a distrust requests another while one is under way
	}
	go func() {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-j.ctx.Done(): // the fetch then fails at once, and its waiters get the error
		}
		j.mu.Lock()
		defer j.mu.Unlock()
		j.queued = nil
		j.beginLocked(f)
	}()
	return f
}
