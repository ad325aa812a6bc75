// Package nameindex has the names of stored messengers, possibly a million, without an allocation for each: read
// once for all who ask at about the same time.
//
// It knows nothing about storages and messengers. Begin reading with [Shared.View].
package nameindex

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"iter"
	"slices"
	"sort"
	"strings"
)

const (
	// maxNames bounds the memory of an index: about 25 bytes for each name.
	maxNames = 10_000_000

	// chunk is how many names are sorted at a time: these stay in the processor's cache.
	chunk = 1 << 16
)

var errTooMany = errors.New("there are more than 10,000,000 names")

// An Index is a set of names. It does not change.
type Index struct {
	blocks []*block

	// Count is how many names were read, without those that were made a moment ago.
	Count int
}

// Before returns how many names are not after a given one, more or less: those that were made a moment ago may count twice.
func (x Index) Before(name string) (n int) {
	for _, b := range x.blocks {
		n += b.after(name)
	}
	return n
}

// Has reports whether a name is one of them.
func (x Index) Has(name string) bool {
	return slices.ContainsFunc(x.blocks, func(b *block) bool {
		i := b.after(name)
		return i > 0 && string(b.name(i-1)) == name
	})
}

// A block has some of the names, sorted. Blocks are not merged until names are read, and then only as far as they are.
type block struct {
	text []byte   // the names, each followed by a line break
	ends []uint32 // where each of them ends
}

func (b *block) name(i int) []byte { return b.text[b.start(i):b.ends[i]] }

func (b *block) start(i int) uint32 {
	if i == 0 {
		return 0
	}
	return b.ends[i-1] + 1
}

func (b *block) add(name string) {
	b.text = append(b.text, name...)
	b.ends = append(b.ends, uint32(len(b.text))) //nolint:gosec // a block has few names
	b.text = append(b.text, '\n')
}

// after returns the number of the first name after a given one.
func (b *block) after(name string) int {
	return sort.Search(len(b.ends), func(i int) bool { return string(b.name(i)) > name })
}

// next returns the number of the first name from the i-th on that has part in it. The text is searched as a whole, and not name
// by name.
func (b *block) next(i int, part []byte) int {
	if i >= len(b.ends) || len(part) == 0 {
		return i
	}
	found := bytes.Index(b.text[b.start(i):], part)
	if found < 0 {
		return len(b.ends)
	}
	at := b.start(i) + uint32(found) //nolint:gosec // it is within text
	return i + sort.Search(len(b.ends)-i, func(n int) bool { return b.ends[i+n] > at })
}

// Matching returns the names after a given one that have part in them, sorted, each once. Some may be gone already.
func (x Index) Matching(after, part string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if strings.Contains(part, "\n") {
			return
		}
		wanted := []byte(part)
		at := make([]int, len(x.blocks))
		for n, b := range x.blocks {
			at[n] = b.next(b.after(after), wanted)
		}
		for last := []byte(nil); ; {
			least := -1
			for n, b := range x.blocks {
				if at[n] < len(b.ends) && (least < 0 || bytes.Compare(b.name(at[n]), x.blocks[least].name(at[least])) < 0) {
					least = n
				}
			}
			if least < 0 {
				return
			}
			b := x.blocks[least]
			name := b.name(at[least])
			at[least] = b.next(at[least]+1, wanted)
			if last != nil && bytes.Equal(name, last) {
				continue
			}
			if last = name; !yield(string(name)) {
				return
			}
		}
	}
}

// A Builder makes an index of names that come in any order.
type Builder struct {
	index Index
	open  []string
}

// Add adds a name without a line break. It is copied later, together with others.
func (b *Builder) Add(name string) error {
	if b.index.Count++; b.index.Count > maxNames {
		return errTooMany
	}
	if b.open = append(b.open, name); len(b.open) >= chunk {
		b.pack()
	}
	return nil
}

// pack makes a block of the names that were added last.
func (b *Builder) pack() {
	if len(b.open) > 0 {
		b.index.blocks = append(b.index.blocks, newBlock(b.open))
		clear(b.open)
		b.open = b.open[:0]
	}
}

// newBlock makes a block. Names have much in common: what follows that is compared as a number, which is several times as fast.
func newBlock(names []string) *block {
	type keyed struct {
		key  uint64
		name string
	}
	common := commonPrefix(names)
	sorted := make([]keyed, len(names))
	size := len(names)
	for i, name := range names {
		var first [8]byte
		copy(first[:], name[common:])
		sorted[i] = keyed{binary.BigEndian.Uint64(first[:]), name}
		size += len(name)
	}
	slices.SortFunc(sorted, func(a, b keyed) int {
		if a.key != b.key {
			return cmp.Compare(a.key, b.key)
		}
		return strings.Compare(a.name, b.name)
	})
	made := &block{make([]byte, 0, size), make([]uint32, 0, len(names))}
	for _, k := range sorted {
		made.add(k.name)
	}
	return made
}

// commonPrefix returns the length of what all names begin with.
func commonPrefix(names []string) int {
	first := names[0]
	common := len(first)
	for _, name := range names {
		common = min(common, len(name))
		for name[:common] != first[:common] {
			common--
		}
	}
	return common
}

// Index returns the index of the names.
func (b *Builder) Index() Index {
	b.pack()
	b.open = nil
	return b.index
}
