package strictjson

import (
	"bytes"
	"hash/maphash"
	"sync"
)

const (
	// FewNames is how many member names of one object are compared one by one, which is faster than a table. The names of a
	// larger object go into a table, so that no shape of an object makes the search quadratic.
	FewNames = 16

	firstSlots = 128  // a power of two
	maxSlots   = 4096 // a table that grew larger, for a large key set, is not reused
)

// unique records the name at this place for the object with this number, whose names begin at first, and refuses it if the object
// has it already. The names of an object are among the open names while they are few. One more than these means that they are in
// the table.
func (s *scanner) unique(first int, object uint32, at span) error {
	if s.open-first < FewNames {
		name := s.name(at)
		for i := first; i < s.open; i++ {
			if string(s.name(s.opened(i))) == string(name) {
				return errDuplicate
			}
		}
		s.push(at)
		return nil
	}
	if s.open-first == FewNames {
		if s.table == nil {
			s.table = nameTables.Get().(*nameTable)
		}
		for i := first; i < s.open; i++ {
			s.table.add(s, object, s.opened(i))
		}
		s.push(at)
	}
	if !s.table.add(s, object, at) {
		return errDuplicate
	}
	return nil
}

func (s *scanner) push(at span) {
	if s.open < len(s.few) {
		s.few[s.open] = at
	} else {
		s.more = append(s.more[:s.open-len(s.few)], at)
	}
	s.open++
}

// opened returns the i-th name of the open objects.
func (s *scanner) opened(i int) span {
	if i < len(s.few) {
		return s.few[i]
	}
	return s.more[i-len(s.few)]
}

// nameAt unescapes a name once, because it may be compared with every other name of its object.
func (s *scanner) nameAt(at span) (span, error) {
	if !at.escaped {
		return at, nil
	}
	start := len(s.unescape)
	var err error
	s.unescape, err = appendUnquoted(s.unescape, s.text[at.start:at.end])
	return span{int32(start), int32(len(s.unescape)), true}, err
}

func (s *scanner) name(at span) []byte {
	if at.escaped {
		return s.unescape[at.start:at.end]
	}
	return s.text[at.start:at.end]
}

// release returns the table for reuse, without anything of the text in it.
func (s *scanner) release() {
	if s.table != nil {
		s.table.empty()
	}
}

// A nameTable is the set of the names of the large objects of one text; names of different objects are different. Its hash has a
// random seed, so that an attacker cannot choose names that collide.
type nameTable struct {
	slots []int32 // open addressing: the index of a name in names plus one; 0 is empty
	names []tableName
}

type tableName struct {
	hash   uint64
	object uint32
	at     span
}

var nameTables = sync.Pool{New: func() any { return &nameTable{slots: make([]int32, firstSlots)} }}

var nameSeed = maphash.MakeSeed()

// add returns false if the object has the name already.
func (t *nameTable) add(s *scanner, object uint32, at span) bool {
	name := s.name(at)
	hash := maphash.Bytes(nameSeed, name) ^ uint64(object)*0x9E3779B97F4A7C15
	slot := hash & uint64(len(t.slots)-1)
	for ; t.slots[slot] != 0; slot = (slot + 1) & uint64(len(t.slots)-1) {
		other := &t.names[t.slots[slot]-1]
		if other.hash == hash && other.object == object && bytes.Equal(s.name(other.at), name) {
			return false
		}
	}
	t.names = append(t.names, tableName{hash, object, at})
	t.slots[slot] = int32(len(t.names))
	if 2*len(t.names) > len(t.slots) {
		t.grow()
	}
	return true
}

func (t *nameTable) grow() {
	t.slots = make([]int32, 2*len(t.slots))
	mask := uint64(len(t.slots) - 1)
	for i := range t.names {
		slot := t.names[i].hash & mask
		for t.slots[slot] != 0 {
			slot = (slot + 1) & mask
		}
		t.slots[slot] = int32(i + 1)
	}
}

func (t *nameTable) empty() {
	if len(t.slots) > maxSlots {
		return
	}
	clear(t.slots)
	t.names = t.names[:0]
	nameTables.Put(t)
}
