// Package namelock has locks by name: one that is held long delays no other name.
//
// It does not know what the names are, or what is done under a lock.
//
// Begin reading with [Locks].
package namelock

import (
	"context"
	"errors"
	"math"
	"sync"
)

// Locks has a lock for each name that a goroutine holds or waits for. Its zero value is ready for use.
type Locks struct {
	mu    sync.Mutex
	locks map[string]*lock
}

// A lock is held by the goroutine that has sent to taken, until it receives from it.
type lock struct {
	taken chan struct{}
	users int // that hold it, or wait
}

// Lock waits for the lock of a name. The caller calls unlock.
func (n *Locks) Lock(name string) (unlock func()) {
	unlock, _ = n.LockWithin(context.Background(), name, math.MaxInt)
	return unlock
}

// Why a lock was not taken.
var (
	ErrTooMany = errors.New("too many wait for this name")
	errTimeout = errors.New("the name was not free in time")
)

// LockWithin waits for the lock of a name until ctx ends, unless more than most hold it or wait for it already.
func (n *Locks) LockWithin(ctx context.Context, name string, most int) (unlock func(), err error) {
	l, ok := n.join(name, most)
	if !ok {
		return nil, ErrTooMany
	}
	select {
	case l.taken <- struct{}{}:
		return func() {
			<-l.taken
			n.leave(name, l)
		}, nil
	case <-ctx.Done():
		n.leave(name, l)
		return nil, errTimeout
	}
}

// join returns the lock of a name for one more user, who calls leave at the end.
func (n *Locks) join(name string, most int) (*lock, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.locks[name]
	if l == nil {
		if n.locks == nil {
			n.locks = make(map[string]*lock)
		}
		l = &lock{taken: make(chan struct{}, 1)}
		n.locks[name] = l
	}
	if l.users > most {
		return nil, false
	}
	l.users++
	return l, true
}

func (n *Locks) leave(name string, l *lock) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(n.locks, name)
	}
}
