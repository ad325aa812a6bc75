package registry

import (
	"context"
	"sync"
)

const (
	// maxLookups is how many names are looked up at a time, and maxQueued how many requests wait for that, of one client and of
	// all.
	maxLookups      = 32
	maxQueuedClient = 1024
	maxQueued       = 16_384
)

// A turnstile lets a bounded number of callers in at a time. Those that wait are let in by turns, one of each client, so that a
// client that asks for thousands of made-up names delays only itself.
type turnstile struct {
	mu      sync.Mutex
	free    int
	waiting map[string][]chan struct{} // by client
	turns   []string                   // the clients with waiting callers, the next one first
	queued  int
}

func newTurnstile() *turnstile {
	return &turnstile{free: maxLookups, waiting: make(map[string][]chan struct{})}
}

// enter returns when the caller may go on, with a function to be called afterwards.
func (t *turnstile) enter(ctx context.Context, client string) (leave func(), err error) {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return t.leave, nil
	}
	queue := t.waiting[client]
	if len(queue) >= maxQueuedClient || t.queued >= maxQueued {
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
func (t *turnstile) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next()
}

// next gives a place to the next client's first caller. The caller holds mu.
func (t *turnstile) next() {
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
func (t *turnstile) remove(client string, turn chan struct{}) {
	queue := t.waiting[client]
	for i := range queue {
		if queue[i] == turn {
			queue = append(queue[:i:i], queue[i+1:]...)
			t.queued--
			break
		}
	}
	if len(queue) > 0 {
		t.waiting[client] = queue
		return
	}
	delete(t.waiting, client)
	for i := range t.turns {
		if t.turns[i] == client {
			t.turns = append(t.turns[:i:i], t.turns[i+1:]...)
			break
		}
	}
}
