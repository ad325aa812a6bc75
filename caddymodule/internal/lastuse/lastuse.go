// Package lastuse knows when the shared tokens of messengers were last used, to the hour, on any node. Its values in the store are
// not facts: nothing depends on them, so they are written rarely, without a lock, and what fails is tried again later.
//
// It does not know tokens or requests: a key counts its own uses in the word that [Ring.Of] returns.
//
// Begin reading with [Rings].
package lastuse

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// Interval is how often uses are to be written.
const Interval = 10 * time.Minute

// keepFor is how long the last use of a removed token stays stored.
const keepFor = 365 * 24 * time.Hour

// Prefix begins the name of a value; the kind of the ring follows.
const Prefix = "used-"

func key(name, kind string) string { return path.Join(vault.StoreRoot, name, Prefix+kind) }

// Rings has the uses of every ring that this node has in memory. A ring is named by its messenger and a kind, because a configured
// and a stored messenger can have the same name.
type Rings struct {
	Vault *vault.Vault

	mu    sync.Mutex
	rings map[id]*Ring
}

type id struct{ name, kind string }

// A Ring has the hours, counted from 1970, in which the tokens of one ring were last used, by kid.
type Ring struct {
	mu      sync.Mutex
	hours   map[string]*atomic.Int64
	written map[string]int64
}

// Of returns the hour for a kid. It is the same one after the ring has changed.
func (r *Ring) Of(kid string) *atomic.Int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hours[kid] == nil {
		r.hours[kid] = new(atomic.Int64)
	}
	return r.hours[kid]
}

// after returns the hours that are later than those known.
func (r *Ring) after(known map[string]int64) map[string]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	later := make(map[string]int64)
	for kid, hour := range r.hours {
		if h := hour.Load(); h > known[kid] {
			later[kid] = h
		}
	}
	return later
}

// learn notes hours that are in the store.
func (r *Ring) learn(hours map[string]int64) {
	for kid, hour := range hours {
		noted := r.Of(kid)
		for known := noted.Load(); known < hour && !noted.CompareAndSwap(known, hour); known = noted.Load() {
		}
	}
	r.markWritten(hours)
}

// markWritten records that hours were written.
func (r *Ring) markWritten(hours map[string]int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.Copy(r.written, hours)
}

// Of returns the uses of a ring.
func (r *Rings) Of(name, kind string) *Ring {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rings == nil {
		r.rings = make(map[id]*Ring)
	}
	of := id{name, kind}
	if r.rings[of] == nil {
		r.rings[of] = &Ring{hours: make(map[string]*atomic.Int64), written: make(map[string]int64)}
	}
	return r.rings[of]
}

// Len returns how many rings are in memory.
func (r *Rings) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.rings)
}

// Forget removes the uses of a ring from memory. They stay in the store.
func (r *Rings) Forget(name, kind string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.rings, id{name, kind})
}

// Drop removes the uses of a ring that is deleted.
func (r *Rings) Drop(ctx context.Context, name, kind string) {
	r.Forget(name, kind)
	_ = r.Vault.Delete(ctx, key(name, kind)) // what stays after an error is harmless
}

// WriteAll writes the uses that were not written yet. At the first error it stops, and returns the messenger of it.
func (r *Rings) WriteAll(ctx context.Context) (failed string, err error) {
	r.mu.Lock()
	ids := slices.Collect(maps.Keys(r.rings))
	r.mu.Unlock()
	for _, of := range ids {
		if err := r.Write(ctx, of.name, of.kind); err != nil {
			return of.name, err
		}
	}
	return "", nil
}

// Write adds the new uses of one ring to what other nodes have written, and learns that.
func (r *Rings) Write(ctx context.Context, name, kind string) error {
	ring := r.Of(name, kind)
	fresh := ring.after(ring.written)
	if len(fresh) == 0 {
		return nil
	}
	hours, err := r.load(ctx, name, kind)
	if err != nil {
		return err
	}
	ring.learn(hours)
	for kid, hour := range fresh {
		hours[kid] = max(hours[kid], hour)
	}
	oldest := time.Now().Add(-keepFor).Unix() / 3600
	maps.DeleteFunc(hours, func(_ string, hour int64) bool { return hour < oldest })
	if err := r.Vault.SaveJSON(ctx, key(name, kind), hours); err != nil {
		return err
	}
	ring.markWritten(fresh)
	return nil
}

// Learn reads what other nodes have written about the rings that are wanted, as far as the storage can be read.
func (r *Rings) Learn(ctx context.Context, wanted func(name, kind string) bool) {
	r.mu.Lock()
	rings := maps.Clone(r.rings)
	r.mu.Unlock()
	for of, ring := range rings {
		if !wanted(of.name, of.kind) {
			continue
		}
		hours, err := r.load(ctx, of.name, of.kind)
		if err != nil {
			return // the next time
		}
		ring.learn(hours)
	}
}

// maxAhead is how far ahead a use can be: no clock of a node is wrong by more. JSON does not have all times that an attacker could write.
const maxAhead = 24 * time.Hour

// load reads what all nodes have written.
func (r *Rings) load(ctx context.Context, name, kind string) (map[string]int64, error) {
	var hours map[string]int64
	err := r.Vault.LoadJSON(ctx, key(name, kind), &hours)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, vault.ErrDamaged) || errors.Is(err, vault.ErrTooLarge) || hours == nil && err == nil { // of null
		return make(map[string]int64), nil
	}
	latest := time.Now().Add(maxAhead).Unix() / 3600
	maps.DeleteFunc(hours, func(_ string, hour int64) bool { return hour > latest })
	return hours, err
}

// Last returns when the tokens of a ring were last used on any node, to the hour.
func (r *Rings) Last(ctx context.Context, name, kind string) map[string]time.Time {
	hours, err := r.load(ctx, name, kind)
	if err != nil {
		hours = make(map[string]int64) // the uses on this node are still worth showing
	}
	return r.with(hours, name, kind)
}

// Known returns the same as far as this node knows it. It does not read the store.
func (r *Rings) Known(name, kind string) map[string]time.Time {
	return r.with(make(map[string]int64), name, kind)
}

// with returns hours with those of this node, as times.
func (r *Rings) with(hours map[string]int64, name, kind string) map[string]time.Time {
	r.mu.Lock()
	ring := r.rings[id{name, kind}] // and not Of: lists ask for messengers that are not in memory
	r.mu.Unlock()
	if ring != nil {
		maps.Copy(hours, ring.after(hours))
	}
	times := make(map[string]time.Time)
	for kid, hour := range hours {
		if hour > 0 {
			times[kid] = time.Unix(hour*3600, 0).UTC()
		}
	}
	return times
}
