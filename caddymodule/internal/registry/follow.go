package registry

import (
	"context"
	"errors"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/keysets"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// A storeStatus is the result of the last poll.
type storeStatus struct {
	Polled  time.Time // the last success
	Current time.Time // the last one after which nothing was left to be read
	Err     error
}

// aboutTo is how long a batch is looked for with every poll that another node is about to write: that node may have died.
const aboutTo = time.Minute

// Status returns the result of the last poll.
func (reg *Registry) Status() *storeStatus { return reg.Store.status.Load() }

// poll reads what other nodes have changed of what this node has in memory.
func (s *Store) poll(ctx context.Context) {
	s.polling.Lock()
	defer s.polling.Unlock()
	changes, complete, err := s.follower.Poll(ctx)
	if err != nil {
		s.unreached = true
		s.recordStatus(err, false)
		return
	}
	if s.dropIfAway() || s.unreached || !complete { // a storage that comes back may have lost the last that it acknowledged
		s.unreached = false
		s.incomplete.Store(true)
	}
	if s.incomplete.Load() {
		go s.rereadAll(ctx)
	}
	var mu sync.Mutex
	var failure error
	reached := true
	observe := func(err error) error {
		if err != nil {
			mu.Lock()
			defer mu.Unlock()
			failure = err
			reached = reached && (isOfOneMessenger(err) || errors.Is(err, errDropped))
		}
		return err
	}
	_ = vault.Each(ctx, changes, func(_ int, c vault.Change) error { return observe(s.follow(ctx, c)) }) // observe knows more of the errors
	_ = vault.Each(ctx, s.batchesToLookFor(time.Now()), func(_ int, key vault.Key) error { s.lookFor(ctx, key); return nil })
	_ = vault.Each(ctx, s.namesToRetry(time.Now()), func(_ int, name string) error { return observe(s.reread(ctx, name)) })
	if ctx.Err() != nil {
		s.incomplete.Store(true) // a reload came in between, and the changes that were not followed are not reported again
		return
	}
	s.recordStatus(failure, reached)
	s.unpin()
}

// batchesToLookFor returns the batches that other nodes are about to write.
func (s *Store) batchesToLookFor(now time.Time) []vault.Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.about, func(_ vault.Key, until time.Time) bool { return now.After(until) })
	return slices.Collect(maps.Keys(s.about))
}

// lookFor reads a batch that another node was about to write, if it is there. It reads that batch only: with many changes a
// second some are always about to be made, and they must not delay those that were made. If it cannot be read, its writer has
// not acknowledged it, or announces it.
func (s *Store) lookFor(ctx context.Context, key vault.Key) {
	name, _, _ := strings.Cut(key.Folder, "/")
	journals := s.held(key.Folder)
	if len(journals) == 0 {
		s.noteChange(name) // it may be the first batch of a messenger that there was not
		if Connections.OpenAt(name) > 0 {
			_ = s.reread(ctx, name)
		}
	}
	for _, j := range journals {
		if !j.Lacks(key) {
			continue
		}
		text, err := s.Load(ctx, key.String())
		if err != nil {
			continue // it is not there yet, or its writer announces it
		}
		if texts, err := vault.DecodeBatch(text); err != nil || j.Add(key, texts, Now()) != nil {
			_ = s.reread(ctx, name)
			continue
		}
		_, _ = s.apply(j, ledger.Effect{}) // an error makes the messenger unavailable
	}
}

// forever is a time that does not come.
var forever = time.Unix(1<<40, 0)

// readAgain makes every poll read a name until that time.
func (s *Store) readAgain(name string, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if until.After(s.retry[name]) {
		s.retry[name] = until
	}
}

// namesToRetry returns the names that are read again with every poll.
func (s *Store) namesToRetry(now time.Time) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.retry, func(_ string, until time.Time) bool { return now.After(until) })
	return slices.Sorted(maps.Keys(s.retry))
}

// follow reads a change of another node, if this node has the messenger in memory.
func (s *Store) follow(ctx context.Context, c vault.Change) error {
	name, _, _ := strings.Cut(c.Key.Folder, "/")
	if name == keysets.Folder {
		return s.followKeySet(ctx, c)
	}
	if c.Pending {
		s.mu.Lock()
		s.about[c.Key] = time.Now().Add(aboutTo)
		s.mu.Unlock()
		if c.Key.Number--; c.Key.Number == 0 && !c.Again {
			return nil
		}
		// The one before was written, and the list has one entry for both.
	} else {
		s.mu.Lock()
		delete(s.about, c.Key)
		s.mu.Unlock()
	}
	s.noteChange(name)
	journals := s.held(c.Key.Folder)
	if len(journals) == 0 {
		if Connections.OpenAt(name) > 0 { // they were opened under another configuration, and the change may end them
			return s.reread(ctx, name)
		}
		return nil
	}
	for _, j := range journals {
		if c.Again || !s.readNext(ctx, j, c.Key) {
			return s.reread(ctx, name)
		}
	}
	return nil
}

// followKeySet reads a change of what the store has about a key set, if this node uses that.
func (s *Store) followKeySet(ctx context.Context, c vault.Change) error {
	id := path.Base(c.Key.Folder)
	switch {
	case !s.KeySets.Uses(id):
		return nil
	case c.Pending:
		s.readAgain(keysets.Folder, time.Now().Add(aboutTo))
		return nil
	}
	err := s.KeySets.Follow(ctx, id)
	if err != nil {
		s.readAgain(keysets.Folder, forever)
	}
	return err
}

// readNext reads the batches that follow those that the journal has of the same writer, and reports whether that was all.
func (s *Store) readNext(ctx context.Context, j *ledger.Journal, last vault.Key) bool {
	if !j.ReadNext(ctx, s.Vault, last) {
		return false
	}
	_, err := s.apply(j, ledger.Effect{})
	return err == nil
}

// reread reads again what this node has in memory of a name. If the storage cannot be reached, it stays active, and the next
// poll tries again. A value that exists but is unreadable is different: it may have a revocation, so the messenger answers
// keys_unavailable until it can be read.
func (s *Store) reread(ctx context.Context, name string) error {
	var err error
	if name == keysets.Folder {
		err = s.KeySets.FollowAll(ctx)
	} else {
		owned, stored := s.rereadOwned(ctx, name), s.rereadStored(ctx, name)
		s.recordRead(name, ledger.KindRing, owned)
		s.recordRead(name, ledger.KindStored, stored)
		err = worst(owned, stored)
	}
	if err != nil {
		s.readAgain(name, forever)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retry[name].Equal(forever) {
		delete(s.retry, name)
	}
	return nil
}

// rereadOwned reads again the facts of a configured messenger.
func (s *Store) rereadOwned(ctx context.Context, name string) error {
	s.mu.Lock()
	j := s.owned[name]
	used := slices.ContainsFunc(s.registries, func(reg *Registry) bool { return reg.Messengers[name] != nil })
	if !used {
		delete(s.owned, name) // a later configuration with this messenger reads it again
	}
	s.mu.Unlock()
	switch {
	case !used:
		return nil
	case j == nil:
		return s.readOwned(ctx, name)
	}
	defer s.lock(name)()
	return s.readMore(ctx, j)
}

// rereadStored reads again the facts of a stored messenger.
func (s *Store) rereadStored(ctx context.Context, name string) error {
	defer s.lock(name)()
	e, ok := s.cached(name)
	if ok {
		return s.readMore(ctx, e.journal)
	}
	s.noteChange(name)
	if Connections.OpenAt(name) == 0 || s.isConfigured(name) {
		return nil // the next request for it reads it
	}
	_, err := s.begin(ctx, name, ledger.KindStored)
	return err
}

// read reads what the storage has and the journal does not.
func (s *Store) read(ctx context.Context, j *ledger.Journal) error {
	changed, err := j.Read(ctx, s.Vault, s.serves())
	if changed {
		s.log().Error("an older version of the gateway has changed this messenger after its record was carried over; the change is ignored: stop that node, and repeat the change",
			zap.String("messenger", j.Name))
	}
	if j.Unwritten() {
		s.readAgain(j.Name, forever) // it is written with the first poll, if this configuration ever runs
	}
	return err
}

// readMore reads what the journal does not have, and makes it active. The caller holds the lock of the name.
func (s *Store) readMore(ctx context.Context, j *ledger.Journal) error {
	err := s.read(ctx, j)
	damage := j.Damage()
	if !j.IsApplied() || damage != nil || isUnknown(j) {
		if _, failed := s.apply(j, ledger.Effect{}); failed != nil {
			err = worst(err, failed)
		}
	}
	if hasLostFacts(j) && j.Kind == ledger.KindStored {
		s.pin(j.Name) // nothing else has these facts: the messenger is not evicted
	}
	if s.isDropped(j) {
		return errDropped
	}
	return worst(err, damage)
}

// recordStatus stores the result of a poll, and logs when it changes. One value that cannot be used does not mean that the
// storage was not reached.
func (s *Store) recordStatus(err error, reached bool) {
	before := s.status.Load()
	now := &storeStatus{Polled: before.Polled, Current: before.Current, Err: err}
	if reached {
		now.Polled = Now()
		if err == nil && !s.incomplete.Load() && !s.rereading.Load() {
			now.Current = now.Polled
		}
	}
	s.status.Store(now)
	switch {
	case err != nil && (before.Err == nil || before.Err.Error() != err.Error()):
		s.log().Error("store cannot be read; what was read before stays active", zap.Error(err))
	case err == nil && before.Err != nil:
		s.log().Info("store can be read again")
	}
}

// catchUp retries what could not be read when the configuration was loaded, until that succeeds or ctx ends. It is for nodes
// that do not poll.
func (s *Store) catchUp(ctx context.Context) {
	s.endPolling()
	ticker := time.NewTicker(DefaultPollInterval)
	defer ticker.Stop()
	for {
		names := s.namesToRetry(time.Now())
		if len(names) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, name := range names {
			if err := s.reread(ctx, name); err != nil && !isOfOneMessenger(err) {
				break // the storage is away; the next tick tries again
			}
		}
	}
}

// keepUpToDate polls until ctx ends.
func (s *Store) keepUpToDate(ctx context.Context, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	seen := healthSeen{started: time.Now()}
	for {
		s.poll(ctx)
		s.checkHealth(&seen)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
