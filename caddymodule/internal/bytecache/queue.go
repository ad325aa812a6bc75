package bytecache

import "encoding/binary"

const (
	// blockSize is small enough that the partly filled blocks of all shards do not matter, and large enough that there are few
	// blocks for the collector.
	blockSize = 8 << 10

	// entryHead is the size of what precedes a value: one byte of state, the length of the value, and the key.
	entryHead = 1 + 2 + 8
)

// The states of an entry. Blocks are full of noEntry at first.
const (
	noEntry byte = iota // the rest of the block is empty
	unvisited
	visited
)

// An entry is the rest of a block, beginning with the entry.
type entry []byte

func (e entry) visit()        { e[0] = visited }
func (e entry) visited() bool { return e[0] == visited }
func (e entry) key() uint64   { return binary.LittleEndian.Uint64(e[3:]) }
func (e entry) value() []byte { return e[entryHead:e.size()] }
func (e entry) size() int     { return entryHead + int(binary.LittleEndian.Uint16(e[1:])) }

// A queue has entries in the order in which they were added. Offsets only ever increase, as if the queue were one long text, so
// that an offset in the index never means another entry than the one for which it was made.
type queue struct {
	blocks [][]byte // the blocks with entries; the first begins at offset first
	spare  []byte   // an empty block for reuse, or nil
	first  uint64
	head   uint64 // the offset of the first entry
	end    uint64 // the offset after the last one
	length int
}

func (q *queue) at(offset uint64) entry {
	offset -= q.first
	return q.blocks[offset/blockSize][offset%blockSize:]
}

// append returns the offset of the new entry, which was not visited.
func (q *queue) append(key uint64, value []byte) uint64 {
	size := entryHead + len(value)
	if used := int(q.end % blockSize); len(q.blocks) == 0 || used == 0 || used+size > blockSize {
		q.addBlock()
	}
	e := q.at(q.end)
	e[0] = unvisited
	binary.LittleEndian.PutUint16(e[1:], uint16(len(value)))
	binary.LittleEndian.PutUint64(e[3:], key)
	copy(e[entryHead:], value)
	offset := q.end
	q.end += uint64(size)
	q.length++
	return offset
}

// addBlock moves end to the beginning of an empty block.
func (q *queue) addBlock() {
	block := q.spare
	if q.spare = nil; block == nil {
		block = make([]byte, blockSize)
	}
	if used := q.end % blockSize; used != 0 {
		q.end += blockSize - used
	}
	if len(q.blocks) == 0 {
		q.first, q.head = q.end, q.end
	}
	q.blocks = append(q.blocks, block)
}

// take removes the first entry of a queue, which must not be empty. The entry can be read until the next call.
func (q *queue) take() (e entry, offset uint64) {
	for q.head-q.first >= blockSize || q.at(q.head)[0] == noEntry {
		q.dropBlock()
	}
	e, offset = q.at(q.head), q.head
	q.head += uint64(e.size())
	q.length--
	return e, offset
}

// dropBlock removes the first block, whose entries have all been taken.
func (q *queue) dropBlock() {
	clear(q.blocks[0])
	q.spare = q.blocks[0]
	q.blocks[0] = nil
	q.blocks = q.blocks[1:]
	q.first += blockSize
	q.head = q.first
}
