// Package turnstile bounds how many callers do something at a time, and lets clients take turns.
//
// It does not know what the clients do and who they are. Begin reading with [Turnstile.Enter].
package turnstile

import (
	"context"
	"errors"
	"slices"
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

// A Turnstile lets a bounded number of callers in at a time. Those that wait are let in by turns, one of each client, so that a
// client that asks for thousands of made-up names delays only itself.
type Turnstile struct {
	mu      sync.Mutex
	free    int
	waiting map[string][]chan struct{} // by client
	turns   []string                   // the clients with waiting callers, the next one first
	queued  int
}

// New makes a turnstile with all places free.
func New() *Turnstile {
	return &Turnstile{free: Places, waiting: make(map[string][]chan struct{})}
}

// Enter returns when the caller may go on, with a function to be called afterwards.
func (t *Turnstile) Enter(ctx context.Context, client string) (leave func(), err error) {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return t.leave, nil
	}
	queue := t.waiting[client]
	if len(queue) >= MaxQueuedClient || t.queued >= maxQueued {
		t.mu.Unlock()
		return nil, errBusy
	}
	if len(queue) == 0 {
		t.turns = append(t.turns, client)
	}
	turn := make(chan struct{}, 1)
	t.waiting[client] = append(queue, turn)
	t.queued++
	t.mu.Unlock()
	select {
	case <-turn:
		return t.leave, nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-turn: // it came just now; the next one takes it
		t.next()
	default:
		t.remove(client, turn)
	}
	return nil, errBusy
}

// leave lets the next caller in.
func (t *Turnstile) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next()
}

// next gives a place to the next client's first caller. The caller holds mu.
func (t *Turnstile) next() {
	if len(t.turns) == 0 {
		t.free++
		return
	}
	client := t.turns[0]
	t.turns = t.turns[1:]
	queue := t.waiting[client]
	queue[0] <- struct{}{}
	t.queued--
	if len(queue) == 1 {
		delete(t.waiting, client)
		return
	}
	t.waiting[client] = queue[1:]
	t.turns = append(t.turns, client)
}

// remove removes a caller that does not wait any more. The caller holds mu.
func (t *Turnstile) remove(client string, turn chan struct{}) {
	queue := without(t.waiting[client], turn)
	t.queued--
	if len(queue) > 0 {
		t.waiting[client] = queue
		return
	}
	delete(t.waiting, client)
	t.turns = without(t.turns, client)
}

// without removes an element from a list.
func without[E comparable](list []E, element E) []E {
	return slices.DeleteFunc(list, func(e E) bool { return e == element })
}
