package namelock

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A name that is held delays the others of this name only, as long as they want to wait, and as many as may.
func TestLockedNameDoesNotDelayOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var locks Locks
		unlock := locks.Lock("a")
		locks.Lock("b")()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := locks.LockWithin(ctx, "a", 1); !errors.Is(err, errTimeout) {
			t.Errorf("a name that stays held: %v", err)
		}
		if _, err := locks.LockWithin(t.Context(), "a", 0); !errors.Is(err, ErrTooMany) {
			t.Errorf("one more than may wait: %v", err)
		}
		taken := 0
		for range 10 {
			go func() {
				free := locks.Lock("a")
				defer free()
				before := taken
				time.Sleep(time.Second) // in which another one would take it
				taken = before + 1
			}()
		}
		synctest.Wait()
		unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		if taken != 10 || len(locks.locks) != 0 {
			t.Errorf("%d of 10 held it one after another; %d locks are left", taken, len(locks.locks))
		}
	})
}
