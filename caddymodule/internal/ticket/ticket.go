// Package ticket issues tickets, and accepts each of them at most once.
//
// A ticket is a short-lived text in place of a token, for requests that cannot carry a header. It contains the sealed token, which is
// verified like any other when the ticket is used, by the keys, settings and revocations of that moment. Sealing the result of a
// verification would be shorter, but would need a second place that decides whether a contact is valid.
//
// A node remembers the tickets that were used on it. If several nodes can open a ticket, because they derive the key from the key of
// their store, each writes a marker of its own before it accepts the ticket, and then lists the ticket's markers. It refuses the ticket
// if there is another marker. If two nodes use a ticket at the same instant, at least the one that lists later sees both markers, so
// that at most one of them accepts it. Only tickets with a valid seal cost memory or calls of the storage.
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

	// markerTime is how long markers are kept after their ticket has expired, and orphanTime the same for markers of removed nodes.
	markerTime = clockDifference + 5*time.Minute
	orphanTime = markerTime + clockDifference

	// useTime bounds how long taking one ticket waits for the storage.
	useTime = 3 * time.Second

	// sweepInterval is how often the markers of removed nodes are looked for.
	sweepInterval = 15 * time.Minute
)

// The errors for a ticket that is refused. Any other error of Take means that the ticket could not be decided.
var (
	errInvalid  = errors.New("the ticket was not made by this gateway, or was changed")
	ErrOtherKey = errors.New("the ticket has the form of one that was sealed with another key: of another node, before a restart, or with a key that the store does not have any more")
	ErrExpired  = errors.New("the ticket has expired")
	ErrUsed     = errors.New("the ticket was used before")
	ErrTooMany  = errors.New("the contact has used too many tickets in the last minutes")

	errFull = errors.New("too many tickets were used in the last minutes to remember one more")
)

// A Ticket has the content of the text of a ticket.
type Ticket struct {
	Messenger string // the only one at which it is valid
	Path      string // the only path for which it is valid; "" for all
	Token     string
	Expires   time.Time // with a precision of milliseconds

	id [idSize]byte
}

// idSize is the length of the random name of a ticket, in bytes.
const idSize = 16

// Markers record in a shared store which tickets were used.
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

// A Desk issues and accepts tickets. It is safe for concurrent use.
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

// Open returns the ticket of a text. It stores nothing and does not call the storage, whatever the text is.
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

// Take uses a ticket that Open has returned, for a contact with a unique name. It succeeds at most once for all copies of the ticket's
// text, on all nodes together.
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
// node whose clock is behind would find no marker, and accept the ticket again.
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
		// Markers that cannot be removed now are removed as orphans.
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
		return // the next sweep finds the same markers
	}
	for _, name := range minutes {
		if minute, err := strconv.ParseInt(name, 10, 64); err == nil && minute < minuteOf(now.Add(-orphanTime)) {
			_ = d.markers.RemoveAll(ctx, name)
		}
	}
}
