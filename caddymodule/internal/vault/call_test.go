package vault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A storage that ignores its context never returns from calls. Each caller gets an error after the timeout, no more calls than maxCalls
// are left running, and when the storage answers again, so does the vault.
func TestCallsThatIgnoreTheirContextAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		v, _ := newNode(t, m)
		hold := make(chan struct{})
		var mu sync.Mutex
		running, most := 0, 0
		m.fail(func(context.Context, string, string, []byte) (bool, error) {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			<-hold
			mu.Lock()
			running--
			mu.Unlock()
			return true, nil
		})
		began := time.Now()
		var all sync.WaitGroup
		for i := range maxCalls + 100 {
			all.Go(func() {
				if _, err := v.Load(t.Context(), fmt.Sprint("messenger/m", i)); !errors.Is(err, errTimeout) && !errors.Is(err, errCalls) {
					t.Errorf("got %v", err)
				}
			})
		}
		all.Wait()
		if took := time.Since(began); took != StoreTimeout {
			t.Errorf("the callers were told after %s, want %s", took, StoreTimeout)
		}
		if most != maxCalls {
			t.Errorf("%d calls were running, want %d", most, maxCalls)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		if _, err := v.Load(ctx, "messenger/x"); err == nil || time.Since(began) != time.Second {
			t.Errorf("the caller's own context: %v after %s", err, time.Since(began))
		}
		close(hold)
		synctest.Wait()
		m.fail(nil)
		if err := v.Save(t.Context(), "messenger/x", []byte("{}")); err != nil {
			t.Errorf("the storage works again: %v", err)
		}
		if running != 0 || len(v.calls) != 0 {
			t.Errorf("%d calls are left, and %d counted", running, len(v.calls))
		}
	})
}

// A storage module that panics ends neither the process nor the vault.
func TestPanicInTheStorageIsAnError(t *testing.T) {
	synctest.Test(t, panicInTheStorage)
}

func panicInTheStorage(t *testing.T) {
	m := newMemory()
	v, _ := newNode(t, m)
	m.fail(func(context.Context, string, string, []byte) (bool, error) { panic("boom") })
	_, loaded := v.Load(t.Context(), "messenger/x")
	_, listed := v.List(t.Context(), "messenger", true)
	for name, err := range map[string]error{
		"Load": loaded, "List": listed, "Save": v.Save(t.Context(), "messenger/x", nil), "Delete": v.Delete(t.Context(), "messenger/x"),
	} {
		if err == nil || !strings.Contains(err.Error(), "panicked") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	synctest.Wait()
	if len(v.calls) != 0 {
		t.Error("the calls are still counted")
	}
}

// A storage that answers "does not exist" for every failure, as the one of Redis does, is asked for a listing before that is
// believed.
func TestNotFoundIsVerifiedByAListing(t *testing.T) {
	m := newMemory()
	v, _ := newNode(t, m)
	m.denied = "messenger/x"
	if _, err := v.Load(t.Context(), "messenger/x"); !isNotThere(err) {
		t.Errorf("the listing works: got %v", err)
	}
	m.fail(func(_ context.Context, op, _ string, _ []byte) (bool, error) {
		return true, map[bool]error{true: errFault}[op == "list"]
	})
	if _, err := v.Load(t.Context(), "messenger/x"); err == nil || isNotThere(err) || !errors.Is(err, errFault) {
		t.Errorf("the listing fails: got %v", err)
	}
}

// An error ends the reading of many keys: each could take its timeout.
func TestReadingStopsAtTheFirstError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := make([]string, 1000)
		began := time.Now()
		err := UntilError(t.Context(), keys, func(int, string) error { time.Sleep(StoreTimeout); return errFault })
		if !errors.Is(err, errFault) || time.Since(began) > 2*StoreTimeout {
			t.Errorf("got %v after %s", err, time.Since(began))
		}
		calls := 0
		var mu sync.Mutex
		if err := Each(t.Context(), keys, func(int, string) error { mu.Lock(); defer mu.Unlock(); calls++; return errFault }); !errors.Is(err, errFault) || calls != len(keys) {
			t.Errorf("Each: got %v, and %d of %d keys", err, calls, len(keys))
		}
		seen := make(map[int]bool)
		if err := Each(t.Context(), keys, func(i int, _ string) error { mu.Lock(); defer mu.Unlock(); seen[i] = true; return nil }); err != nil || len(seen) != len(keys) {
			t.Errorf("got %v, and %d of %d keys", err, len(seen), len(keys))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := Each(ctx, keys, func(int, string) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("after the context: %v", err)
		}
	})
}

// A panic of one call is one of the caller, which a server survives, and not one of a goroutine, which ends the process.
func TestEachPanicsInTheGoroutineOfTheCaller(t *testing.T) {
	defer func() {
		if p := recover(); !strings.HasPrefix(fmt.Sprint(p), "a mistake\n") {
			t.Errorf("recovered %v", p)
		}
	}()
	err := UntilError(t.Context(), []int{1, 2, 3}, func(i, _ int) error {
		if i == 1 {
			panic("a mistake")
		}
		return nil
	})
	t.Errorf("it returned %v", err)
}
