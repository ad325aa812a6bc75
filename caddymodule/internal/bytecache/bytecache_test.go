package bytecache

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/testsize"
)

// keyOf is a hash of n.
func keyOf(n int) uint64 { return uint64(n) * 0x9E3779B97F4A7C15 }

func valueOf(n, length int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "%d;", n), length)[:length]
}

// A model remembers all that was set. What the cache answers must be the last value of that key; what it keeps must fit.
func TestCacheReturnsTheLastValueOrNone(t *testing.T) {
	if testsize.Raced {
		t.Skip("one goroutine does it all")
	}
	for _, size := range []int{1, 2, 9, 10, 100, 2048, 5000} {
		t.Run(fmt.Sprint("size ", size), func(t *testing.T) {
			r, c, last := rand.New(rand.NewPCG(uint64(size), 1)), New(size), make(map[int][]byte)
			var hits, misses uint64
			for i := range 200_000 {
				n := int(float64(3*size) * r.Float64() * r.Float64()) // some are in use far more than others
				if r.IntN(3) == 0 {
					length := r.IntN(200)
					if r.IntN(50) == 0 {
						length = r.IntN(maxValue + 1)
					}
					last[n] = valueOf(i, length)
					c.Set(keyOf(n), last[n])
					continue
				}
				got, found := c.Get(keyOf(n), []byte("before:"))
				if !found {
					misses++
					if string(got) != "before:" {
						t.Fatalf("a miss changed the buffer to %q", got)
					}
					continue
				}
				hits++
				if want := "before:" + string(last[n]); string(got) != want {
					t.Fatalf("step %d, key %d: got %q, want %q", i, n, got, want)
				}
			}
			stats := c.Stats()
			if stats.Hits != hits || stats.Misses != misses || hits == 0 || misses == 0 || stats.Evictions == 0 {
				t.Errorf("%+v; %d hits, %d misses", stats, hits, misses)
			}
			if stats.Entries > size || stats.Entries < size/2 {
				t.Errorf("%d entries of %d", stats.Entries, size)
			}
			for i := range c.shards {
				s := &c.shards[i]
				if got := s.memory(); got > s.blocks+2 {
					t.Errorf("%d blocks in a shard for %d", got, s.blocks)
				}
				if s.young.length+s.old.length > s.size {
					t.Errorf("%d and %d entries in the queues of a shard for %d", s.young.length, s.old.length, s.size)
				}
			}
		})
	}
}

func TestValueIsPresentAfterSet(t *testing.T) {
	c := New(10)
	for n, length := range []int{0, 1, 127, maxValue - 1, maxValue, 5, maxValue} {
		c.Set(keyOf(n), valueOf(n, length))
		if got, found := c.Get(keyOf(n), nil); !found || !bytes.Equal(got, valueOf(n, length)) {
			t.Errorf("%d bytes: found %t, %d bytes", length, found, len(got))
		}
	}
	c.Set(keyOf(99), make([]byte, maxValue+1))
	if _, found := c.Get(keyOf(99), nil); found {
		t.Error("a value that is too long was kept")
	}
}

// While all fits, nothing is forgotten; this is what a queue for newcomers alone would get wrong.
func TestNoEvictionBelowTheLimit(t *testing.T) {
	const size = 1000
	c := New(size)
	for range 2 {
		for n := range size {
			if _, found := c.Get(keyOf(n), nil); !found {
				c.Set(keyOf(n), valueOf(n, 20))
			}
		}
	}
	if got, want := c.Stats(), (Stats{Hits: size, Misses: size, Entries: size}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// Entries in use are not evicted, although each of them is read less often than the whole cache is filled anew.
func TestScanDoesNotEvictEntriesInUse(t *testing.T) {
	const size, used = 10_000, 4000
	c := New(size)
	for range 3 {
		for n := range used {
			c.Set(keyOf(n), valueOf(n, 20))
			c.Get(keyOf(n), nil)
		}
	}
	once, found := used, 0
	for n := range used {
		for range 10 { // the whole scan is four times the cache
			c.Set(keyOf(once), valueOf(once, 20))
			once++
		}
		if _, ok := c.Get(keyOf(n), nil); ok {
			found++
		}
	}
	if found < used*99/100 {
		t.Errorf("%d of %d entries in use survived a scan", found, used)
	}
}

// memory is how many blocks the shard takes, those that wait for their next use included.
func (s *shard) memory() int {
	n := len(s.young.blocks) + len(s.old.blocks)
	for _, q := range []queue{s.young, s.old} {
		if q.spare != nil {
			n++
		}
	}
	return n
}

// An attacker who chooses the length of values does not choose how much memory the cache takes, whether they are read again or
// not; and long values that come once push out no more of what is in use than short ones do.
func TestMemoryIsBoundedWhateverTheValuesAre(t *testing.T) {
	if testsize.Raced {
		t.Skip("one goroutine does it all")
	}
	const size, used = 3000, 200
	for _, length := range []int{600, 1000, 4096, blockSize/2 - entryHead, blockSize/2 - entryHead + 1, maxValue} {
		for _, again := range []bool{false, true} {
			t.Run(fmt.Sprint(length, " bytes, read again ", again), func(t *testing.T) {
				c, value := New(size), make([]byte, length)
				for range 3 {
					for n := range used {
						c.Set(keyOf(n), value[:200])
						c.Get(keyOf(n), nil)
					}
				}
				found := 0
				for i := range 4 * size {
					key := keyOf(used + i)
					c.Set(key, value)
					if again {
						c.Get(key, nil)
					}
					if _, ok := c.Get(keyOf(i%used), nil); ok {
						found++
					}
				}
				blocks := 0
				for i := range c.shards {
					blocks += c.shards[i].memory()
				}
				if got := blocks * blockSize / size; got > 640+2*len(c.shards)*blockSize/size {
					t.Errorf("%d bytes for each of %d entries", got, size)
				}
				if !again && found < 4*size*99/100 {
					t.Errorf("%d of %d requests found what is in use", found, 4*size)
				}
				if c.Stats().Entries == 0 {
					t.Error("nothing is kept")
				}
			})
		}
	}
}

// One key that is set over and over does not make a queue grow.
func TestReplacedValuesAreReclaimed(t *testing.T) {
	c := New(100)
	c.Set(keyOf(1), valueOf(1, 20))
	for n := range 100_000 {
		c.Set(keyOf(0), valueOf(n, 20))
	}
	s := &c.shards[0]
	if blocks := len(s.young.blocks) + len(s.old.blocks); blocks > 4 {
		t.Errorf("%d blocks for one entry", blocks)
	}
	if got, _ := c.Get(keyOf(0), nil); !bytes.Equal(got, valueOf(99_999, 20)) {
		t.Errorf("got %q", got)
	}
}

func TestCacheWithConcurrentCallers(t *testing.T) {
	c := New(3000)
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(worker), 1))
			for range 20_000 {
				n := r.IntN(6000)
				if got, found := c.Get(keyOf(n), nil); found && !bytes.Equal(got, valueOf(n, 10+n%100)) {
					t.Errorf("key %d: got %q", n, got)
				} else if !found {
					c.Set(keyOf(n), valueOf(n, 10+n%100))
				}
			}
		})
	}
	all.Wait()
}

func FuzzCache(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 200, 201, 202}, uint8(3))
	f.Add([]byte("some keys are set, and some are read"), uint8(1))
	f.Fuzz(func(t *testing.T, steps []byte, size uint8) {
		c, last := New(1+int(size)), make(map[int][]byte)
		for i, step := range steps {
			n := int(step & 63)
			if step < 128 {
				last[n] = valueOf(i, (int(step)*131+i*977)%(maxValue+1))
				c.Set(keyOf(n), last[n])
			} else if got, found := c.Get(keyOf(n), nil); found && !bytes.Equal(got, last[n]) {
				t.Fatalf("key %d has another value than its last", n)
			}
		}
		if got := c.Stats().Entries; got > 1+int(size) {
			t.Fatalf("%d entries of %d", got, 1+int(size))
		}
	})
}

// BenchmarkCache also measures what one collection costs with a million entries in memory.
func BenchmarkCache(b *testing.B) {
	const size = 1_000_000
	c, value := New(size), make([]byte, 80)
	for n := range size {
		c.Set(keyOf(n), value)
	}
	buffer := make([]byte, 0, 128)
	b.Run("hit", func(b *testing.B) {
		key := keyOf(1)
		b.ReportAllocs()
		for b.Loop() {
			_, _ = c.Get(key, buffer)
		}
	})
	b.Run("hits all over", func(b *testing.B) {
		n := 0
		for b.Loop() {
			_, _ = c.Get(keyOf(n), buffer)
			n = (n + 7919) % size
		}
	})
	b.Run("hit on all cores", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			key, buffer := keyOf(1), make([]byte, 0, 128)
			for pb.Next() {
				_, _ = c.Get(key, buffer)
			}
		})
	})
	b.Run("set and forget", func(b *testing.B) {
		n := size
		b.ReportAllocs()
		for b.Loop() {
			c.Set(keyOf(n), value)
			n++
		}
	})
	b.Run("collection", func(b *testing.B) {
		for b.Loop() {
			runtime.GC()
		}
	})
}
