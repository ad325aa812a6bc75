package auth

import (
	"context"
	"sync"
)

// A lateContext is a context that can be cancelled. It costs only its own memory until a goroutine waits for it; most requests are
// answered before that.
type lateContext struct {
	context.Context // of the request

	mu        sync.Mutex
	cancelled bool
	released  bool
	made      context.Context // nil until a goroutine waits
	end       context.CancelFunc
}

// release cancels the contexts that were derived from c so far. From then on c equals the context of the request, and is not cancelled.
func (c *lateContext) release() {
	c.cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.released, c.cancelled, c.made, c.end = true, false, nil, nil
}

// waited returns the cancellable context that goroutines wait for. The first call makes it.
func (c *lateContext) waited() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.released {
		return c.Context
	}
	if c.made == nil {
		c.made, c.end = context.WithCancel(c.Context)
		if c.cancelled {
			c.end()
		}
	}
	return c.made
}

// cancel is a context.CancelFunc.
func (c *lateContext) cancel() {
	c.mu.Lock()
	c.cancelled = !c.released
	end := c.end
	c.mu.Unlock()
	if end != nil {
		end()
	}
}

// Done implements context.Context.
func (c *lateContext) Done() <-chan struct{} { return c.waited().Done() }

// Err implements context.Context.
func (c *lateContext) Err() error {
	c.mu.Lock()
	made, cancelled := c.made, c.cancelled
	c.mu.Unlock()
	switch err := c.Context.Err(); {
	case made != nil:
		return made.Err()
	case err == nil && cancelled:
		return context.Canceled
	default:
		return err
	}
}

// Value implements context.Context. It asks the context of waited, so that package context finds its own type there, and starts no
// goroutine for the contexts derived from c.
func (c *lateContext) Value(key any) any {
	c.mu.Lock()
	made := c.made
	c.mu.Unlock()
	if made != nil {
		return made.Value(key)
	}
	return c.Context.Value(key)
}
