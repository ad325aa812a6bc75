package integration

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A step is one operation of a node on its storage: a command to Redis, or a call of a folder.
type step struct {
	op, key string
	writes  bool   // it changes the storage, or takes or releases a lock
	again   func() // does the same once more, as a packet that is repeated
}

// of reports whether the step is about a messenger: its name is one part of the key, however keys are made otherwise.
func (s step) of(name string) bool { return slices.Contains(strings.Split(s.key, "/"), name) }

// A fate is what becomes of a step.
type fate int

const (
	forward fate = iota // it is done
	refuse              // it is not done, and the node gets an error or a closed connection
	lose                // it is done, and the node gets no answer
)

// A wire is what lies between one node and its storage: a proxy in front of Redis, or the module caddy.storage.faulty. It
// meets every step before the storage does.
type wire struct {
	t          testing.TB
	sent, came atomic.Int64 // bytes to and from the storage, of Redis only

	mu      sync.Mutex
	hooks   []*hook
	resumed chan struct{} // closed at the end of a pause; nil without one
	delay   time.Duration
	isCut   bool
	cutting func() // closes what is open; of Redis only
	over    chan struct{}
}

// A hook is a function that decides on steps. While it runs, the step waits.
type hook struct{ decide func(step) fate }

func newWire(t testing.TB) *wire {
	w := &wire{t: t, over: make(chan struct{})}
	t.Cleanup(func() { close(w.over) })
	return w
}

// on calls decide for every step under messenger/ until off is called. Steps of several connections come side by side.
func (w *wire) on(decide func(step) fate) (off func()) {
	h := &hook{decide}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hooks = append(w.hooks, h)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.hooks = slices.DeleteFunc(w.hooks, func(other *hook) bool { return other == h })
	}
}

// meet decides on a step.
func (w *wire) meet(s step) fate {
	w.mu.Lock()
	hooks, delay, isCut := slices.Clone(w.hooks), w.delay, w.isCut
	w.mu.Unlock()
	if isCut {
		return refuse
	}
	w.sleep(delay)
	w.wait()
	if !strings.Contains(s.key, "messenger") {
		return forward // Caddy has keys of its own
	}
	for _, h := range hooks {
		if f := h.decide(s); f != forward {
			return f
		}
	}
	return forward
}

func (w *wire) sleep(delay time.Duration) {
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-w.over:
		}
	}
}

// wait waits until a pause ends.
func (w *wire) wait() {
	w.mu.Lock()
	resumed := w.resumed
	w.mu.Unlock()
	if resumed != nil {
		select {
		case <-resumed:
		case <-w.over:
		}
	}
}

// pause lets nothing pass in either direction until resume is called.
func (w *wire) pause() (resume func()) {
	resumed := make(chan struct{})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.resumed = resumed
	return sync.OnceFunc(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.resumed == resumed {
			w.resumed = nil
		}
		close(resumed)
	})
}

// cut closes every connection, and refuses new ones until restore is called.
func (w *wire) cut() (restore func()) {
	w.mu.Lock()
	w.isCut = true
	cutting := w.cutting
	w.mu.Unlock()
	if cutting != nil {
		cutting()
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.isCut = false
	}
}

// slow delays every step.
func (w *wire) slow(delay time.Duration) (normal func()) {
	set := func(delay time.Duration) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.delay = delay
	}
	set(delay)
	return func() { set(0) }
}

// A hold keeps steps back until it is released.
type hold struct {
	met      chan step // gets each step that is held; the first thousand
	released chan struct{}
	release  func()
}

// hold keeps back the steps that match, at most the given number of them.
func (w *wire) hold(most int, match func(step) bool) *hold {
	h := &hold{met: make(chan step, 1000), released: make(chan struct{})}
	var kept atomic.Int64
	off := w.on(func(s step) fate {
		if !match(s) || kept.Add(1) > int64(most) {
			return forward
		}
		select {
		case h.met <- s:
		default:
		}
		select {
		case <-h.released:
		case <-w.over:
		}
		return forward
	})
	h.release = sync.OnceFunc(func() {
		off()
		close(h.released)
	})
	w.t.Cleanup(h.release)
	return h
}

// next returns the next step that is held, or false if ended is closed before.
func (h *hold) next(ended <-chan struct{}) (step, bool) {
	select {
	case s := <-h.met:
		return s, true
	case <-ended:
		return step{}, false
	}
}

// nth matches the n-th writing step after now, beginning with 0.
func nth(n int) func(step) bool {
	var met atomic.Int64
	return func(s step) bool { return s.writes && met.Add(1) == int64(n)+1 }
}
