// Package turnstile bounds how many callers do something at a time, and lets clients take turns.
//
// It does not know the clients or their work. Begin reading with [Turnstile.Enter].
package turnstile

import (
	"container/list"
	"context"
	"errors"
	"sync"
)

const (
	// Places is how many callers may be in at a time.
	Places = 32

	// MaxQueuedClient is how many callers of one client may wait, and maxQueued how many of all.
	MaxQueuedClient = 1024
	maxQueued       = 16_384
)

// errBusy is the error for a caller who was not let in: too many wait, or its context has ended.
var errBusy = errors.New("too many callers wait at this moment")

// A Turnstile lets a bounded number of callers in at a time. Waiting clients take turns with one caller each, so that a client with
// thousands of callers delays only itself.
type Turnstile struct {
	mu      sync.Mutex
	free    int
	waiting map[string]*list.Element // the element of turns of each client
	turns   *list.List               // the [*queue]s of clients with waiting callers, the next one first
	queued  int
}

// A queue has the callers of one client that wait, as channels, the next one first.
type queue struct {
	client  string
	callers *list.List
}

// New makes a turnstile with all places free.
func New() *Turnstile {
	return &Turnstile{free: Places, waiting: make(map[string]*list.Element), turns: list.New()}
}

// Enter waits for the caller's turn. The caller calls leave when it is done.
func (t *Turnstile) Enter(ctx context.Context, client string) (leave func(), err error) {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return t.leave, nil
	}
	turn := make(chan struct{}, 1)
	remove := t.add(client, turn)
	t.mu.Unlock()
	if remove == nil {
		return nil, errBusy
	}
	select {
	case <-turn:
		return t.leave, nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-turn: // the turn came at this moment; the next caller gets it
		t.next()
	default:
		remove()
	}
	return nil, errBusy
}

// add lets a caller wait. It returns a function that removes it again, or nil if too many wait. The caller of both holds mu. They cost
// the same however many wait: an attacker can let thousands of callers give up at once.
func (t *Turnstile) add(client string, turn chan struct{}) (remove func()) {
	if t.queued >= maxQueued {
		return nil
	}
	place := t.waiting[client]
	if place == nil {
		place = t.turns.PushBack(&queue{client, list.New()})
		t.waiting[client] = place
	}
	q := place.Value.(*queue)
	if q.callers.Len() >= MaxQueuedClient {
		return nil
	}
	caller := q.callers.PushBack(turn)
	t.queued++
	return func() { t.remove(place, caller) }
}

// remove removes a caller from the queue at this place. The caller holds mu.
func (t *Turnstile) remove(place, caller *list.Element) {
	q := place.Value.(*queue)
	q.callers.Remove(caller)
	t.queued--
	if q.callers.Len() == 0 {
		delete(t.waiting, q.client)
		t.turns.Remove(place)
	}
}

// leave lets the next caller in.
func (t *Turnstile) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next()
}

// next gives a place to the next client's first caller. The caller holds mu.
func (t *Turnstile) next() {
	place := t.turns.Front()
	if place == nil {
		t.free++
		return
	}
	t.turns.MoveToBack(place)
	caller := place.Value.(*queue).callers.Front()
	caller.Value.(chan struct{}) <- struct{}{}
	t.remove(place, caller)
}
