// Package bytecache is a bounded cache of short byte strings that costs the garbage collector almost nothing.
//
// The collector visits a cache of objects object by object, and such a cache would be most of a gateway's memory. Here the
// entries are stored one after the other in large blocks without pointers, which the collector does not scan.
//
// Eviction follows S3-FIFO (Yang, Zhang, Qiu, Yue and Rashmi, "FIFO queues are all you need for cache eviction", SOSP 2023),
// without its ghost queue: entries that were never read again are evicted first, so that a million entries that are used
// once do not evict one that is in use.
//
// A key is a hash that attackers must not be able to choose; the caller ensures that. If two entries have the same key by
// chance, the later one replaces the earlier. A caller that has to be certain stores in the value what it belongs to.
//
// The package does not know what the values are, and when they are no longer true. Begin reading with [Cache].
package bytecache

import "sync"

const (
	// maxValue is the length of the longest value in bytes.
	maxValue = blockSize - entryHead

	// shardSize is about how many entries share a lock: two requests seldom want the same lock, and none waits long while a
	// shard is searched for entries to evict.
	shardSize = 2048

	// averageEntry is how many bytes the blocks of a cache take at most for each of its entries. Entries that are longer on
	// average leave room for fewer: the contacts' tokens do not decide how much memory the cache takes.
	averageEntry = 600

	// minBlocks is the smallest number of blocks of a shard, so that a small cache has room for more than the two entries that
	// need a whole block.
	minBlocks = 8

	// youngShare says that a tenth of a full cache is for young entries, which are evicted unless they are read again.
	youngShare = 10
)

// A Cache is safe for concurrent use.
type Cache struct{ shards []shard }

// Stats count what a [Cache] did since it was made.
type Stats struct {
	Hits, Misses, Evictions uint64
	Entries                 int
}

// New returns a cache of at most size entries, for which it takes at most about 640 bytes each on average, whatever their length;
// size is above 0. It allocates memory as it fills.
func New(size int) *Cache {
	shards := 1
	for size > shards*shardSize {
		shards *= 2
	}
	c := &Cache{make([]shard, shards)}
	for i := range c.shards {
		c.shards[i].index = make(map[uint64]place)
		c.shards[i].size = size / shards
		if i < size%shards {
			c.shards[i].size++
		}
		c.shards[i].blocks = max(minBlocks, c.shards[i].size*averageEntry/blockSize)
	}
	return c
}

// Get appends the value of key to buffer, and reports whether there is one.
func (c *Cache) Get(key uint64, buffer []byte) ([]byte, bool) {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	p, found := s.index[key]
	if !found {
		s.misses++
		return buffer, false
	}
	s.hits++
	e := s.queue(p.old()).at(p.offset())
	e.visit()
	return append(buffer, e.value()...), true
}

// Set stores value at key. A value that is longer than maxValue is not stored.
func (c *Cache) Set(key uint64, value []byte) {
	if len(value) > maxValue {
		return
	}
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.makeRoom()
	old := s.index[key].old()
	s.index[key] = placeOf(s.queue(old).append(key, value), old)
}

// Stats returns the counts of c.
func (c *Cache) Stats() (sum Stats) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		sum.Hits += s.hits
		sum.Misses += s.misses
		sum.Evictions += s.evictions
		sum.Entries += len(s.index)
		s.mu.Unlock()
	}
	return sum
}

func (c *Cache) shard(key uint64) *shard { return &c.shards[key%uint64(len(c.shards))] }

// A shard is a part of a cache with a lock of its own. New entries are young. When there is no room, the first young entry becomes
// old if it was read since it was set, and is evicted otherwise. The first old entry moves to the end of its queue if it was read
// since it was put there, and is evicted otherwise.
type shard struct {
	mu         sync.Mutex       // guards all that follows
	size       int              // how many entries both queues may have together
	blocks     int              // how many blocks they may have together
	index      map[uint64]place // by key
	young, old queue

	hits, misses, evictions uint64
	_                       [64]byte // keeps the next shard's lock out of this one's cache line
}

// A place is the offset of an entry, doubled, plus one if it is in the queue of old entries. An entry to which the index does not
// point was replaced; it takes its room until its queue has come to it.
type place uint64

func placeOf(offset uint64, old bool) place {
	if old {
		return place(offset<<1 | 1)
	}
	return place(offset << 1)
}

func (p place) old() bool      { return p&1 != 0 }
func (p place) offset() uint64 { return uint64(p >> 1) }

func (s *shard) queue(old bool) *queue {
	if old {
		return &s.old
	}
	return &s.young
}

// makeRoom makes room for one more entry, in number and in blocks. Replaced entries count too, so that a queue does not grow
// when one key is set again and again. An old entry is retired only if old ones exceed their share of the scarce resource:
// a scan with long values, which fills the blocks first, evicts no more than a scan with many values.
func (s *shard) makeRoom() {
	for s.young.length+s.old.length >= s.size {
		s.retire(s.young.length <= s.size/youngShare && s.old.length > 0)
	}
	// One more entry may need a block more, and an entry that grows old on the way another.
	for s.young.length+s.old.length > 0 && len(s.young.blocks)+len(s.old.blocks) > s.blocks-2 {
		s.retire(s.old.length > 0 && len(s.young.blocks) <= s.blocks/youngShare || s.young.length == 0)
	}
}

// retire takes the first entry out of a queue, and keeps it as an old one if it was read.
func (s *shard) retire(old bool) {
	e, offset := s.queue(old).take()
	key := e.key()
	if p, found := s.index[key]; !found || p != placeOf(offset, old) {
		return
	}
	if !e.visited() {
		delete(s.index, key)
		s.evictions++
		return
	}
	s.index[key] = placeOf(s.old.append(key, e.value()), true)
}
