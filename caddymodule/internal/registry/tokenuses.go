package registry

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// usesInterval is how often the hours of last use are written. They are only informative, so they are written rarely, without
// a lock, and failures are ignored.
const usesInterval = 10 * time.Minute

// keepUsesFor is how long the last use of a removed token stays stored.
const keepUsesFor = 365 * 24 * time.Hour

// usesKey returns the storage key of the last uses of the tokens of a messenger. They are not facts: nothing depends on them.
func usesKey(name, kind string) string { return path.Join(vault.StoreRoot, name, "used-"+kind) }

// tokenUses has the hours, counted from 1970, in which the tokens of one ring were last used, by kid.
type tokenUses struct {
	mu      sync.Mutex
	hours   map[string]*atomic.Int64
	written map[string]int64
}

// of returns the hour for a kid. It is the same one after the ring has changed.
func (u *tokenUses) of(kid string) *atomic.Int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.hours[kid] == nil {
		u.hours[kid] = new(atomic.Int64)
	}
	return u.hours[kid]
}

// latest returns all hours.
func (u *tokenUses) latest() map[string]int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	hours := make(map[string]int64, len(u.hours))
	for kid, hour := range u.hours {
		hours[kid] = hour.Load()
	}
	return hours
}

// fresh returns the hours that are later than those written last.
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

// markWritten records that hours were written.
func (u *tokenUses) markWritten(hours map[string]int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	maps.Copy(u.written, hours)
}

// usesOf returns the uses of a ring. kind tells the ring of a configured messenger from that of a stored one.
func (s *Store) usesOf(name, kind string) *tokenUses {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := kind + "/" + name
	if s.uses[key] == nil {
		s.uses[key] = &tokenUses{hours: make(map[string]*atomic.Int64), written: make(map[string]int64)}
	}
	return s.uses[key]
}

// forgetUses writes the uses of a stored messenger that is not in memory any more, and removes them from memory.
func (s *Store) forgetUses(name string) {
	defer s.lock(name)()
	if _, old := s.cached(name); old {
		return // it was read again meanwhile
	}
	ctx, cancel := context.WithTimeout(context.Background(), vault.StoreTimeout)
	defer cancel()
	_ = s.writeUsesOf(ctx, name, ledger.KindStored)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.uses, ledger.KindStored+"/"+name)
}

// DropUses removes the uses of a deleted stored messenger.
func (s *Store) DropUses(ctx context.Context, name string) {
	s.mu.Lock()
	delete(s.uses, ledger.KindStored+"/"+name)
	s.mu.Unlock()
	_ = s.Delete(ctx, usesKey(name, ledger.KindStored)) // what stays after an error is harmless
}

// writeUses writes the uses that were not written yet.
func (s *Store) writeUses(ctx context.Context) {
	s.mu.Lock()
	keys := slices.Collect(maps.Keys(s.uses))
	s.mu.Unlock()
	for _, key := range keys {
		kind, name, _ := strings.Cut(key, "/")
		if err := s.writeUsesOf(ctx, name, kind); err != nil {
			s.log().Debug("last use of shared tokens not written", zap.String("messenger", name), zap.Error(err))
			return
		}
	}
}

// writeUsesOf adds the new uses of one ring to what other nodes have written.
func (s *Store) writeUsesOf(ctx context.Context, name, kind string) error {
	u := s.usesOf(name, kind)
	fresh := u.fresh()
	if len(fresh) == 0 {
		return nil
	}
	hours, err := s.loadUses(ctx, name, kind)
	if err != nil {
		return err
	}
	for kid, hour := range fresh {
		hours[kid] = max(hours[kid], hour)
	}
	oldest := time.Now().Add(-keepUsesFor).Unix() / 3600
	maps.DeleteFunc(hours, func(_ string, hour int64) bool { return hour < oldest })
	if err := s.saveJSON(ctx, usesKey(name, kind), hours); err != nil {
		return err
	}
	u.markWritten(fresh)
	return nil
}

// loadUses reads what all nodes have written.
func (s *Store) loadUses(ctx context.Context, name, kind string) (map[string]int64, error) {
	hours := make(map[string]int64)
	err := s.loadJSON(ctx, usesKey(name, kind), &hours)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, vault.ErrDamaged) || errors.Is(err, vault.ErrTooLarge) {
		return make(map[string]int64), nil
	}
	return hours, err
}

// LastUses returns when the tokens of a ring were last used on any node, to the hour.
func (s *Store) LastUses(ctx context.Context, name, kind string) map[string]time.Time {
	hours, err := s.loadUses(ctx, name, kind)
	if err != nil {
		hours = make(map[string]int64) // the uses on this node are still worth showing
	}
	s.mu.Lock()
	u := s.uses[kind+"/"+name] // and not usesOf: lists ask for messengers that are not in memory
	s.mu.Unlock()
	if u != nil {
		for kid, hour := range u.latest() {
			hours[kid] = max(hours[kid], hour)
		}
	}
	times := make(map[string]time.Time)
	for kid, hour := range hours {
		if hour > 0 {
			times[kid] = time.Unix(hour*3600, 0).UTC()
		}
	}
	return times
}

// writeUsesRegularly writes uses every usesInterval until ctx ends.
func (s *Store) writeUsesRegularly(ctx context.Context) {
	ticker := time.NewTicker(usesInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.writeUses(ctx)
			s.unpin()
		}
	}
}
