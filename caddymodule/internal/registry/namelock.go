package registry

import (
	"math"
	"sync"
)

// nameLocks has a lock for each name that a goroutine uses or waits for. One that takes long with a name delays no other name.
type nameLocks struct {
	mu    sync.Mutex
	locks map[string]*nameLock
}

// A nameLock is held by the goroutine that has sent to taken, until it receives from it.
type nameLock struct {
	taken chan struct{}
	users int // that hold it, or wait
}

// join returns the lock of a name for one more user, who calls leave at the end. It returns false if there are more than most
// already.
func (n *nameLocks) join(name string, most int) (*nameLock, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.locks[name]
	if l == nil {
		if n.locks == nil {
			n.locks = make(map[string]*nameLock)
		}
		l = &nameLock{taken: make(chan struct{}, 1)}
		n.locks[name] = l
	}
	if l.users > most {
		return nil, false
	}
	l.users++
	return l, true
}

func (n *nameLocks) leave(name string, l *nameLock) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(n.locks, name)
	}
}

// lock serializes the reading of one name. A goroutine holds one such lock at a time.
func (s *Store) lock(name string) (unlock func()) {
	l, _ := s.loading.join(name, math.MaxInt)
	l.taken <- struct{}{}
	return func() {
		<-l.taken
		s.loading.leave(name, l)
	}
}
