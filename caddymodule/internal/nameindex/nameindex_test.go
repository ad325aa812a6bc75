package nameindex

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func indexOf(t testing.TB, names ...string) Index {
	t.Helper()
	var b Builder
	for _, name := range names {
		if err := b.Add(name); err != nil {
			t.Fatal(err)
		}
	}
	return b.Index()
}

// An index says of random names what a sorted list says, whatever their order and however often one was added.
func TestIndexMatchesASortedList(t *testing.T) {
	for _, size := range []int{0, 1, 100, chunk + 17} {
		t.Run(fmt.Sprint(size, " names"), func(t *testing.T) {
			names := make([]string, size)
			for i := range names {
				names[i] = fmt.Sprintf("%c%d", 'a'+rand.IntN(3), rand.IntN(2*size+1))
			}
			x := indexOf(t, names...)
			slices.Sort(names)
			names = slices.Compact(names)
			for _, name := range append([]string{"", "a", "a1", "b", "c99", "zz"}, names[:min(len(names), 50)]...) {
				if _, want := slices.BinarySearch(names, name); x.Has(name) != want {
					t.Errorf("that it has %q is %t", name, !want)
				}
			}
			for _, part := range []string{"", "a1", "c99", "aa", "1\nb"} {
				for _, after := range []string{"", "a5", "c", "zz"} {
					var want []string
					for _, name := range names {
						if name > after && strings.Contains(name, part) {
							want = append(want, name)
						}
					}
					if got := slices.Collect(x.Matching(after, part)); !slices.Equal(got, want) {
						t.Fatalf("after %q with %q: got %d names, want %d", after, part, len(got), len(want))
					}
				}
			}
		})
	}
}

// Who asks while the names are being read shares that reading, and what changes meanwhile is in the answer.
func TestConcurrentCallersShareARead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var readings atomic.Int64
		s := Shared{Read: func(context.Context) (Index, error) {
			readings.Add(1)
			time.Sleep(patience)
			return indexOf(t, "acme", "bolt", "cord"), nil
		}}
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				v, err := s.View(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if got := slices.Collect(v.Matching("acme", "")); !slices.Equal(got, []string{"after", "bolt", "cord", "dash"}) {
					t.Errorf("got %v", got)
				}
			})
		}
		time.Sleep(patience / 2)
		for _, name := range []string{"after", "dash", "bolt"} {
			s.Note(name)
		}
		all.Wait()
		s.Note("zeta")
		v, err := s.View(t.Context())
		if err != nil || v.Count != 3 || !slices.Equal(slices.Collect(v.Matching("dash", "")), []string{"zeta"}) {
			t.Errorf("a later page has %d names: %v", v.Count, err)
		}
		if n := readings.Load(); n != 1 {
			t.Errorf("%d readings for eight callers and a later page", n)
		}
		time.Sleep(share*patience + time.Millisecond)
		if _, err := s.View(t.Context()); err != nil || readings.Load() != 2 {
			t.Errorf("%d readings after a while: %v", readings.Load(), err)
		}
		s.Forget()
		if _, err := s.View(t.Context()); err != nil || readings.Load() != 3 {
			t.Errorf("%d readings after it is unknown what has changed: %v", readings.Load(), err)
		}
		for i := range maxNoted + 1 {
			s.Note(fmt.Sprint("new", i))
		}
		if _, err := s.View(t.Context()); err != nil || readings.Load() != 4 {
			t.Errorf("%d readings after many changes: %v", readings.Load(), err)
		}
		time.Sleep(2 * maxUse)
	})
}

// Of a storage that takes seconds to list, the next page does not wait for another reading: it has the names of the last one, and those
// that have changed since. That ends after a while, and when it is unknown what has changed.
func TestSlowReadIsReused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var readings atomic.Int64
		fails := errors.New("away")
		s := Shared{Read: func(context.Context) (Index, error) {
			time.Sleep(9 * time.Second)
			switch readings.Add(1) {
			case 1:
				return indexOf(t, "acme"), nil
			case 2:
				return Index{}, fails
			}
			return indexOf(t, "acme", "later"), nil
		}}
		look := func(what string, waits time.Duration, want ...string) {
			t.Helper()
			begun := time.Now()
			v, err := s.View(t.Context())
			if got := slices.Collect(v.Matching("", "")); err != nil || !slices.Equal(got, want) || time.Since(begun) != waits {
				t.Errorf("%s: got %v after %s, %v; want %v after %s", what, got, time.Since(begun), err, want, waits)
			}
		}
		look("the first page", 9*time.Second, "acme")
		look("the next one", 0, "acme")
		time.Sleep(maxUse + time.Second)
		s.Note("bolt")
		look("a minute later", 0, "acme", "bolt")
		time.Sleep(10 * time.Second)
		look("a reading has failed", 0, "acme", "bolt")
		time.Sleep(10 * time.Second)
		look("a reading has succeeded", 0, "acme", "later")
		if n := readings.Load(); n != 3 {
			t.Errorf("%d readings", n)
		}
		time.Sleep(maxUse + time.Second)
		s.Forget()
		look("it is unknown what has changed", 9*time.Second, "acme", "later")
		time.Sleep(maxUse + maxStale + time.Second)
		look("long after that", 9*time.Second, "acme", "later")
		time.Sleep(maxUse + time.Second)
		for i := range maxNoted + 1 {
			s.Note(fmt.Sprint("new", i))
		}
		look("after many changes", 9*time.Second, "acme", "later")
		time.Sleep(maxUse + maxStale + time.Second)
	})
}

// A caller that goes away does not end the reading for others, and a reading that fails is not kept.
func TestReadContinuesWithoutItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fails := errors.New("away")
		var readings atomic.Int64
		s := Shared{Read: func(ctx context.Context) (Index, error) {
			time.Sleep(time.Second)
			if readings.Add(1) == 1 {
				return Index{}, fails
			}
			return indexOf(t, "acme"), ctx.Err()
		}}
		if _, err := s.View(t.Context()); !errors.Is(err, fails) {
			t.Errorf("got %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		if _, err := s.View(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a caller waits for longer than its context: %v", err)
		}
		if v, err := s.View(t.Context()); err != nil || v.Count != 1 || readings.Load() != 2 {
			t.Errorf("the next caller: %v, %d readings", err, readings.Load())
		}
		time.Sleep(2 * maxUse)
	})
}

func TestIndexIsBounded(t *testing.T) {
	b := Builder{index: Index{Count: maxNames}}
	if err := b.Add("one more"); err == nil {
		t.Error("there is no limit")
	}
}

func millionNames() []string {
	names := make([]string, 1_000_000)
	for i := range names {
		names[i] = fmt.Sprint("many", rand.IntN(1<<30))
	}
	return names
}

func BenchmarkIndexOfAMillion(b *testing.B) {
	names := millionNames()
	b.ReportAllocs()
	for b.Loop() {
		indexOf(b, names...)
	}
}

func BenchmarkSearchInAMillion(b *testing.B) {
	x := indexOf(b, millionNames()...)
	for b.Loop() {
		for range x.Matching("", "99999999x") {
			b.Fatal("found")
		}
	}
}
