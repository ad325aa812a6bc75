package registry

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// usesInterval is how often the hours of last use are written. They change nothing, so they are written seldom, without a
// lock, and not at all where that fails.
const usesInterval = 10 * time.Minute

// keepUsesFor is how long the last use of a token that is gone stays written.
const keepUsesFor = 365 * 24 * time.Hour

// tokenUses are the hours in which the tokens of one ring were last used, since 1970, by kid.
type tokenUses struct {
	mu      sync.Mutex
	hours   map[string]*atomic.Int64
	written map[string]int64
}

// of returns the hour for a kid. A ring that changes keeps those of the tokens that stay.
func (u *tokenUses) of(kid string) *atomic.Int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.hours[kid] == nil {
		u.hours[kid] = new(atomic.Int64)
	}
	return u.hours[kid]
}

// fresh returns the hours that are later than what was written last.
func (u *tokenUses) fresh() map[string]int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	fresh := make(map[string]int64)
	for kid, hour := range u.hours {
		if h := hour.Load(); h > u.written[kid] {
			fresh[kid] = h
		}
	}
	return fresh
}

func (u *tokenUses) wrote(hours map[string]int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	maps.Copy(u.written, hours)
}

// usesOf returns the uses of the ring of name, which may be that of a configured or of a stored messenger.
func (l *Store) usesOf(name, kind string) *tokenUses {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := kind + "/" + name
	if l.uses[key] == nil {
		l.uses[key] = &tokenUses{hours: make(map[string]*atomic.Int64), written: make(map[string]int64)}
	}
	return l.uses[key]
}

// forgetUses writes the uses of a stored messenger that is not held any more.
func (l *Store) forgetUses(name string) {
	defer l.lock(name)()
	if _, held := l.known(name); held {
		return // it was asked for again meanwhile
	}
	ctx, cancel := context.WithTimeout(context.Background(), vault.StoreTimeout)
	defer cancel()
	_ = l.writeUsesOf(ctx, name, KindStored)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.uses, KindStored+"/"+name)
}

// DropUses removes the uses of a stored messenger that is gone.
func (l *Store) DropUses(ctx context.Context, name string) {
	l.mu.Lock()
	delete(l.uses, KindStored+"/"+name)
	l.mu.Unlock()
	_ = l.Delete(ctx, storeKey(name, usesKind(KindStored))) // what is left says when something was used that is gone
}

// writeUses writes the uses that are new.
func (l *Store) writeUses(ctx context.Context) {
	l.mu.Lock()
	keys := slices.Collect(maps.Keys(l.uses))
	l.mu.Unlock()
	for _, key := range keys {
		kind, name, _ := strings.Cut(key, "/")
		if err := l.writeUsesOf(ctx, name, kind); err != nil {
			l.log().Debug("last use of shared tokens not written", zap.String("messenger", name), zap.Error(err))
			return
		}
	}
}

func (l *Store) writeUsesOf(ctx context.Context, name, kind string) error {
	u := l.usesOf(name, kind)
	fresh := u.fresh()
	if len(fresh) == 0 {
		return nil
	}
	hours, err := l.loadUses(ctx, name, kind)
	if err != nil {
		return err
	}
	for kid, hour := range fresh {
		hours[kid] = max(hours[kid], hour)
	}
	oldest := time.Now().Add(-keepUsesFor).Unix() / 3600
	maps.DeleteFunc(hours, func(_ string, hour int64) bool { return hour < oldest })
	if err := l.Save(ctx, storeKey(name, usesKind(kind)), hours); err != nil {
		return err
	}
	u.wrote(fresh)
	return nil
}

// loadUses reads what all nodes have written.
func (l *Store) loadUses(ctx context.Context, name, kind string) (map[string]int64, error) {
	hours := make(map[string]int64)
	err := l.Load(ctx, storeKey(name, usesKind(kind)), &hours)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, vault.ErrDamaged) || errors.Is(err, vault.ErrTooLarge) {
		return make(map[string]int64), nil
	}
	return hours, err
}

// LastUses returns when the tokens of a ring were last used on any node, to the hour.
func (l *Store) LastUses(ctx context.Context, name, kind string) map[string]time.Time {
	hours, err := l.loadUses(ctx, name, kind)
	if err != nil {
		hours = make(map[string]int64) // what this node knows is still worth showing
	}
	u := l.usesOf(name, kind)
	u.mu.Lock()
	defer u.mu.Unlock()
	for kid, hour := range u.hours {
		hours[kid] = max(hours[kid], hour.Load())
	}
	times := make(map[string]time.Time)
	for kid, hour := range hours {
		if hour > 0 {
			times[kid] = time.Unix(hour*3600, 0).UTC()
		}
	}
	return times
}

// keepUses writes uses from time to time, until ctx ends.
func (l *Store) keepUses(ctx context.Context) {
	ticker := time.NewTicker(usesInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			l.writeUses(ctx)
			l.unpin()
		}
	}
}
