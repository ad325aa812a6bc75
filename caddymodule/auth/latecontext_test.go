package auth

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"
)

type lateKey struct{}

// A lateContext behaves like any cancellable context, for goroutines that wait for it and for callers that ask it, at any time.
func TestLateContextIsAContext(t *testing.T) {
	for name, test := range map[string]struct {
		steps     []func(c *lateContext, parent context.CancelFunc)
		cancelled bool
	}{
		"it is never cancelled": {nil, false},
		"cancelled":             {[]func(*lateContext, context.CancelFunc){func(c *lateContext, _ context.CancelFunc) { c.cancel() }}, true},
		"cancelled twice": {[]func(*lateContext, context.CancelFunc){func(c *lateContext, _ context.CancelFunc) { c.cancel() },
			func(c *lateContext, _ context.CancelFunc) { c.cancel() }}, true},
		"the request ends": {[]func(*lateContext, context.CancelFunc){func(_ *lateContext, parent context.CancelFunc) { parent() }}, true},
	} {
		for _, when := range []string{"before a goroutine waits", "while a goroutine waits", "while a context below waits"} {
			t.Run(name+" "+when, func(t *testing.T) {
				parent, end := context.WithCancel(context.WithValue(t.Context(), lateKey{}, "value"))
				defer end()
				c := &lateContext{Context: parent}
				var asked context.Context = c
				before := runtime.NumGoroutine()
				switch when {
				case "while a goroutine waits":
					_ = c.Done()
				case "while a context below waits":
					below, cancel := context.WithCancel(c)
					defer cancel()
					if now := runtime.NumGoroutine(); now != before {
						t.Errorf("%d goroutines became %d", before, now)
					}
					asked = below
				}
				for _, step := range test.steps {
					step(c, end)
				}
				want := error(nil)
				if test.cancelled {
					want = context.Canceled
					<-asked.Done()
				}
				if got := asked.Err(); got != want {
					t.Errorf("Err is %v", got)
				}
				if got := c.Err(); got != want {
					t.Errorf("Err of its own is %v", got)
				}
				select {
				case <-c.Done():
					if !test.cancelled {
						t.Error("it is done")
					}
				default:
					if test.cancelled {
						t.Error("it is not done")
					}
				}
				if got := asked.Value(lateKey{}); got != "value" {
					t.Errorf("Value is %v", got)
				}
			})
		}
	}
}

// The tracker ends a request while handlers begin to wait for it: all of them notice.
func TestLateContextWithConcurrentCallers(t *testing.T) {
	for range 200 {
		c := &lateContext{Context: t.Context()}
		var sides sync.WaitGroup
		for range 4 {
			sides.Go(func() {
				below, cancel := context.WithTimeout(c, time.Hour)
				defer cancel()
				<-below.Done()
				if c.Err() == nil || below.Err() != context.Canceled {
					t.Errorf("done, with %v and %v", c.Err(), below.Err())
				}
			})
		}
		sides.Go(c.cancel)
		sides.Wait()
	}
}

// A released context is that of the request again: what was derived from it before has ended, and what is derived now has not.
func TestReleasedLateContextUsesTheRequestContext(t *testing.T) {
	for _, before := range []func(c *lateContext){func(*lateContext) {}, func(c *lateContext) { c.cancel() }, func(c *lateContext) { c.Done() }} {
		parent, end := context.WithCancel(context.WithValue(t.Context(), lateKey{}, "value"))
		c := &lateContext{Context: parent}
		before(c)
		old, cancelOld := context.WithCancel(c)
		c.release()
		c.cancel() // which the tracker may do at this moment
		below, cancel := context.WithCancel(c)
		if old.Err() == nil || c.Err() != nil || below.Err() != nil || c.Value(lateKey{}) != "value" {
			t.Errorf("released: %v, %v, %v", old.Err(), c.Err(), below.Err())
		}
		end()
		<-c.Done()
		<-below.Done()
		if c.Err() == nil || below.Err() == nil {
			t.Errorf("the request has ended: %v, %v", c.Err(), below.Err())
		}
		cancel()
		cancelOld()
	}
}
