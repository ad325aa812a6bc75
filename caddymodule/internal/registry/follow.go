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

// A storeStatus tells how the last look at the list of changes ended.
type storeStatus struct {
	Polled time.Time // the last success
	Err    error
}

// Status tells how the last look at the list of changes ended.
func (a *Registry) Status() *storeStatus { return a.Store.status.Load() }

// poll looks at the list of changes and reads again what this node holds of them.
func (l *Store) poll(ctx context.Context) {
	l.polling.Lock()
	defer l.polling.Unlock()
	list := new(vault.Changes)
	failure := l.Load(ctx, vault.ChangesKey, list)
	switch {
	case errors.Is(failure, fs.ErrNotExist):
		failure = nil
	case vault.IsUnreadable(failure):
		list = nil // nobody knows what changed until somebody makes the next change, and with it a new list
	case failure != nil:
		l.noteStatus(failure)
		return
	}
	before := l.seen
	l.seen = list
	names, complete := []string(nil), false
	if before != nil && list != nil {
		names, complete = list.Since(before)
	}
	l.mu.Lock()
	names = append(names, slices.Sorted(maps.Keys(l.again))...)
	l.mu.Unlock()
	if !complete {
		l.incomplete.Store(true)
	}
	if l.incomplete.Load() {
		go l.rereadAll(ctx)
	}
	for _, name := range names {
		if err := l.reread(ctx, name); err != nil {
			failure = err
		}
	}
	l.noteStatus(failure)
	l.unpin()
}

// reread reads what is held of a name once more. If the storage cannot be reached, what is held stays in force, and the next
// poll tries again. A value that is there and cannot be trusted is another matter: it may stand where a key was taken back,
// and until it is readable again the messenger answers keys_unavailable.
func (l *Store) reread(ctx context.Context, name string) error {
	err := errors.Join(l.rereadOwned(ctx, name), l.rereadStored(ctx, name))
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		delete(l.again, name)
		return nil
	}
	l.again[name] = true
	return err
}

func (l *Store) rereadOwned(ctx context.Context, name string) error {
	defer l.lock(name)()
	l.mu.Lock()
	used := slices.ContainsFunc(l.apps, func(a *Registry) bool { return a.Messengers[name] != nil })
	if !used {
		delete(l.owned, name) // a later configuration that has this messenger again reads it
	}
	l.mu.Unlock()
	if !used {
		return nil
	}
	r, err := l.Read(ctx, name, kindRing)
	if vault.IsUnreadable(err) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, a := range l.apps {
			if m := a.Messengers[name]; m != nil {
				m.revoked.SetUnknown()
			}
		}
	}
	if err != nil {
		return err
	}
	_, err = l.applyOwned(name, r)
	return err
}

func (l *Store) rereadStored(ctx context.Context, name string) error {
	defer l.lock(name)()
	held, ok := l.known(name)
	switch {
	case !ok && Connections.Open()[name] > 0:
		held = new(storedEntry) // they were opened under another configuration, and what changed may end them
	case !ok:
		return nil // nobody asked for it; whoever does reads it then
	case held.messenger == nil:
		l.stored.Invalidate(name)
		return nil
	}
	r, err := l.Read(ctx, name, KindStored)
	distrusted := vault.IsUnreadable(err)
	if err == nil {
		if r != nil && r.Revision == held.revision && r.Version == held.version.Load() {
			return nil
		}
		_, _, err = l.hold(name, r)
		distrusted = err != nil // the settings that hold now cannot be used here, and those from before hold no more
	}
	if distrusted && held.messenger != nil {
		held.messenger.revoked.SetUnknown()
		held.version.Store(0) // what is read next is another version in any case
	}
	return err
}

// rereadAll reads again all that is held, slowly, while polls go on: the list of changes does not reach back far enough.
// It begins anew if that happens once more meanwhile; if ctx ends first, which it does with every reload, the next poll
// begins it anew.
func (l *Store) rereadAll(ctx context.Context) {
	if !l.rereading.CompareAndSwap(false, true) {
		return
	}
	defer l.rereading.Store(false)
	for l.incomplete.CompareAndSwap(true, false) {
		if !l.rereadHeld(ctx) {
			l.incomplete.Store(true)
			return
		}
	}
}

// rereadHeld reads again what is held at this moment, and reports whether it came to the end.
func (l *Store) rereadHeld(ctx context.Context) bool {
	l.mu.Lock()
	names := slices.Collect(maps.Keys(l.owned))
	l.mu.Unlock()
	names = append(names, slices.Collect(l.stored.Keys())...)
	for name := range Connections.Open() {
		if _, ok := l.stored.GetIfPresent(name); !ok {
			names = append(names, name) // it is pinned, or its connections are from another configuration
		}
	}
	for _, name := range names {
		if held, ok := l.stored.GetIfPresent(name); ok && held.messenger == nil {
			l.stored.Invalidate(name)
			continue
		}
		if l.rereads.Wait(ctx) != nil {
			return false
		}
		_ = l.reread(ctx, name) // the next poll tries again
	}
	return true
}

// noteStatus remembers how a poll ended, and logs when that changes.
func (l *Store) noteStatus(err error) {
	before := l.status.Load()
	now := &storeStatus{Polled: before.Polled, Err: err}
	if err == nil {
		now.Polled = time.Now()
	}
	l.status.Store(now)
	switch {
	case err != nil && (before.Err == nil || before.Err.Error() != err.Error()):
		l.log().Error("store cannot be read; what was read before stays in force", zap.Error(err))
	case err == nil && before.Err != nil:
		l.log().Info("store can be read again")
	}
}

// catchUp reads what could not be read when the configuration was loaded, until it can or ctx ends. It is for nodes that do
// not poll.
func (l *Store) catchUp(ctx context.Context) {
	ticker := time.NewTicker(DefaultPollInterval)
	defer ticker.Stop()
	for {
		l.mu.Lock()
		names := slices.Sorted(maps.Keys(l.again))
		l.mu.Unlock()
		if len(names) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, name := range names {
			if err := l.reread(ctx, name); err != nil && !vault.IsUnreadable(err) {
				break // the storage is asked again later
			}
		}
	}
}

// keepUpToDate polls until ctx ends.
func (l *Store) keepUpToDate(ctx context.Context, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		l.poll(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
