package caddymodule

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"
)

// A storeStatus tells how the last look at the list of changes ended.
type storeStatus struct {
	Polled time.Time // the last success
	Err    error
}

// poll looks at the list of changes and reads again what this node holds of them.
func (l *live) poll(ctx context.Context) {
	l.polling.Lock()
	defer l.polling.Unlock()
	list := new(changes)
	if err := l.load(ctx, changesKey, list); err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.noteStatus(err)
		return
	}
	before := l.seen
	l.seen = list
	names, complete := []string(nil), false
	if before != nil {
		names, complete = list.since(before)
	}
	l.mu.Lock()
	names = append(names, slices.Sorted(maps.Keys(l.again))...)
	l.mu.Unlock()
	if !complete {
		go l.rereadAll(ctx)
	}
	var failure error
	for _, name := range names {
		if err := l.reread(ctx, name); err != nil {
			failure = err
		}
	}
	l.noteStatus(failure)
}

// reread reads what is held of a name once more. If it cannot, what is held stays in force, and the next poll tries again.
func (l *live) reread(ctx context.Context, name string) error {
	l.mu.Lock()
	used := slices.ContainsFunc(l.apps, func(a *App) bool {
		return a.Messengers[name] != nil
	})
	l.mu.Unlock()
	var err error
	if used {
		err = l.readOwned(ctx, name, true)
	}
	err = errors.Join(err, l.rereadStored(ctx, name))
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		delete(l.again, name)
		return nil
	}
	l.again[name] = true
	return err
}

func (l *live) rereadStored(ctx context.Context, name string) error {
	defer l.lock(name)()
	held, ok := l.stored.GetIfPresent(name)
	if !ok {
		return nil // nobody asked for it; whoever does reads it then
	}
	if held.messenger == nil {
		l.stored.Invalidate(name)
		return nil
	}
	r, err := l.read(ctx, name, kindStored)
	if err != nil {
		return err
	}
	if r != nil && r.Revision == held.revision && r.Version == held.version.Load() {
		return nil
	}
	_, err = l.hold(name, r)
	return err
}

// rereadAll reads again all that is held, slowly, while polls go on: the list of changes does not reach back far enough.
func (l *live) rereadAll(ctx context.Context) {
	if !l.rereading.CompareAndSwap(false, true) {
		return
	}
	defer l.rereading.Store(false)
	l.mu.Lock()
	names := slices.Collect(maps.Keys(l.owned))
	l.mu.Unlock()
	names = append(names, slices.Collect(l.stored.Keys())...)
	for _, name := range names {
		if held, ok := l.stored.GetIfPresent(name); ok && held.messenger == nil {
			l.stored.Invalidate(name)
			continue
		}
		if l.rereads.Wait(ctx) != nil {
			return
		}
		_ = l.reread(ctx, name) // the next poll tries again
	}
}

// noteStatus remembers how a poll ended, and logs when that changes.
func (l *live) noteStatus(err error) {
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

// keepUpToDate polls until ctx ends.
func (l *live) keepUpToDate(ctx context.Context, interval time.Duration) {
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
