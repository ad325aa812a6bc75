package vault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/caddyserver/certmagic"
)

const (
	// StoreTimeout bounds one call of the storage.
	StoreTimeout = 5 * time.Second

	// namesTimeout bounds the reading of all names; there may be a million.
	namesTimeout = time.Minute

	// maxCalls is how many calls of the storage may be in progress, including those that have ignored their context and were
	// left running.
	maxCalls = 512
)

var (
	// errTimeout is the error for a call that did not return in time. A write may still happen.
	errTimeout = errors.New("the storage has not answered in time")

	errCalls = errors.New("too many calls of the storage have not returned yet")
)

// call calls f, and returns when f does, when ctx is done or after StoreTimeout. Some storages ignore their context: such a call is left
// running, counts in maxCalls until it returns, and may still change the storage.
func call[T any](ctx context.Context, v *Vault, f func(context.Context, certmagic.Storage) (T, error)) (T, error) {
	return callWithin(ctx, v, StoreTimeout, f)
}

// callWithin is call with another limit.
func callWithin[T any](ctx context.Context, v *Vault, limit time.Duration, f func(context.Context, certmagic.Storage) (T, error)) (T, error) {
	var none T
	s, err := v.storage()
	if err != nil {
		return none, err
	}
	caller := ctx
	ctx, cancel := context.WithTimeout(caller, limit)
	defer cancel()
	select {
	case v.calls <- struct{}{}:
	default:
		select {
		case v.calls <- struct{}{}:
		case <-ctx.Done():
			return none, notInTime(caller, errCalls)
		}
	}
	type result struct {
		value T
		err   error
	}
	returned := make(chan result, 1)
	go func() {
		defer func() { <-v.calls }()
		var r result
		defer func() {
			if p := recover(); p != nil {
				r.err = fmt.Errorf("the storage module panicked: %v", p)
			}
			returned <- r
		}()
		r.value, r.err = f(ctx, s)
	}()
	select {
	case r := <-returned:
		return r.value, r.err
	case <-ctx.Done():
		return none, notInTime(caller, errTimeout)
	}
}

// notInTime returns the error for a call that has not returned: that of its caller's context if it was cancelled, or err.
func notInTime(caller context.Context, err error) error {
	if hasLeft(caller) {
		return caller.Err()
	}
	return err
}

// hasLeft reports whether a caller has cancelled the call, which says nothing about the storage.
func hasLeft(caller context.Context) bool { return errors.Is(caller.Err(), context.Canceled) }

// failed counts a call of Load or List that has failed, unless its caller had left.
func (v *Vault) failed(caller context.Context) {
	if !hasLeft(caller) {
		v.Failed()
	}
}
