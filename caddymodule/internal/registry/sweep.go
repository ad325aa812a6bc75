package registry

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keysets"
)

// rereadAll reads again everything in memory, slowly, while polls continue. It is needed when it is unknown what has changed.
// It starts again if that happens once more meanwhile. If ctx ends first, as it does with every reload, the next poll starts it
// again.
func (s *Store) rereadAll(ctx context.Context) {
	if !s.rereading.CompareAndSwap(false, true) {
		return
	}
	defer s.rereading.Store(false)
	for s.incomplete.CompareAndSwap(true, false) {
		if !s.rereadHeld(ctx, s.rereads.Wait) {
			s.incomplete.Store(true)
			return
		}
	}
}

// rereadHeld reads again what is in memory at this moment, and reports whether it finished.
func (s *Store) rereadHeld(ctx context.Context, wait func(context.Context) error) bool {
	for i := range s.changed {
		s.changed[i].Add(1) // what is being read for the first time is read once more
	}
	s.absent.InvalidateAll()
	s.index.Forget()
	s.summaries.InvalidateAll()
	for _, name := range s.names() {
		if wait(ctx) != nil {
			return false
		}
		_ = s.reread(ctx, name) // the next poll tries again
	}
	_ = s.reread(ctx, keysets.Folder)
	return true
}

// names returns the names of which this node has anything in memory.
func (s *Store) names() []string {
	names := make(map[string]bool)
	s.mu.Lock()
	for name := range s.owned {
		names[name] = true
	}
	for name := range s.pinned {
		names[name] = true
	}
	s.mu.Unlock()
	for name := range s.stored.Keys() {
		names[name] = true
	}
	for name := range Connections.Open() {
		names[name] = true // its connections may be from another configuration
	}
	return slices.Sorted(maps.Keys(names))
}

// sweep reads everything again within sweepTime, and removes what has outlived its use. Nothing depends on it unless a writer
// died before it could tell of a change.
func (s *Store) sweep(ctx context.Context) {
	names := len(s.names())
	pause := sweepTime / time.Duration(max(names, 1)+1)
	s.rereadHeld(ctx, func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
			return nil
		}
	})
	for _, name := range s.names() {
		for _, j := range s.held(name) {
			j.ForgetRecord()
			if j.Prune(ctx, s.Vault, Now()) != nil {
				return
			}
		}
	}
	_ = s.follower.Tidy(ctx) // the next sweep tries again
}

// every calls f until ctx ends, that long after the last call of it has returned.
func every(ctx context.Context, pause time.Duration, f func()) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(pause):
			f()
		}
	}
}
