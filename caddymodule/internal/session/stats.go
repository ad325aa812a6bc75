package session

import "time"

// Stats are the connections of one messenger.
type Stats struct {
	Open    int
	Oldest  time.Time // when the oldest of them was opened
	NextEnd time.Time // the next deadline; zero if none has one
}

// Stats returns the counts of every messenger that has open connections.
func (t *Tracker) Stats() map[string]Stats {
	all := make(map[string]Stats)
	t.each("", func(h *shard) { h.count(all) })
	return all
}

// Open returns the number of connections of every messenger that has any. It costs less than Stats.
func (t *Tracker) Open() map[string]int {
	open := make(map[string]int)
	t.each("", func(h *shard) {
		for name, m := range h.messengers {
			open[name] += m.count
		}
	})
	return open
}

// IsBusy reports whether there are connections, including those that are being ended.
func (t *Tracker) IsBusy() bool { return len(t.Open()) > 0 || t.closing.Load() > 0 }

// OpenAt returns how many connections of one messenger are open.
func (t *Tracker) OpenAt(messenger string) (n int) {
	t.each("", func(h *shard) {
		if m := h.messengers[messenger]; m != nil {
			n += m.count
		}
	})
	return n
}

// Has reports whether a contact has at least n connections.
func (t *Tracker) Has(messenger, identity string, n int) bool {
	h := t.shardOf(identity)
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.messengers[messenger]
	return m != nil && m.first[identity].isFollowedBy(n-1)
}

// IsBeyond reports whether its contact has at least n connections that were added before this one. If several are added at once, it
// reports false for at most n of them.
func (s *Session) IsBeyond(n int) bool {
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	return s.index > untracked && s.isFollowedBy(n)
}

// Ending returns how s is being ended, or false if it is not. It does so from before End of its [Ender] is called.
func (s *Session) Ending() (ending Ending, ok bool) {
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	return s.ending, s.index == closing
}

// isFollowedBy reports whether at least n older connections of the same contact come after s.
func (s *Session) isFollowedBy(n int) bool {
	for ; s != nil && n > 0; n-- {
		s = s.next
	}
	return s != nil
}

func (h *shard) count(all map[string]Stats) {
	for name, m := range h.messengers {
		stats := all[name]
		stats.Open += m.count
		for _, first := range m.first {
			for s := first; s != nil; s = s.next {
				stats.Oldest = earlier(stats.Oldest, s.opened)
				if s.due != 0 {
					stats.NextEnd = earlier(stats.NextEnd, s.due)
				}
			}
		}
		all[name] = stats
	}
}

func earlier(t time.Time, nanoseconds int64) time.Time {
	if other := time.Unix(0, nanoseconds); t.IsZero() || other.Before(t) {
		return other
	}
	return t
}
