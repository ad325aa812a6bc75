package registry

import (
	"maps"
	"slices"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
)

// A stored messenger with open connections stays in memory, whatever other names requests ask for. Its key set is still
// fetched, and revocations, resets and deletions reach its connections. It is pinned when a connection opens, and unpinned
// some time after the last one has closed. An attacker cannot fill the memory this way: a messenger is pinned only if a
// verified contact opens a connection to it.
//
// The users of an entry are counted: the cache, the pinned map, and the goroutine that makes it.

// newEntry returns the entry of a messenger. The caller is its first user, until it calls release.
func newEntry(m *Messenger, j *ledger.Journal, revision string) *storedEntry {
	e := &storedEntry{messenger: m, journal: j, revision: revision}
	e.users.Store(1)
	return e
}

// acquire adds a user, unless the last one has released the entry.
func (e *storedEntry) acquire() bool {
	for {
		n := e.users.Load()
		if n == 0 {
			return false
		}
		if e.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release removes a user. The last one cleans the messenger up.
func (e *storedEntry) release() {
	if e.users.Add(-1) == 0 {
		e.messenger.cleanup()
	}
}

// cached returns the entry of a name that is in memory.
func (s *Store) cached(name string) (*storedEntry, bool) {
	if e, ok := s.stored.GetIfPresent(name); ok && !s.isDropped(e.journal) {
		return e, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.pinned[name]
	return e, ok
}

// cache makes e the entry of name in memory. The caller holds j.Applying.
func (s *Store) cache(name string, e *storedEntry) {
	e.users.Add(1)        // for the cache, which may evict the entry at once
	s.stored.Set(name, e) // first, so that a pin from here on pins e
	s.mu.Lock()
	gone, before := s.pinned == nil || s.isDropped(e.journal), s.pinned[name]
	switch {
	case before == nil:
	case !gone:
		e.users.Add(1)
		s.pinned[name] = e
	case before == e:
		delete(s.pinned, name)
	default:
		before = nil
	}
	s.mu.Unlock()
	s.absent.Invalidate(name)
	if gone {
		s.stored.Invalidate(name) // a request that was still being answered needed it, and Destruct is not called again
	}
	if before != nil {
		before.release()
	}
	e.release() // the use of newEntry's caller
}

// uncache records that no stored messenger has this name. The caller holds j.Applying.
func (s *Store) uncache(name string) {
	s.absent.Set(name, struct{}{})
	s.stored.Invalidate(name)
	s.mu.Lock()
	before := s.pinned[name]
	delete(s.pinned, name)
	s.mu.Unlock()
	s.Uses.Forget(name, ledger.KindStored)
	if before != nil {
		before.release()
	}
}

// pin keeps the stored messenger of that name in memory as long as it has connections, of which the tracker must know one
// already. It returns false if the messenger is not in memory. A released store pins nothing: the configuration after it
// checks all connections that are open.
func (s *Store) pin(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pinned == nil || s.pinned[name] != nil {
		return true
	}
	e, ok := s.stored.GetIfPresent(name)
	if !ok || s.isDropped(e.journal) || !e.acquire() {
		return false
	}
	s.pinned[name] = e
	return true
}

// unpin unpins the messengers without connections, unless nothing but this node has some of their facts.
func (s *Store) unpin() {
	s.mu.Lock()
	idle := make(map[string]*storedEntry)
	if len(s.pinned) > 0 {
		open := Connections.Open() // under mu, so that no connection is added between this and the pin that it needs
		for name, e := range s.pinned {
			if open[name] == 0 && !hasLostFacts(e.journal) {
				idle[name] = e
				delete(s.pinned, name)
			}
		}
	}
	s.mu.Unlock()
	for name, e := range idle {
		e.release()
		if _, ok := s.stored.GetIfPresent(name); !ok {
			s.forgetUses(name)
		}
	}
}

// hasLostFacts reports whether this node has facts of a messenger that the storage has lost.
func hasLostFacts(j *ledger.Journal) bool {
	missing, _ := j.Health()
	return missing > 0
}

// messengers returns the stored messengers that are in memory.
func (s *Store) messengers() []*Messenger {
	all := make(map[*Messenger]bool)
	for e := range s.stored.Values() {
		all[e.messenger] = true
	}
	s.mu.Lock()
	for _, e := range s.pinned {
		all[e.messenger] = true
	}
	s.mu.Unlock()
	return slices.Collect(maps.Keys(all))
}
