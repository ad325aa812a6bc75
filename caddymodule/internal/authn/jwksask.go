package authn

import (
	"context"
	"time"
)

// Fetches that people ask for, one of them as often as a button can be pressed. Any number who ask at once share one
// fetch, and further ones begin in turn, no sooner than the rate allows: the key server belongs to a third party. Whoever
// stops waiting ends nothing: the fetch is the engine's, and ends with its time-out or with Close.
const (
	askInterval = time.Second
	askBurst    = 5
)

// Refresh fetches the set at once and waits for the answer, or for that of a fetch that is under way. With distrust the
// set that is there is dropped first, and what a fetch brings that began earlier is thrown away: no token passes until a
// new one was fetched.
func (j *JWKS) Refresh(ctx context.Context, distrust bool) error {
	j.mu.Lock()
	if distrust {
		j.current.Store(nil)
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
		f = j.askLocked()
	}
	j.mu.Unlock()
	select {
	case <-f.done:
		if j.settings.Public {
			return closed(f.err)
		}
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// askLocked begins a fetch as soon as the rate allows, and returns it. The caller holds j.mu.
func (j *JWKS) askLocked() *fetch {
	f := &fetch{done: make(chan struct{})}
	delay := j.asks.Reserve().Delay()
	if delay <= 0 {
		j.beginLocked(f)
		return f
	}
	j.queued = f
	if j.inflight != nil {
		j.inflight.successor = f // only a distrust asks while one is under way
	}
	go func() {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-j.ctx.Done(): // then the fetch fails at once, and no request waits for it
		}
		j.mu.Lock()
		defer j.mu.Unlock()
		j.queued = nil
		j.beginLocked(f)
	}()
	return f
}
