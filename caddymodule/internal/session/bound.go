package session

import (
	"container/heap"
	"time"
)

// A key can get an expiry while connections are open that were opened with it: the validation method of a messenger was changed, and the
// previous method is used until a stated time. The connections keep their own deadlines as well, because the expiry of a key can be
// postponed.

// A Bound is the expiry of the key of a connection.
type Bound struct {
	Deadline      // of the key, with the ending Revoked; zero if it does not expire
	Unknown  bool // nothing is known about the key: an earlier Bound stays
}

// BoundAll gives the connections of a messenger the deadlines of their keys, each in addition to its own.
func (t *Tracker) BoundAll(messenger string, of func(Subject) Bound) {
	t.each("", func(h *shard) {
		if m := h.messengers[messenger]; m != nil {
			for _, s := range m.first {
				for ; s != nil; s = s.next {
					h.bound(s, of(s.subject), t.opened.Add(1))
				}
			}
			h.arm()
		}
	})
}

// Bound gives one connection the deadline of its key, in addition to its own.
func (s *Session) Bound(b Bound) {
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	s.shard.bound(s, b, s.tracker.opened.Add(1))
	s.shard.arm()
}

// bound sets when s is due, if it is still tracked. The caller holds mu, and calls arm.
func (h *shard) bound(s *Session, b Bound, n uint64) {
	if s.index <= untracked || b.Unknown {
		return
	}
	due := s.own
	s.byKey = false
	if !b.To.IsZero() {
		if end := b.spread(time.Now(), n); due == 0 || end < due {
			due, s.byKey = end, true
		}
	}
	s.due = due
	switch {
	case s.index == notDue && due != 0:
		heap.Push(&h.due, s)
	case s.index != notDue && due == 0:
		heap.Remove(&h.due, s.index)
		s.index = notDue
	case s.index != notDue:
		heap.Fix(&h.due, s.index)
	}
}
