package recent

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

func never(int) bool { return false }

// Whatever is used, the size is bounded, and no key has another value than the last that it was given.
func TestMapIsBoundedAndReturnsTheLastValue(t *testing.T) {
	const limit = 64 * 40
	m := New[string, int](limit)
	last := make(map[string]int)
	sizes := make(map[string]int)
	for i := range 50_000 {
		key := fmt.Sprint(rand.IntN(4000))
		if value, found := m.Get(key, key); found && value != last[key] {
			t.Fatalf("%s has %d, want %d", key, value, last[key])
		}
		if rand.IntN(2) == 0 {
			last[key], sizes[key] = i, 1+rand.IntN(3)
			m.Add(key, key, i, sizes[key], never)
		}
	}
	size := 0
	for i := range m.shards {
		s := &m.shards[i]
		counted := 0
		for key := range s.young {
			counted += sizes[key]
		}
		if counted != s.size {
			t.Errorf("a generation counts %d, and has %d", s.size, counted)
		}
		size += s.size + s.before
	}
	if size > limit || m.Len() == 0 {
		t.Errorf("the size is %d, want at most %d", size, limit)
	}
}

// What is used again and again stays, however many others come.
func TestMapKeepsUsedEntries(t *testing.T) {
	m := New[int, int](64 * 20)
	m.Add("", -1, 7, 1, never)
	for i := range 100_000 {
		m.Add(fmt.Sprint(i), i, i, 1, never)
		if value, found := m.Get("", -1); !found || value != 7 {
			t.Fatalf("after %d others it has %d, %v", i, value, found)
		}
	}
}

// Of several that add one key at a time, all get the same value.
func TestConcurrentAddsReturnOneValue(t *testing.T) {
	for range 200 {
		m := New[int, int](100_000)
		got := make([]int, 8)
		var wg sync.WaitGroup
		for i := range got {
			wg.Go(func() { got[i] = m.Add("", 1, i, 1, func(int) bool { return true }) })
		}
		wg.Wait()
		for _, value := range got {
			if value != got[0] {
				t.Fatalf("they got %v", got)
			}
		}
	}
}
