package nameindex

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// share is for how many times as long as a reading took it is used, and maxUse bounds that: listing takes at most a twentieth
	// of the storage's time, and of a small storage every page is read afresh.
	share  = 20
	maxUse = time.Minute

	// A reading that took longer than patience is used for maxStale more, while the next one is in progress: with a million
	// names only the first page after a while waits for a reading.
	patience = 500 * time.Millisecond
	maxStale = 10 * time.Minute

	// maxNoted is how many names may change before everything is read again.
	maxNoted = 10_000
)

// Shared is an index for several callers. One reading at a time is in progress, for which all wait who ask meanwhile, and its
// result is used for a while. Names that change are known at once if Note is called.
type Shared struct {
	// Read reads the names. It returns when its context ends.
	Read func(context.Context) (Index, error)

	mu      sync.Mutex
	current *reading // the last one, nil if there is none that can be used
	stale   *reading // one that is used until the next one is there, or nil
	begun   *reading // the one in progress
}

// A reading of the names.
type reading struct {
	done  chan struct{}
	index Index
	err   error

	noted map[string]bool // names that have changed since it was begun
	over  bool            // too many have
}

// View returns the names as they are now, or as they were a moment ago; of a storage that takes long to list, as they were up to
// maxUse and maxStale ago, together with those that have changed since as far as Note was called. It waits for a reading, and at
// most until ctx ends.
func (s *Shared) View(ctx context.Context) (Index, error) {
	s.mu.Lock()
	if s.current != nil {
		defer s.mu.Unlock()
		return s.current.view(), nil
	}
	r := s.begun
	if r == nil {
		r = &reading{done: make(chan struct{}), noted: make(map[string]bool)}
		s.begun = r
		go s.read(context.WithoutCancel(ctx), r) // others wait for it, too
	}
	if s.stale != nil {
		defer s.mu.Unlock()
		return s.stale.view(), nil
	}
	s.mu.Unlock()
	select {
	case <-r.done:
	case <-ctx.Done():
		return Index{}, ctx.Err()
	}
	if r.err != nil {
		return Index{}, r.err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return r.view(), nil
}

func (s *Shared) read(ctx context.Context, r *reading) {
	begun := time.Now()
	r.index, r.err = s.Read(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun = nil
	close(r.done)
	if r.err != nil || r.over {
		return
	}
	s.current, s.stale = r, nil
	took := time.Since(begun)
	time.AfterFunc(min(share*took, maxUse), func() { s.retire(r, took > patience) })
}

// retire ends the use of a reading. One that is kept is used until there is another, and its names are held in memory that long.
func (s *Shared) retire(r *reading, keep bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != r {
		return
	}
	s.current = nil
	if keep {
		s.stale = r
		time.AfterFunc(maxStale, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.stale == r {
				s.stale = nil
			}
		})
	}
}

// Note says that something about a name was changed.
func (s *Shared) Note(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range []*reading{s.current, s.stale, s.begun} {
		if r == nil {
			continue
		}
		if r.noted[name] = true; len(r.noted) > maxNoted {
			r.over = true
			clear(r.noted)
			if r == s.current {
				s.current = nil
			}
			if r == s.stale {
				s.stale = nil
			}
		}
	}
}

// Forget makes the next call of View read everything again: it is unknown what has changed.
func (s *Shared) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.stale = nil, nil
	if s.begun != nil {
		s.begun.over = true
	}
}

func (r *reading) view() Index {
	x := r.index
	if len(r.noted) > 0 {
		x.blocks = append(slices.Clone(x.blocks), newBlock(slices.Collect(maps.Keys(r.noted))))
	}
	return x
}
