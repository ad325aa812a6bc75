package registry

import (
	"net/http"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
)

// What this node does with its knowledge if it could not read the store for long.

var (
	errAway    = apierror.New(http.StatusServiceUnavailable, "this node could not read the store for weeks; try again when it has")
	errDropped = apierror.New(http.StatusServiceUnavailable, "this node could not read the store for weeks, and reads it again now; try again")
)

// A storeHealth says what is too old, as far as this node can see.
type storeHealth struct {
	stale  atomic.Bool  // the store could not be read for longer than store_max_age
	maxAge atomic.Int64 // nanoseconds; 0 for none
}

// UseMaxAge makes messengers answer keys_unavailable after the store could not be read for so long; 0 for never.
func (reg *Registry) UseMaxAge(d time.Duration) { reg.Store.health.maxAge.Store(int64(d)) }

// isStale reports whether the store could not be read for longer than store_max_age, or what it has of this messenger.
func (s *Store) isStale(j *ledger.Journal) bool {
	if s.health.stale.Load() {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unread[messengerKey{j.Name, j.Kind}].stale
}

// A messengerKey tells a configured messenger from a stored one of the same name.
type messengerKey struct{ name, kind string }

// An unread messenger is one of which the storage has something that this node could not read.
type unread struct {
	since time.Time // when the store could be read last
	stale bool      // that is longer ago than store_max_age
}

// isOlder reports whether it is longer ago than d, by one of the two clocks.
func isOlder(since time.Time, d time.Duration) bool {
	return max(time.Since(since), Now().Round(0).Sub(since.Round(0))) > d
}

// checkAge applies store_max_age.
func (s *Store) checkAge(was *healthSeen) {
	maxAge := time.Duration(s.health.maxAge.Load())
	status := s.status.Load()
	since := status.Polled
	if since.IsZero() {
		since = was.started
	}
	stale := maxAge > 0 && status.Err != nil && isOlder(since, maxAge)
	changed := s.health.stale.Swap(stale) != stale
	if changed && stale {
		s.log().Error("the store could not be read for longer than store_max_age; messengers answer keys_unavailable until it can", zap.Duration("store_max_age", maxAge))
	}
	names := s.unreadFor(maxAge)
	if changed {
		names = s.names()
	}
	for _, name := range names {
		s.applyAgain(name)
	}
}

// unreadFor returns the names that are unread for longer than maxAge since the last call, or not any more.
func (s *Store) unreadFor(maxAge time.Duration) (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for of, u := range s.unread {
		if stale := maxAge > 0 && isOlder(u.since, maxAge); stale != u.stale {
			s.unread[of] = unread{u.since, stale}
			names = append(names, of.name)
		}
	}
	return names
}

// recordRead records whether a messenger could be read.
func (s *Store) recordRead(name, kind string, err error) {
	of := messengerKey{name, kind}
	s.mu.Lock()
	u, before := s.unread[of]
	if err == nil {
		delete(s.unread, of)
	} else if !before {
		since := s.status.Load().Polled
		if since.IsZero() {
			since = Now()
		}
		s.unread[of] = unread{since: since}
	}
	s.mu.Unlock()
	if err == nil && u.stale {
		s.applyAgain(name)
	}
}

// applyAgain makes active everything that is known about a name, or that nothing is.
func (s *Store) applyAgain(name string) {
	for _, j := range s.held(name) {
		_, _ = s.apply(j, everything) // an error makes the messenger unavailable
	}
}

// endPolling forgets when the store was read, for a configuration that does not ask.
func (s *Store) endPolling() {
	s.polling.Lock()
	defer s.polling.Unlock()
	s.status.Store(new(storeStatus))
	s.checkAge(new(healthSeen))
}

// newJournal returns a journal that has read nothing.
func (s *Store) newJournal(name, kind string) *ledger.Journal {
	j := ledger.New(name, kind)
	j.Epoch = s.epoch.Load()
	return j
}

// isDropped reports whether this node has dropped what it knew since it began to read the journal. A journal that is in use in another
// goroutine at that moment is not used for anything afterwards.
func (s *Store) isDropped(j *ledger.Journal) bool { return j.Epoch != s.epoch.Load() }

// isAway reports whether this node could not read the store for so long that others may have forgotten the deletion of a messenger, or what
// ended a token.
func (s *Store) isAway() bool {
	polled := s.status.Load().Polled
	return !polled.IsZero() && Now().Round(0).Sub(polled.Round(0)) >= ledger.KeepDeletion-2*ledger.KeepUseless
}

// dropIfAway drops what this node knows if isAway, and reports whether it did. Configured messengers are read again before they serve.
func (s *Store) dropIfAway() bool {
	if !s.isAway() {
		return false
	}
	s.mu.Lock()
	s.epoch.Add(1)
	pinned, owned := s.pinned, s.owned
	s.pinned, s.owned = make(map[string]*storedEntry), make(map[string]*ledger.Journal)
	for name := range owned {
		s.makeConfiguredUnknown(name)
	}
	s.mu.Unlock()
	s.stored.InvalidateAll()
	s.absent.InvalidateAll()
	for name, j := range owned {
		s.dropOwned(j)
		s.readAgain(name, forever)
	}
	for _, e := range pinned {
		e.release()
	}
	return true
}

// dropOwned is called for a journal that was dropped: it may have been about to become active.
func (s *Store) dropOwned(j *ledger.Journal) {
	j.Applying.Lock()
	s.mu.Lock()
	if s.owned[j.Name] == nil {
		s.makeConfiguredUnknown(j.Name)
	}
	s.mu.Unlock()
	j.Applying.Unlock()
	s.applyAgain(j.Name) // it was begun again meanwhile
}
