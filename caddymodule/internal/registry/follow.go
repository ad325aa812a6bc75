package registry

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// A storeStatus is the result of the last poll.
type storeStatus struct {
	Polled time.Time // the last success
	Err    error
}

// Status returns the result of the last poll.
func (reg *Registry) Status() *storeStatus { return reg.Store.status.Load() }

// poll reads the list of changes, and reads again the changed values that this node has in memory.
func (s *Store) poll(ctx context.Context) {
	s.polling.Lock()
	defer s.polling.Unlock()
	list := new(vault.Changes)
	failure := s.Load(ctx, vault.ChangesKey, list)
	switch {
	case errors.Is(failure, fs.ErrNotExist):
		failure = nil
	case vault.IsUnreadable(failure):
		list = nil // it is unknown what changed, until the next change writes a new list
	case failure != nil:
		s.recordStatus(failure)
		return
	}
	before := s.seen
	s.seen = list
	names, complete := []string(nil), false
	if before != nil && list != nil {
		names, complete = list.Since(before)
	}
	s.mu.Lock()
	names = append(names, slices.Sorted(maps.Keys(s.retry))...)
	s.mu.Unlock()
	if !complete {
		s.incomplete.Store(true)
	}
	if s.incomplete.Load() {
		go s.rereadAll(ctx)
	}
	for _, name := range names {
		if err := s.reread(ctx, name); err != nil {
			failure = err
		}
	}
	s.recordStatus(failure)
	s.unpin()
}

// reread reads again the values of a name that are in memory. If the storage cannot be reached, they stay active, and the next
// poll tries again. A value that exists but is unreadable is different: it may contain a revocation, so the messenger answers
// keys_unavailable until it can be read.
func (s *Store) reread(ctx context.Context, name string) error {
	err := errors.Join(s.rereadOwned(ctx, name), s.rereadStored(ctx, name))
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.retry, name)
		return nil
	}
	s.retry[name] = true
	return err
}

// rereadOwned reads again the record of a configured messenger.
func (s *Store) rereadOwned(ctx context.Context, name string) error {
	defer s.lock(name)()
	s.mu.Lock()
	used := slices.ContainsFunc(s.registries, func(reg *Registry) bool { return reg.Messengers[name] != nil })
	if !used {
		delete(s.owned, name) // a later configuration with this messenger reads it again
	}
	s.mu.Unlock()
	if !used {
		return nil
	}
	r, err := s.Read(ctx, name, kindRing)
	if vault.IsUnreadable(err) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, a := range s.registries {
			if m := a.Messengers[name]; m != nil {
				m.revoked.SetUnknown()
			}
		}
	}
	if err != nil {
		return err
	}
	_, err = s.applyOwned(name, r)
	return err
}

// rereadStored reads again the record of a stored messenger.
func (s *Store) rereadStored(ctx context.Context, name string) error {
	defer s.lock(name)()
	old, ok := s.cached(name)
	switch {
	case !ok && Connections.Open()[name] > 0:
		old = new(storedEntry) // they were opened under another configuration, and the change may end them
	case !ok:
		return nil // not in memory: the next request for it reads it
	case old.messenger == nil:
		s.stored.Invalidate(name)
		return nil
	}
	r, err := s.Read(ctx, name, KindStored)
	distrusted := vault.IsUnreadable(err)
	if err == nil {
		if r != nil && r.Revision == old.revision && r.Version == old.version.Load() {
			return nil
		}
		_, _, err = s.applyStored(name, r)
		distrusted = err != nil // the new settings cannot be used here, and the old ones do not apply any more
	}
	if distrusted && old.messenger != nil {
		old.messenger.revoked.SetUnknown()
		old.version.Store(0) // so that the next record counts as a change, whatever its version
	}
	return err
}

// rereadAll reads again everything in memory, slowly, while polls continue. It is needed when the list of changes does not
// reach back far enough. It starts again if that happens once more meanwhile. If ctx ends first, as it does with every
// reload, the next poll starts it again.
func (s *Store) rereadAll(ctx context.Context) {
	if !s.rereading.CompareAndSwap(false, true) {
		return
	}
	defer s.rereading.Store(false)
	for s.incomplete.CompareAndSwap(true, false) {
		if !s.rereadCached(ctx) {
			s.incomplete.Store(true)
			return
		}
	}
}

// rereadCached reads again what is in memory at this moment, and reports whether it finished.
func (s *Store) rereadCached(ctx context.Context) bool {
	s.mu.Lock()
	names := slices.Collect(maps.Keys(s.owned))
	s.mu.Unlock()
	names = append(names, slices.Collect(s.stored.Keys())...)
	for name := range Connections.Open() {
		if _, ok := s.stored.GetIfPresent(name); !ok {
			names = append(names, name) // it is pinned, or its connections are from another configuration
		}
	}
	for _, name := range names {
		if old, ok := s.stored.GetIfPresent(name); ok && old.messenger == nil {
			s.stored.Invalidate(name)
			continue
		}
		if s.rereads.Wait(ctx) != nil {
			return false
		}
		_ = s.reread(ctx, name) // the next poll tries again
	}
	return true
}

// recordStatus stores the result of a poll, and logs when it changes.
func (s *Store) recordStatus(err error) {
	before := s.status.Load()
	now := &storeStatus{Polled: before.Polled, Err: err}
	if err == nil {
		now.Polled = time.Now()
	}
	s.status.Store(now)
	switch {
	case err != nil && (before.Err == nil || before.Err.Error() != err.Error()):
		s.log().Error("store cannot be read; what was read before stays in force", zap.Error(err))
	case err == nil && before.Err != nil:
		s.log().Info("store can be read again")
	}
}

// catchUp retries what could not be read when the configuration was loaded, until that succeeds or ctx ends. It is for nodes
// that do not poll.
func (s *Store) catchUp(ctx context.Context) {
	ticker := time.NewTicker(DefaultPollInterval)
	defer ticker.Stop()
	for {
		s.mu.Lock()
		names := slices.Sorted(maps.Keys(s.retry))
		s.mu.Unlock()
		if len(names) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, name := range names {
			if err := s.reread(ctx, name); err != nil && !vault.IsUnreadable(err) {
				break // the storage is away; the next tick tries again
			}
		}
	}
}

// keepUpToDate polls until ctx ends.
func (s *Store) keepUpToDate(ctx context.Context, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		s.poll(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
