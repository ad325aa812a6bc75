// Package recent has a [Map] of bounded size, which evicts the entries that were not used for the longest time.
//
// It knows the standard library only, and nothing about the meaning of the entries. Begin reading with [Map].
package recent

import (
	"hash/maphash"
	"sync"
)

// shards is the number of locks of a Map, so that requests of different contacts rarely wait for each other.
const shards = 64

// A Map is a map with a limited size. Each shard has two generations: using an entry moves it to the younger one. When that is full, it
// replaces the older one. So an entry is evicted only after a whole generation of others was used, and eviction costs nothing. A Map is
// safe for concurrent use.
type Map[K comparable, V any] struct {
	limit  int // of one generation of a shard
	seed   maphash.Seed
	shards [shards]shard[K, V]
}

type shard[K comparable, V any] struct {
	mu           sync.Mutex
	young, old   map[K]entry[V]
	size, before int // of the two
	_            [64]byte
}

type entry[V any] struct {
	value V
	size  int
}

// New returns a map whose entries have at most this size together, in the unit of the sizes that Add gets.
func New[K comparable, V any](size int) *Map[K, V] {
	return &Map[K, V]{limit: max(1, size/shards/2), seed: maphash.MakeSeed()}
}

func (m *Map[K, V]) shardOf(part string) *shard[K, V] {
	return &m.shards[maphash.String(m.seed, part)%shards]
}

// Get returns the value of key. part is a part of the key; it chooses the shard.
func (m *Map[K, V]) Get(part string, key K) (V, bool) {
	s := m.shardOf(part)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, found := s.young[key]
	if !found {
		if e, found = s.old[key]; found {
			s.before -= e.size
			delete(s.old, key)
			m.put(s, key, e)
		}
	}
	return e.value, found
}

// Add sets the value of key, unless it has one for which keep returns true. It returns the value that key has then. key must not be part
// of a larger string, which would stay in memory with it.
func (m *Map[K, V]) Add(part string, key K, value V, size int, keep func(V) bool) V {
	s := m.shardOf(part)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, found := s.young[key]; found {
		if keep(e.value) {
			return e.value
		}
		s.size -= e.size
	} else if e, found := s.old[key]; found {
		if keep(e.value) {
			return e.value
		}
		s.before -= e.size
		delete(s.old, key)
	}
	m.put(s, key, entry[V]{value, size})
	return value
}

// put adds an entry to the younger generation. The caller holds the lock of s.
func (m *Map[K, V]) put(s *shard[K, V], key K, e entry[V]) {
	if s.size+e.size > m.limit && len(s.young) > 0 {
		delete(s.young, key)
		s.old, s.before = s.young, s.size
		s.young, s.size = nil, 0
	}
	if s.young == nil {
		s.young = make(map[K]entry[V])
	}
	s.young[key] = e
	s.size += e.size
}

// Len returns the number of entries.
func (m *Map[K, V]) Len() (n int) {
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		n += len(s.young) + len(s.old)
		s.mu.Unlock()
	}
	return n
}
