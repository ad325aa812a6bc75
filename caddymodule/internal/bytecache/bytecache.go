// Package bytecache is a bounded cache of short byte strings that costs the garbage collector next to nothing.
//
// The collector visits a cache of objects object by object, and such a cache would be most of a gateway's memory. Here the
// entries are stored one after the other in large blocks without pointers, which the collector does not scan.
//
// Eviction follows S3-FIFO (Yang, Zhang, Qiu, Yue and Rashmi, "FIFO queues are all you need for cache eviction", SOSP 2023),
// without its ghost queue: entries that were never read again are evicted first, so that a million entries that are used
// once do not evict one that is in use.
//
// A key is a hash that attackers must not be able to choose; the caller ensures that. If two things have the same key by
// chance, the one that was set last has it. A caller that has to be certain stores in the value what it belongs to.
//
// Begin reading with [Cache].
package bytecache

import "sync"

const (
	// MaxValue is the length of the longest value in bytes.
	MaxValue = blockSize - entryHead

	// shardSize is for about how many entries there is a lock: two requests seldom want the same, and nobody waits long
	// while all entries of one are looked through for some to forget.
	shardSize = 2048

	// averageEntry is how many bytes the blocks of a cache take for each of its entries at most. Entries that are longer
	// than that on average leave room for fewer: what others put into a cache does not decide how much memory it takes.
	averageEntry = 600

	// minBlocks is the least that a shard has, so that a small one holds more than the two entries that need a whole block.
	minBlocks = 8

	// youngShare is the part of a full cache, one in so many, that entries have in which they must be asked for again.
	youngShare = 10
)

// A Cache is safe for concurrent use.
type Cache struct{ shards []shard }

// Stats count what a [Cache] did since it was made.
type Stats struct {
	Hits, Misses, Evictions uint64
	Entries                 int
}

// New returns a cache of at most size entries, which take at most about 640 bytes each on average,
// whatever their length; size is above 0. It takes memory as it fills.
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

// Set stores value at key. A value that is longer than MaxValue is not stored.
func (c *Cache) Set(key uint64, value []byte) {
	if len(value) > MaxValue {
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

// A shard is a part of a cache with a lock of its own. New entries are young. When there is no room, a young entry that was
// read since it was set becomes old, and any other is evicted. An old entry goes to the end of its queue if it was read since
// it was put there.
type shard struct {
	mu         sync.Mutex
	size       int              // how many entries both queues have together
	blocks     int              // how many blocks they have
	index      map[uint64]place // by key
	young, old queue

	hits, misses, evictions uint64
	_                       [64]byte // keeps its neighbour's lock out of this one's cache line
}

// A place is the offset of an entry, doubled, and one more if it is in the queue of old ones. An entry without a place in the
// index was replaced.
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

// retire takes the first entry out of a queue.
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
