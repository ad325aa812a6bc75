package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// When a write is acknowledged, its facts are in the storage, the list names them, and the notification was renewed.
func TestAppendReturnsAfterTheNotification(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		v, w := newNode(t, m)
		var wrote []Key
		w.Wrote = func(key Key, facts []json.RawMessage) int {
			wrote = append(wrote, key)
			list := listOf(t, v, w.ID)
			if e, found := list.entryOf(key.Folder); !found || !e.Pending || e.Last != key.Number {
				t.Errorf("while %s is written, the list has %+v", key, list.Changes)
			}
			return 10 * len(wrote)
		}
		notification := ""
		for n := 1; n <= 3; n++ {
			written, err := w.Append(t.Context(), "acme/a", n%2 == 0, aFact(n))
			if err != nil || written.Ended != 10*n {
				t.Fatalf("got %+v, %v", written, err)
			}
			key := written.Key
			if want := (Key{"acme/a", w.ID, uint64(n)}); key != want || wrote[n-1] != want {
				t.Errorf("got the key %v, and %v was written, want %v", key, wrote[n-1], want)
			}
			if facts := factsAt(t, v, key); len(facts) != 1 || string(facts[0]) != string(aFact(n)[0]) {
				t.Errorf("the batch has %s", facts)
			}
			if e, found := listOf(t, v, w.ID).entryOf("acme/a"); !found || e.Pending || e.Last != key.Number {
				t.Errorf("the list has %+v", e)
			}
			renewed := string(m.get(NotificationKey))
			if renewed == notification {
				t.Error("the notification was not renewed")
			}
			notification = renewed
		}
		if want := "list batch list notification list batch list notification list batch list notification"; m.steps() != want {
			t.Errorf("got the order %s, want %s", m.steps(), want)
		}
		time.Sleep(2*RetryInterval + time.Second)
		if renewed := string(m.get(NotificationKey)); renewed == notification {
			t.Error("the notification was not repeated")
		}
		time.Sleep(time.Duration(repeatTicks[len(repeatTicks)-1]+2) * RetryInterval)
		before := m.steps()
		time.Sleep(time.Hour)
		if m.steps() != before {
			t.Error("a writer without anything to do goes on writing")
		}
	})
}

// Several calls share a batch. What Wrote returns about it is told to one of them, so that no connection is counted twice.
func TestClosedConnectionsAreReportedToOneCallOfABatch(t *testing.T) {
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
		var batches, told atomic.Int64
		w.Wrote = func(Key, []json.RawMessage) int { batches.Add(1); return 1 }
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				written, err := w.Append(t.Context(), "acme/a", false, aFact(i))
				if err != nil {
					t.Error(err)
				}
				told.Add(int64(written.Ended))
			})
		}
		synctest.Wait()
		close(hold)
		all.Wait()
		if batches.Load() >= 20 || told.Load() != batches.Load() {
			t.Errorf("%d batches, and %d connections were told, want 1 for each batch", batches.Load(), told.Load())
		}
		w.Stop()
		synctest.Wait()
	})
}

// steps tells in words what was stored, in order.
func (m *memory) steps() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var steps []string
	for _, key := range m.order {
		switch {
		case key == NotificationKey:
			steps = append(steps, "notification")
		case path.Dir(key) == writersFolder:
			steps = append(steps, "list")
		default:
			steps = append(steps, "batch")
		}
	}
	return strings.Join(steps, " ")
}

// The storage fails, applies what it says has failed, answers late, and repeats what it did earlier, while many write at once.
// A key is never written with other bytes, a batch of a folder only after the one before it, and what was acknowledged is
// there at the end, with every follower told.
func TestFaultsNeverChangeAWrittenKey(t *testing.T) {
	acknowledged := 0
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { acknowledged += writeWithFaults(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
	if acknowledged < 200 {
		t.Errorf("only %d were acknowledged; the faults are too many to show anything", acknowledged)
	}
}

// writeWithFaults returns how many writes were acknowledged.
func writeWithFaults(t *testing.T, random *rand.Rand) int {
	m := newMemory()
	v, w := newNode(t, m)
	other := NewFollower(New(v.Seal, func() {}), "none")
	other.vault.Use(m)
	var mu sync.Mutex
	healthy := false
	settled := make(map[string]uint64) // by folder: the last batch of which the storage has said that it is there
	chance := func(n int) bool {
		mu.Lock()
		defer mu.Unlock()
		return !healthy && random.IntN(n) == 0
	}
	m.fail(func(ctx context.Context, op, key string, value []byte) (bool, error) {
		if op != "store" {
			return true, nil
		}
		batch, isBatch := ParseKey(key)
		if isBatch {
			mu.Lock()
			if last := settled[batch.Folder]; batch.Number > last+1 {
				t.Errorf("%s is written, and the storage has confirmed %d", key, last)
			}
			mu.Unlock()
		}
		applied, err := true, error(nil)
		switch {
		case chance(8):
			applied, err = chance(2), errFault
		case chance(20):
			time.Sleep(StoreTimeout + 3*time.Second) // it ignores its context, and succeeds late
		case chance(10):
			go func() {
				time.Sleep(time.Duration(10+len(value)%10) * time.Second)
				m.set(key, value) // the client library has repeated it
			}()
		case chance(40):
			panic("the test's storage panics")
		}
		if err == nil && isBatch {
			mu.Lock()
			settled[batch.Folder] = max(settled[batch.Folder], batch.Number)
			mu.Unlock()
		}
		return applied, err
	})
	if err := other.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	acknowledged := make(map[Key]int)
	told := make(map[string]uint64)
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			folder := fmt.Sprintf("m%d/a", i%4)
			for n := range 15 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				written, err := w.Append(ctx, folder, i%3 == 0, aFact(100*i+n))
				cancel()
				if err == nil {
					mu.Lock()
					acknowledged[written.Key] = 100*i + n
					mu.Unlock()
				}
				time.Sleep(time.Second)
			}
		})
	}
	poll := func() {
		changes, _, err := other.Poll(t.Context())
		if err != nil {
			t.Error(err)
		}
		for _, c := range changes {
			last := c.Key.Number
			if c.Pending { // the folder is read: what was written before is there
				last--
			}
			told[c.Key.Folder] = max(told[c.Key.Folder], last)
		}
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-time.After(2 * time.Second):
			poll()
		}
	}
	mu.Lock()
	healthy = true
	mu.Unlock()
	for range 3 * repeatFor / (2 * time.Second) {
		time.Sleep(2 * time.Second)
		poll()
	}
	m.checkWrittenOnce(t)
	for key, n := range acknowledged {
		if facts := factsAt(t, v, key); !slices.ContainsFunc(facts, func(f json.RawMessage) bool { return string(f) == string(aFact(n)[0]) }) {
			t.Errorf("%s was acknowledged, and has %s", key, facts)
		}
		if told[key.Folder] < key.Number {
			t.Errorf("%s was acknowledged, and the other node knows of %d", key, told[key.Folder])
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for folder, q := range w.folders {
		if q.unsettled != nil {
			t.Errorf("%s is not settled, minutes after the storage works again", folder)
		}
	}
	for _, e := range listOf(t, v, w.ID).Changes {
		if e.Pending {
			t.Errorf("the list says that %+v is about to be written", e)
		}
	}
	return len(acknowledged)
}

// A write fails in a way that leaves open whether it happened. The same bytes are written again, before anything else in that
// folder, and other folders do not wait.
func TestUnknownOutcomeIsSettledFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		v, w := newNode(t, m)
		var broken atomic.Bool
		broken.Store(true)
		m.fail(func(_ context.Context, op, key string, _ []byte) (bool, error) {
			if op == "store" && strings.HasPrefix(key, "messenger/acme/a/") && broken.Load() {
				return false, errFault
			}
			return true, nil
		})
		w.Wrote = func(key Key, _ []json.RawMessage) int { return int(key.Number) } //nolint:gosec // it is small
		first := Key{"acme/a", w.ID, 1}
		if _, err := w.Append(t.Context(), "acme/a", true, aFact(1)); !errors.Is(err, ErrUnknown) {
			t.Fatalf("got %v, want ErrUnknown", err)
		}
		if _, err := w.Append(t.Context(), "acme/a", true, aFact(2)); err == nil || errors.Is(err, ErrUnknown) {
			t.Errorf("got %v: the second change was not tried, and its caller should know", err)
		}
		if n := m.attempts(Key{"acme/a", w.ID, 2}.String()); n != 0 {
			t.Error("the second batch was written before the first was settled")
		}
		if _, err := w.Append(t.Context(), "bolt/a", true, aFact(3)); err != nil {
			t.Errorf("another folder: %v", err)
		}
		broken.Store(false)
		if written, err := w.Append(t.Context(), "acme/a", true, aFact(4)); err != nil || written.Ended != 2 { // and not what the first one has ended
			t.Fatalf("got %+v, %v", written, err)
		}
		if facts := factsAt(t, v, first); string(facts[0]) != string(aFact(1)[0]) {
			t.Errorf("the first batch has %s", facts)
		}
		m.checkWrittenOnce(t)

		// It is settled also if nothing else is written there.
		broken.Store(true)
		if _, err := w.Append(t.Context(), "acme/a", true, aFact(5)); !errors.Is(err, ErrUnknown) {
			t.Fatalf("got %v, want ErrUnknown", err)
		}
		broken.Store(false)
		time.Sleep(2 * RetryInterval)
		if e, _ := listOf(t, v, w.ID).entryOf("acme/a"); e.Pending || e.Last != 3 || m.get(Key{"acme/a", w.ID, 3}.String()) == nil {
			t.Errorf("it is not settled: %+v", e)
		}
	})
}

// A change that could not be announced was not made, and is not announced forever.
func TestFailedAnnouncementIsUndone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		v, w := newNode(t, m)
		if _, err := w.Append(t.Context(), "acme/a", true, aFact(0)); err != nil {
			t.Fatal(err)
		}
		m.fail(func(_ context.Context, op, key string, _ []byte) (bool, error) {
			return op != "store", map[bool]error{true: errFault}[op == "store"]
		})
		for i := range maxPending + 100 {
			for _, folder := range []string{"acme/a", fmt.Sprintf("m%d/a", i)} {
				if _, err := w.Append(t.Context(), folder, true, aFact(i)); err == nil || errors.Is(err, ErrUnknown) {
					t.Fatalf("got %v, want an error that says that nothing was written", err)
				}
			}
		}
		m.fail(nil)
		if _, err := w.Append(t.Context(), "bolt/a", true, aFact(0)); err != nil {
			t.Fatal(err)
		}
		list := listOf(t, v, w.ID)
		for _, e := range list.Changes {
			if e.Pending {
				t.Fatalf("%d entries, and one is still about to be written: %+v", len(list.Changes), e)
			}
		}
		w.announcer.mu.Lock()
		defer w.announcer.mu.Unlock()
		if w.announcer.pending != 0 || w.announcer.entries["acme/a"].Last != 1 {
			t.Errorf("%d are pending, and acme has %+v", w.announcer.pending, w.announcer.entries["acme/a"])
		}
	})
}
