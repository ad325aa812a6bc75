package session

import "time"

// maxSleep is how long a timer runs at most. Deadlines are times of the wall clock, and timers do not notice if it is set or the
// machine is suspended.
const maxSleep = time.Minute

// arm sets the timer to the next deadline.
func (h *shard) arm() {
	if len(h.due) == 0 {
		return
	}
	wait := min(max(time.Until(time.Unix(0, h.due[0].due)), 0), maxSleep)
	if h.timer == nil {
		h.timer = time.AfterFunc(wait, h.wake)
		return
	}
	h.timer.Reset(wait)
}

// wake ends what is due.
func (h *shard) wake() {
	h.mu.Lock()
	now := time.Now().UnixNano()
	var found []*Session
	for len(h.due) > 0 && h.due[0].due <= now {
		s := h.due[0]
		if h.detach(s); s.byKey {
			s.ending = Revoked
		}
		found = append(found, s)
	}
	h.arm()
	h.mu.Unlock()
	if len(found) > 0 {
		found[0].tracker.end(found)
	}
}

// dueHeap is a heap of sessions by their deadline.
type dueHeap []*Session

func (d dueHeap) Len() int           { return len(d) }
func (d dueHeap) Less(i, j int) bool { return d[i].due < d[j].due }

func (d dueHeap) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].index, d[j].index = i, j
}

// Push implements heap.Interface.
func (d *dueHeap) Push(x any) {
	s := x.(*Session)
	s.index = len(*d)
	*d = append(*d, s)
}

// Pop implements heap.Interface.
func (d *dueHeap) Pop() any {
	last := len(*d) - 1
	s := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	return s
}
