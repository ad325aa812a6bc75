package ticket

import (
	"hash/maphash"
	"sync"
	"time"
)

const (
	// takenTime is how long this node remembers a used ticket after it has expired.
	takenTime = time.Minute

	// maxTaken is how many used tickets a node remembers, about 100 MB. Further tickets are refused: a ticket that is forgotten could be
	// used again.
	maxTaken = 1 << 20

	// maxOfContact is how many of them one contact may use: enough for a hundred pictures in a chat, and a few reloads of it. Without
	// this limit, one contact with a valid token could use up maxTaken, so that the tickets of all contacts are refused.
	maxOfContact = 600
)

// seed makes the hashes of contacts in taken unpredictable, so that no contact can choose a name that is counted with another's.
var seed = maphash.MakeSeed()

// taken has the tickets that were used on this node.
type taken struct {
	mu      sync.Mutex
	minutes map[int64]minute // by the minute in which they expire
	count   int

	// forgotten is the last minute whose tickets were forgotten. If the clock is set back, these tickets would not have expired, and are
	// refused because of it.
	forgotten int64
}

// A minute has the tickets that expire in one minute.
type minute struct {
	ids  map[[idSize]byte]struct{}
	uses map[uint64]int // by the hash of the contact
}

// add records that t is used, and fails if it was used before.
func (d *taken) add(t *Ticket, contact string) error {
	who := maphash.String(seed, contact)
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, used := d.minutes[t.minute()].ids[t.id]; used {
		return ErrUsed
	}
	uses := 0
	for _, m := range d.minutes {
		uses += m.uses[who]
	}
	switch {
	case t.minute() <= d.forgotten:
		return ErrExpired
	case uses >= maxOfContact:
		return ErrTooMany
	case d.count >= maxTaken:
		return errFull
	}
	m, found := d.minutes[t.minute()]
	if !found {
		if d.minutes == nil {
			d.minutes = make(map[int64]minute)
		}
		m = minute{make(map[[idSize]byte]struct{}), make(map[uint64]int)}
		d.minutes[t.minute()] = m
	}
	m.ids[t.id] = struct{}{}
	m.uses[who]++
	d.count++
	return nil
}

// forget removes the minutes before this one.
func (d *taken) forget(before int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for number, m := range d.minutes {
		if number < before {
			d.forgotten = max(d.forgotten, number)
			d.count -= len(m.ids)
			delete(d.minutes, number)
		}
	}
}
