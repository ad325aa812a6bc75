package vault

import (
	"sync"
	"time"
)

// A breaker lets writes fail at once while the storage cannot be reached, instead of after the timeout of each. One write at a time
// is still tried. The breaker uses the monotonic clock, because a step of the wall clock must not make the outage longer.
type breaker struct {
	mu    sync.Mutex
	until time.Time // the zero time while the storage works
}

// admit reports whether a new write may be tried, and whether it is the one that finds out if the storage works again.
func (b *breaker) admit() (probe, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.until.IsZero():
		return false, true
	case time.Now().Before(b.until):
		return false, false
	}
	b.until = time.Now().Add(probing)
	return true, true
}

// refuses reports whether writes fail at once.
func (b *breaker) refuses() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.until.IsZero() && time.Now().Before(b.until)
}

// trip makes writes fail at once.
func (b *breaker) trip() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.until = time.Now().Add(outage)
}

// reset lets all writes be tried again.
func (b *breaker) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.until = time.Time{}
}
