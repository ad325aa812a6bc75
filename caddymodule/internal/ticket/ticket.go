// Package ticket gives tickets, and takes each of them at most once.
//
// A ticket is a short-lived text in place of a token, for requests that cannot carry a header. It has the token itself inside,
// sealed. So whoever takes a ticket verifies the token like any other, by the keys, settings and revocations of that moment, and
// what is opened with it has the deadlines of the contact. To seal what a verification has found would be shorter, and would need
// a second place that decides whether a contact is valid.
//
// A ticket is taken at most once: on one node by memory. If several nodes can open it, because they derive the key from the key
// of their store, each that takes it first writes a marker of its own and then lists the ticket's markers; if there is another,
// it refuses. Of two nodes at the same instant at least the one that lists later sees both, so that one of them wins or none.
// Nothing but a ticket whose seal was verified costs memory or a call of the storage.
//
// The package knows the standard library only. Begin reading with [Desk].
package ticket

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"
)

const (
	// MaxLifetime is the longest time for which a ticket may be valid.
	MaxLifetime = 5 * time.Minute

	// keep is how long it is remembered that a ticket was taken, after it has expired: as much as the clocks of two nodes may
	// differ, or one clock may be set back.
	keep = 5 * time.Minute

	// maxTaken is how many taken tickets a node remembers, about 100 MB. Further ones are refused: forgetting one would let it be
	// used again.
	maxTaken = 1 << 20

	// useTime bounds how long taking one ticket waits for the storage.
	useTime = 3 * time.Second

	// sweepInterval is how often the markers of nodes that are gone are looked for, and orphaned is how old these are.
	sweepInterval = 15 * time.Minute
	orphaned      = time.Hour
)

// The errors of a ticket that is not taken. Anything else that Take returns means that it could not be decided.
var (
	ErrInvalid = errors.New("the ticket was not made by this gateway, or was changed")
	ErrExpired = errors.New("the ticket has expired")
	ErrUsed    = errors.New("the ticket was used before")

	errFull = errors.New("too many tickets were used in the last minutes to remember one more")
)

// A Ticket is what is sealed in its text.
type Ticket struct {
	Messenger string // the only one at which it is valid
	Path      string // the only path for which it is valid; "" for all
	Token     string
	Expires   time.Time // with a precision of milliseconds

	id [idSize]byte
}

// idSize is the length of the random name of a ticket, in bytes.
const idSize = 16

// Markers are where nodes that share a store note that a ticket was taken.
type Markers interface {
	// Mark writes this node's marker for the ticket of that id into the folder of a minute, and then reports whether it is the
	// only one. An error means that this is unknown, and the marker may have been written.
	Mark(ctx context.Context, minute, id string) (alone bool, err error)

	// Unmark removes this node's marker.
	Unmark(ctx context.Context, minute, id string) error

	// Minutes returns the minutes that have markers of any node.
	Minutes(ctx context.Context) ([]string, error)

	// RemoveAll removes the markers of a minute.
	RemoveAll(ctx context.Context, minute string) error
}

// A Desk gives and takes tickets. It is safe for concurrent use.
type Desk struct {
	keys    []key
	markers Markers // nil if no other node can open the tickets

	mu    sync.Mutex
	taken map[int64]map[[idSize]byte]struct{} // by the minute in which they expire
	count int

	tidying sync.Mutex
	swept   time.Time
}

// New returns a desk whose key is derived from the first of storeKeys; it opens tickets of each of them. Without storeKeys it has
// a key of its own, so that no other node can open its tickets, and uses no markers.
func New(storeKeys [][]byte, markers Markers) (*Desk, error) {
	d := &Desk{taken: make(map[int64]map[[idSize]byte]struct{}), markers: markers}
	if len(storeKeys) == 0 {
		own := make([]byte, 32)
		_, _ = rand.Read(own) // never fails
		storeKeys, d.markers = [][]byte{own}, nil
	}
	for _, secret := range storeKeys {
		k, err := newKey(secret)
		if err != nil {
			return nil, fmt.Errorf("deriving the key of tickets: %w", err)
		}
		d.keys = append(d.keys, k)
	}
	return d, nil
}

// Give returns the text of a new ticket, which is URL-safe.
func (d *Desk) Give(t Ticket) (string, error) {
	_, _ = rand.Read(t.id[:]) // never fails
	return d.keys[0].seal(&t)
}

// Open returns the ticket of a text. It costs no memory that stays and no call of a storage, whatever the text is.
func (d *Desk) Open(text string, now time.Time) (*Ticket, error) {
	for i := range d.keys {
		t, err := d.keys[i].open(text)
		if errors.Is(err, errOtherKey) {
			continue
		}
		if err == nil && !now.Before(t.Expires) {
			err = ErrExpired
		}
		return t, err
	}
	return nil, ErrInvalid
}

// Take uses a ticket that Open has returned. It succeeds at most once for all copies of its text, on all nodes together.
func (d *Desk) Take(ctx context.Context, t *Ticket, now func() time.Time) error {
	if err := d.remember(t); err != nil {
		return err
	}
	if d.markers == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, useTime)
	defer cancel()
	alone, err := d.markers.Mark(ctx, minuteName(t.minute()), hex.EncodeToString(t.id[:]))
	switch {
	case err != nil:
		return fmt.Errorf("noting that a ticket was used: %w", err)
	case !alone:
		return ErrUsed
	case !now().Before(t.Expires):
		// This node was suspended: others may have removed the markers of earlier uses meanwhile.
		return ErrExpired
	}
	return nil
}

func (t *Ticket) minute() int64 { return t.Expires.Unix() / 60 }

func minuteName(minute int64) string { return strconv.FormatInt(minute, 10) }

// remember notes that t is taken, and fails if it was taken on this node before.
func (d *Desk) remember(t *Ticket) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	minute := d.taken[t.minute()]
	if _, used := minute[t.id]; used {
		return ErrUsed
	}
	if d.count >= maxTaken {
		return errFull
	}
	if minute == nil {
		minute = make(map[[idSize]byte]struct{})
		d.taken[t.minute()] = minute
	}
	minute[t.id] = struct{}{}
	d.count++
	return nil
}

// Tidy forgets tickets that expired long ago, and removes their markers. It is called about once a minute.
func (d *Desk) Tidy(ctx context.Context, now time.Time) {
	if !d.tidying.TryLock() {
		return
	}
	defer d.tidying.Unlock()
	before := now.Add(-keep).Unix() / 60
	for minute, ids := range d.forget(before) {
		for id := range ids {
			if ctx.Err() != nil || d.markers == nil {
				break
			}
			_ = d.markers.Unmark(ctx, minuteName(minute), hex.EncodeToString(id[:])) // what stays is removed as an orphan
		}
	}
	if d.markers == nil || now.Sub(d.swept) < sweepInterval {
		return
	}
	d.swept = now
	minutes, err := d.markers.Minutes(ctx)
	if err != nil {
		return // the next time, all are there still
	}
	for _, name := range minutes {
		if minute, err := strconv.ParseInt(name, 10, 64); err == nil && minute < now.Add(-orphaned).Unix()/60 {
			_ = d.markers.RemoveAll(ctx, name)
		}
	}
}

// forget takes the minutes that ended before that one out of memory.
func (d *Desk) forget(before int64) map[int64]map[[idSize]byte]struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := make(map[int64]map[[idSize]byte]struct{})
	for minute, ids := range d.taken {
		if minute < before {
			old[minute] = ids
			delete(d.taken, minute)
			d.count -= len(ids)
		}
	}
	return old
}
