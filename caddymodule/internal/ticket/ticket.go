// Package ticket gives tickets, and takes each of them at most once.
//
// A ticket is a short-lived text in place of a token, for requests that cannot carry a header. It has the token itself inside,
// sealed. So the handler that takes a ticket verifies the token like any other, by the keys, settings and revocations of that moment, and
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

	// clockDifference is how much the clocks of two nodes may differ: a ticket that has expired on one is valid that much longer
	// on the other.
	clockDifference = time.Hour

	// markerTime is for how long after a ticket has expired its markers stay, and orphanTime those of nodes that are gone.
	markerTime = clockDifference + 5*time.Minute
	orphanTime = markerTime + clockDifference

	// useTime bounds how long taking one ticket waits for the storage.
	useTime = 3 * time.Second

	// sweepInterval is how often the markers of nodes that are gone are looked for.
	sweepInterval = 15 * time.Minute
)

// The errors of a ticket that is not taken. Anything else that Take returns means that it could not be decided.
var (
	ErrInvalid  = errors.New("the ticket was not made by this gateway, or was changed")
	ErrOtherKey = errors.New("the ticket has the form of one that was sealed with another key: of another node, before a restart, or with a key that the store does not have any more")
	ErrExpired  = errors.New("the ticket has expired")
	ErrUsed     = errors.New("the ticket was used before")
	ErrTooMany  = errors.New("the contact has used too many tickets in the last minutes")

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

	// RemoveOwn removes this node's markers of a minute.
	RemoveOwn(ctx context.Context, minute string) error

	// Minutes returns the minutes that have markers of any node.
	Minutes(ctx context.Context) ([]string, error)

	// RemoveAll removes the markers that any node has written for a minute.
	RemoveAll(ctx context.Context, minute string) error
}

// A Desk gives and takes tickets. It is safe for concurrent use.
type Desk struct {
	keys    []key
	markers Markers // nil if no other node can open the tickets
	taken   taken

	tidying sync.Mutex
	marked  sync.Map // the minutes for which this node has written markers, as int64
	swept   time.Time
}

// New returns a desk whose key is derived from the first of storeKeys; it opens tickets of each of them. Without storeKeys it has
// a key of its own, so that no other node can open its tickets, and uses no markers.
func New(storeKeys [][]byte, markers Markers) (*Desk, error) {
	d := &Desk{markers: markers}
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
		if errors.Is(err, ErrOtherKey) {
			continue
		}
		if err == nil && !now.Before(t.Expires) {
			err = ErrExpired
		}
		return t, err
	}
	return nil, ErrOtherKey
}

// Take uses a ticket that Open has returned, for a contact, who has a name that no other contact has. It succeeds at most once for
// all copies of the ticket's text, on all nodes together.
func (d *Desk) Take(ctx context.Context, t *Ticket, contact string, now func() time.Time) error {
	if err := d.taken.add(t, contact); err != nil {
		return err
	}
	if d.markers == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, useTime)
	defer cancel()
	d.marked.Store(t.minute(), nil)
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

func (t *Ticket) minute() int64 { return minuteOf(t.Expires) }

func minuteOf(t time.Time) int64 { return t.Unix() / 60 }

func minuteName(minute int64) string { return strconv.FormatInt(minute, 10) }

// Tidy forgets tickets that have expired, and removes markers that no node needs. It is called about once a minute.
//
// A node removes its markers when the ticket has expired on every node, whatever the difference of their clocks: until then, a
// node that is behind would find no marker, and take the ticket again.
func (d *Desk) Tidy(ctx context.Context, now time.Time) {
	if !d.tidying.TryLock() {
		return
	}
	defer d.tidying.Unlock()
	d.taken.forget(minuteOf(now.Add(-takenTime)))
	if d.markers == nil {
		return
	}
	for minute := range d.marked.Range {
		// What cannot be removed now is removed as an orphan.
		if minute := minute.(int64); minute < minuteOf(now.Add(-markerTime)) && ctx.Err() == nil {
			d.marked.Delete(minute)
			_ = d.markers.RemoveOwn(ctx, minuteName(minute))
		}
	}
	if now.Sub(d.swept) < sweepInterval {
		return
	}
	d.swept = now
	minutes, err := d.markers.Minutes(ctx)
	if err != nil {
		return // the next time, all are there still
	}
	for _, name := range minutes {
		if minute, err := strconv.ParseInt(name, 10, 64); err == nil && minute < minuteOf(now.Add(-orphanTime)) {
			_ = d.markers.RemoveAll(ctx, name)
		}
	}
}
