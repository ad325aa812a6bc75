package session

import (
	"container/heap"
	"errors"
	"hash/maphash"
	"math"
	"math/bits"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	shardCount = 16

	// maxEnding is how many connections are ended at a time, and patience how long one of them counts. So a client that does not
	// read delays the end of other connections by no more than patience.
	maxEnding = 64
	patience  = 20 * time.Millisecond
)

// A Tracker knows the guarded connections of the process. It is safe for concurrent use. Its work is divided by contact,
// so that opening and closing connections does not wait for one lock.
type Tracker struct {
	shards  [shardCount]shard
	seed    maphash.Seed
	opened  atomic.Uint64 // connections so far
	slots   chan struct{} // for connections that are being ended
	closing atomic.Int64  // how many are being ended
}

// shard has the connections of some contacts, and one timer for the next of their deadlines. arm and remove are called with mu held.
type shard struct {
	mu         sync.Mutex
	messengers map[string]*contacts
	due        dueHeap
	timer      *time.Timer
}

// contacts are the connections of one messenger, by identity.
type contacts struct {
	first map[string]*Session
	count int
}

// A Session is the entry of one connection in a [Tracker].
type Session struct {
	tracker    *Tracker
	shard      *shard
	subject    Subject
	ender      Ender
	ending     Ending // of its own deadline
	opened     int64  // Unix nanoseconds
	own        int64  // its own deadline, in Unix nanoseconds; 0 without one
	due        int64  // its own deadline, or an earlier one of its key; see bound.go
	byKey      bool   // due is that of its key
	index      int    // in the heap, or one of those below
	next, prev *Session
}

const (
	notDue    = -1 // it has no deadline
	untracked = -2 // it is not tracked any more
	closing   = -3 // it is not tracked any more, is being ended, and counts in Tracker.closing
)

// NewTracker returns an empty Tracker. It need not be closed: an empty one has no goroutine.
func NewTracker() *Tracker {
	t := &Tracker{seed: maphash.MakeSeed(), slots: make(chan struct{}, maxEnding)}
	for i := range t.shards {
		t.shards[i].messengers = make(map[string]*contacts)
	}
	return t
}

// Add tracks a connection, which ender ends, until it has ended or Remove is called.
func (t *Tracker) Add(subject Subject, deadline Deadline, ender Ender) *Session {
	// The texts are parts of a larger one, which would stay in memory as long as the connection.
	subject.Identity, subject.TokenID = strings.Clone(subject.Identity), strings.Clone(subject.TokenID)
	now := time.Now()
	s := &Session{tracker: t, shard: t.shardOf(subject.Identity), subject: subject, ender: ender,
		ending: deadline.Ending, opened: now.UnixNano(), index: notDue}
	if !deadline.To.IsZero() {
		s.own = deadline.spread(now, t.opened.Add(1))
		s.due = s.own
	}
	s.shard.add(s)
	return s
}

// spread returns the instant for the n-th connection, in Unix nanoseconds. The fractional parts of the multiples of the golden
// ratio are distributed evenly, for any number of them (Weyl's sequence).
func (d Deadline) spread(now time.Time, n uint64) int64 {
	from, to := max(nanoseconds(d.From), now.UnixNano()), nanoseconds(d.To)
	if to <= from {
		return to
	}
	offset, _ := bits.Mul64(n*0x9E3779B97F4A7C15, uint64(to-from))
	return from + int64(offset)
}

// nanoseconds returns t in Unix nanoseconds, which reach from the year 1678 to 2262. A token may have any time: one that is out
// of range becomes the first or the last nanosecond, because time.Time.UnixNano would wrap around into the past.
func nanoseconds(t time.Time) int64 {
	switch {
	case t.After(lastNanosecond):
		return math.MaxInt64
	case t.Before(firstNanosecond):
		return math.MinInt64
	}
	return t.UnixNano()
}

var firstNanosecond, lastNanosecond = time.Unix(0, math.MinInt64), time.Unix(0, math.MaxInt64)

func (t *Tracker) shardOf(identity string) *shard {
	return &t.shards[maphash.String(t.seed, identity)%shardCount]
}

// Remove ends the tracking of a connection that has ended by itself. It may be called more than once.
func (s *Session) Remove() {
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	s.shard.remove(s)
}

// Ended is called when a connection is closed and nothing is written to it any more.
func (s *Session) Ended() {
	s.shard.mu.Lock()
	defer s.shard.mu.Unlock()
	if s.shard.remove(s); s.index == closing {
		s.index = untracked
		s.tracker.closing.Add(-1)
	}
}

// A Filter selects connections: those of one messenger that match all fields that are set. An identity, a token ID or a key
// means something only together with its messenger.
type Filter struct {
	Messenger    string    // required
	Identity     string    // of the contact
	IssuedBefore time.Time // the token was issued before that, or does not say when
	TokenID      string
	Key          string
}

// errNoMessenger prevents a forgotten filter from closing all connections.
var errNoMessenger = errors.New("the filter has no messenger; name the messenger whose connections end")

func (f *Filter) matches(s *Session) bool {
	switch {
	case f.TokenID != "" && f.TokenID != s.subject.TokenID:
		return false
	case f.Key != "" && f.Key != s.subject.Key:
		return false
	case !f.IssuedBefore.IsZero() && !s.subject.Issued.IsZero() && !s.subject.Issued.Before(f.IssuedBefore):
		return false
	}
	return true
}

// End ends all connections that match f, and returns their number. It does not wait for them.
func (t *Tracker) End(f Filter, ending Ending) (int, error) {
	if f.Messenger == "" {
		return 0, errNoMessenger
	}
	return t.endWanted(f.Messenger, f.Identity, f.matches, ending), nil
}

// Count returns how many connections End would end.
func (t *Tracker) Count(f Filter) (n int) {
	t.each(f.Identity, func(h *shard) { n += len(h.find(f.Messenger, f.Identity, f.matches)) })
	return n
}

// EndWhere ends the connections of a messenger whose subject is wanted, and returns their number.
func (t *Tracker) EndWhere(messenger string, wanted func(Subject) bool, ending Ending) int {
	return t.endWanted(messenger, "", func(s *Session) bool { return wanted(s.subject) }, ending)
}

// endWanted detaches the wanted connections of a messenger, or of one contact of it, begins to end them, and returns their number.
func (t *Tracker) endWanted(messenger, identity string, wanted func(*Session) bool, ending Ending) int {
	var found []*Session
	t.each(identity, func(h *shard) {
		for _, s := range h.find(messenger, identity, wanted) {
			h.detach(s)
			s.ending = ending
			found = append(found, s)
		}
	})
	if len(found) > 0 {
		go t.end(found)
	}
	return len(found)
}

// each calls f for the shard of an identity, or for all shards if that is "", each with its mu held.
func (t *Tracker) each(identity string, f func(h *shard)) {
	only := t.shardOf(identity)
	for i := range t.shards {
		if h := &t.shards[i]; identity == "" || h == only {
			func() {
				h.mu.Lock()
				defer h.mu.Unlock()
				f(h)
			}()
		}
	}
}

// end ends connections that were detached, a bounded number at a time.
func (t *Tracker) end(sessions []*Session) {
	for _, s := range sessions {
		t.slots <- struct{}{}
		go func() {
			leave := sync.OnceFunc(func() { <-t.slots })
			timer := time.AfterFunc(patience, leave)
			s.ender.End(s.ending)
			timer.Stop()
			leave()
		}()
	}
}

func (h *shard) add(s *Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.messengers[s.subject.Messenger]
	if m == nil {
		m = &contacts{first: make(map[string]*Session)}
		h.messengers[s.subject.Messenger] = m
	}
	m.count++
	if first := m.first[s.subject.Identity]; first != nil {
		s.next, first.prev = first, s
	}
	m.first[s.subject.Identity] = s
	if s.due != 0 {
		heap.Push(&h.due, s)
		if s.index == 0 {
			h.arm()
		}
	}
}

// detach stops tracking s, which is tracked, and counts it as closing. The caller holds mu, and passes s to end.
func (h *shard) detach(s *Session) {
	h.remove(s)
	s.index = closing
	s.tracker.closing.Add(1)
}

// remove stops tracking s, if it is tracked. The caller holds mu.
func (h *shard) remove(s *Session) {
	if s.index <= untracked {
		return
	}
	if s.index >= 0 {
		heap.Remove(&h.due, s.index)
		if len(h.due) == 0 {
			h.timer.Stop()
		}
	}
	s.index = untracked
	m := h.messengers[s.subject.Messenger]
	if s.next != nil {
		s.next.prev = s.prev
	}
	switch {
	case s.prev != nil:
		s.prev.next = s.next
	case s.next != nil:
		m.first[s.subject.Identity] = s.next
	default:
		delete(m.first, s.subject.Identity)
	}
	s.next, s.prev = nil, nil
	if m.count--; m.count == 0 {
		delete(h.messengers, s.subject.Messenger)
	}
}

// find returns the connections of a messenger, or of one contact of it, that are wanted. The caller holds mu.
func (h *shard) find(messenger, identity string, wanted func(*Session) bool) []*Session {
	m := h.messengers[messenger]
	if m == nil {
		return nil
	}
	var found []*Session
	gather := func(s *Session) {
		for ; s != nil; s = s.next {
			if wanted(s) {
				found = append(found, s)
			}
		}
	}
	if identity != "" {
		gather(m.first[identity])
	} else {
		for _, first := range m.first {
			gather(first)
		}
	}
	return found
}
