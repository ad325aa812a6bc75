package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The storage takes every call and answers none. The first caller waits for its timeout; after that callers are told at once,
// whatever the wall clock does, one at a time finds out whether it works again, and all go on when it does.
func TestWritesFailAtOnceDuringAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		_, w := newNode(t, m)
		away := make(chan struct{})
		m.fail(func(_ context.Context, op, _ string, _ []byte) (bool, error) {
			if op == "store" {
				<-away
			}
			return true, nil
		})
		var mu sync.Mutex
		slow := 0
		var all sync.WaitGroup
		started := time.Now()
		for i := range 300 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * 200 * time.Millisecond)
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				if _, err := w.Append(ctx, fmt.Sprintf("m%d/a", i%7), i%2 == 0, aFact(i)); err == nil {
					t.Error("a write succeeds although the storage is away")
				}
				if time.Since(began) > outage && time.Since(started) > StoreTimeout+time.Second {
					mu.Lock()
					slow++
					mu.Unlock()
				}
			})
		}
		all.Wait()
		if most := int(time.Minute/StoreTimeout) + 30; slow > most {
			t.Errorf("%d callers waited, want at most %d: those of the first timeout, and one for each later attempt", slow, most)
		}
		close(away)
		time.Sleep(repeatFor)
		for i := range 7 {
			if _, err := w.Append(t.Context(), fmt.Sprintf("m%d/a", i), true, aFact(i)); err != nil {
				t.Errorf("the storage is back: %v", err)
			}
		}
	})
}

// Operators go first, and contacts cannot fill the room that is theirs, neither in a folder nor in all of them.
func TestOrdinaryWritesLeaveRoomForUrgentOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		v, w := newNode(t, m)
		hold := make(chan struct{})
		m.fail(func(_ context.Context, op, key string, _ []byte) (bool, error) {
			if batch, ok := ParseKey(key); ok && op == "store" && strings.HasPrefix(batch.Folder, "held") {
				<-hold
			}
			return true, nil
		})
		var all sync.WaitGroup
		var mu sync.Mutex
		refused := 0
		for i := range maxOrdinary + maxBatch + 50 {
			all.Go(func() {
				if _, err := w.Append(t.Context(), "held/a", false, aFact(i)); errors.Is(err, errWaiting) {
					mu.Lock()
					refused++
					mu.Unlock()
				}
			})
		}
		for i := range maxWriting { // no more folders are written with ordinary writes
			all.Go(func() { _, _ = w.Append(t.Context(), fmt.Sprintf("held%d/a", i), false, aFact(i)) })
		}
		synctest.Wait()
		if refused == 0 || w.Waiting() > maxWaiting {
			t.Errorf("%d were refused, %d wait", refused, w.Waiting())
		}
		all.Go(func() { _, _ = w.Append(t.Context(), "waits/a", false, aFact(0)) }) // there is no room for it
		synctest.Wait()
		began := time.Now()
		for _, folder := range []string{"free/a", "waits/a"} {
			if _, err := w.Append(t.Context(), folder, true, aFact(0)); err != nil || time.Since(began) > 0 {
				t.Errorf("an urgent change of %s took %s: %v", folder, time.Since(began), err)
			}
		}
		urgent := 0
		for i := range 2 * maxUrgent {
			all.Go(func() {
				_, err := w.Append(t.Context(), "held/a", true, aFact(10_000+i))
				mu.Lock()
				defer mu.Unlock()
				if urgent++; errors.Is(err, errWaiting) {
					urgent--
				}
			})
		}
		synctest.Wait()
		close(hold)
		all.Wait()
		if urgent != maxUrgent {
			t.Errorf("%d urgent ones were written, want %d", urgent, maxUrgent)
		}
		// The first batch was being written. After it come all urgent ones, each by itself, and then batches of ordinary ones.
		for n := uint64(2); ; n++ {
			if m.get(Key{"held/a", w.ID, n}.String()) == nil {
				if n < 3 {
					t.Error("there are no batches")
				}
				break
			}
			facts := factsAt(t, v, Key{"held/a", w.ID, n})
			isUrgent := strings.Contains(string(facts[0]), `"n":10`) && len(facts) == 1
			if first := n <= maxUrgent+1; isUrgent != first || len(facts) > maxBatch {
				t.Errorf("batch %d has %d facts, and begins with %s", n, len(facts), facts[0])
			}
		}
	})
}

// Callers that give up leave their writes in the queues, which stay bounded.
func TestWritesOfCancelledCallersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		_, w := newNode(t, m)
		hold := make(chan struct{})
		m.fail(func(_ context.Context, op, key string, _ []byte) (bool, error) {
			if _, ok := ParseKey(key); ok && op == "store" {
				<-hold
			}
			return true, nil
		})
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		const folders = 20
		for i := range folders {
			for range maxWaiting / 10 {
				if _, err := w.Append(gone, fmt.Sprintf("folder%d/a", i), false, aFact(0)); err == nil {
					t.Fatal("it was written")
				}
			}
		}
		synctest.Wait()
		if n := w.Waiting(); n < maxWaiting/2 || n > maxWaiting {
			t.Errorf("%d writes wait, want %d at most", n, maxWaiting)
		}
		close(hold)
		time.Sleep(time.Minute)
		if n := w.Waiting(); n != 0 {
			t.Errorf("%d writes wait at the end", n)
		}
	})
}

// The caller's context bounds its wait; a machine that was suspended acknowledges nothing that is old.
func TestAppendReportsUnknownOutcomes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		_, w := newNode(t, m)
		m.fail(func(context.Context, string, string, []byte) (bool, error) {
			time.Sleep(3 * time.Second)
			return true, nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := w.Append(ctx, "acme/a", true, aFact(1)); !errors.Is(err, ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want ErrUnknown", err)
		}
		old := &request{made: time.Now()}
		time.Sleep(maxAge)
		if err := old.confirm(nil); err != nil {
			t.Errorf("after ten minutes: %v", err)
		}
		time.Sleep(time.Second)
		if err := old.confirm(nil); !errors.Is(err, ErrUnknown) {
			t.Errorf("after more than ten minutes: %v", err)
		}
		suspended := &request{made: time.Now().Round(0).Add(-maxAge - time.Second)}
		if err := suspended.confirm(nil); !errors.Is(err, ErrUnknown) {
			t.Errorf("by the wall clock: %v", err)
		}
		if _, err := w.Append(t.Context(), "acme/a", true, []json.RawMessage{[]byte(`{"n":"` + strings.Repeat("x", maxBatchText) + `"}`)}); err == nil || errors.Is(err, ErrUnknown) {
			t.Errorf("a fact that is too large: %v", err)
		}
	})
}

// After Stop nothing runs any more: synctest fails if a goroutine is left.
func TestNoGoroutinesAreLeftAfterStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		_, w := newNode(t, m)
		m.fail(func(ctx context.Context, op, _ string, _ []byte) (bool, error) {
			if op == "store" {
				<-ctx.Done() // it heeds its context
				return false, ctx.Err()
			}
			return true, nil
		})
		var all sync.WaitGroup
		for i := range 40 {
			all.Go(func() {
				if _, err := w.Append(t.Context(), fmt.Sprintf("m%d/a", i%5), i%2 == 0, aFact(i)); err == nil {
					t.Error("it succeeds")
				}
			})
		}
		time.Sleep(time.Second)
		w.Stop()
		began := time.Now()
		all.Wait()
		if time.Since(began) > 0 {
			t.Errorf("the callers waited for %s after Stop", time.Since(began))
		}
		if _, err := w.Append(t.Context(), "acme/a", true, aFact(1)); err == nil {
			t.Error("a stopped writer writes")
		}
	})
}
