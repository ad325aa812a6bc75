// Package reseal seals all values of the store again with the first store key, and replaces values that cannot be opened any more. It works
// in steps. The caller keeps the position, so that a reload, a restart or a cancelled call interrupts only one step, and a later call
// continues after the last one.
//
// Resealing writes the same facts to the same key, so that nodes may read either version, and it needs no locks. A value that another node
// removes meanwhile must not reappear with an effect: see [ledger.Journal.PruneForReseal]. Values that change in place are not
// written again: only its writer knows the latest version of a list, and the notification is renewed.
//
// It does not know how nodes notice facts (vault, registry) or what they mean (ledger). Begin reading with [Run].
package reseal

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/registry"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

const (
	// stepTime bounds a step, so that callers see progress, and hold nothing for long.
	stepTime = time.Second

	// together is how many units are handled at a time. The names of their files are synchronised together.
	together = 32

	// maxWorkers is how many values are read or written at a time. There are fewer while a write takes longer than slow, because the
	// changes of operators and contacts use the same storage.
	maxWorkers = 8
	slow       = 50 * time.Millisecond

	// maxNamed is how many values one step names. It ends when it has named as many.
	maxNamed = 100
)

// Options are the options of a step.
type Options struct {
	After   string `json:"after"`              // the position at which the step before has ended; "" for the first
	Adopt   bool   `json:"adopt_unsealed"`     // accept values that are not sealed
	Check   bool   `json:"check"`              // only name what cannot be opened, and change nothing
	Discard bool   `json:"discard_unreadable"` // replace what cannot be opened, unless Check is set
}

// A Step is the result of a step.
type Step struct {
	Values   int `json:"values"`            // that were looked at
	Opened   int `json:"opened"`            // facts that can be opened
	Resealed int `json:"resealed"`          // values that were sealed with the first key
	Removed  int `json:"removed,omitempty"` // values that were obsolete
	Left     int `json:"left,omitempty"`    // lists that are sealed with another key by writers that may be running

	Unreadable int     `json:"unreadable,omitempty"` // values that cannot be opened
	Discarded  int     `json:"discarded,omitempty"`  // of these
	Foreign    int     `json:"foreign,omitempty"`    // values that the gateway has not written
	Named      []Value `json:"named,omitempty"`      // some of the last two kinds

	Position int    `json:"position"` // how many messengers and key sets are done
	Of       int    `json:"of"`
	After    string `json:"after,omitempty"` // where the next step begins
	Done     bool   `json:"done"`            // there is no next step
}

// A Value is a value that cannot be opened, or is foreign.
type Value struct {
	Messenger string `json:"messenger,omitempty"`
	Kind      string `json:"kind"`
	Key       string `json:"key"`
	Reason    string `json:"reason"`
	Lost      string `json:"lost,omitempty"` // what is lost when it is discarded
	Discarded bool   `json:"discarded,omitempty"`
}

// A run is one step.
type run struct {
	store   *registry.Store
	options Options

	mu      sync.Mutex
	step    Step
	workers int
	free    sync.Cond     // workers may have become free
	busy    int           // of the workers
	slowest time.Duration // of the writes since the last adjustment
	folders map[string]bool
}

func newRun(s *registry.Store, o Options, workers int) *run {
	o.Discard = o.Discard && !o.Check
	r := &run{store: s, options: o, workers: workers, folders: make(map[string]bool)}
	r.free.L = &r.mu
	return r
}

// Run takes one step. An error means that nothing was done: the storage has failed, or o.After is not a position ([ErrPosition]).
func Run(ctx context.Context, s *registry.Store, o Options) (Step, error) {
	if !o.Check {
		if err := s.CheckWritable(); err != nil {
			return Step{}, err
		}
	}
	after, err := parsePosition(o.After)
	if err != nil {
		return Step{}, err
	}
	r := newRun(s, o, maxWorkers/2)
	units, err := r.units(ctx, after)
	if err != nil {
		return Step{}, err
	}
	r.step.Position, r.step.Of, r.step.After = units.done(), units.count(), o.After
	began := time.Now()
	for chunk := range units.chunks() {
		if err := r.handle(ctx, chunk); err != nil {
			if r.step.After != o.After && ctx.Err() == nil {
				return r.step, nil // the next step says what is wrong
			}
			return Step{}, err
		}
		r.step.After = positionAfter(chunk[len(chunk)-1])
		r.step.Position += len(chunk)
		r.adjust()
		if time.Since(began) >= stepTime || len(r.step.Named) >= maxNamed {
			return r.step, nil
		}
	}
	r.step.Done, r.step.After = true, ""
	return r.step, nil
}

// handle handles some units. When it returns nil, everything is in the storage.
func (r *run) handle(ctx context.Context, chunk []string) error {
	before := r.step
	before.Named = slices.Clip(before.Named)
	err := vault.UntilError(ctx, chunk, func(_ int, unit string) error { return r.unit(ctx, unit) })
	if err == nil {
		folders := slices.Collect(maps.Keys(r.folders))
		err = vault.UntilError(ctx, folders, func(_ int, folder string) error { return r.store.SyncFolder(ctx, folder) })
	}
	clear(r.folders)
	if err != nil {
		r.step = before // these units are handled again, and counted then
	}
	return err
}

// take waits until a worker is free.
func (r *run) take() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.busy >= r.workers {
		r.free.Wait()
	}
	r.busy++
}

// release frees a worker. written is how long a write took, or 0.
func (r *run) release(written time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy--
	r.slowest = max(r.slowest, written)
	r.free.Broadcast()
}

// adjust reduces the number of workers if writes were slow, and adds one otherwise.
func (r *run) adjust() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.slowest > slow {
		r.workers = max(1, r.workers/2)
	} else {
		r.workers = min(maxWorkers, r.workers+1)
	}
	r.slowest = 0
}
