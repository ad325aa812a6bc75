package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/apierror"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/ledger"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// lost returns of how many messengers and key sets in memory the storage has lost facts, and how many messengers have a fact whose time
// is far ahead.
func (s *Store) lost() (lost, ahead int) {
	for _, name := range s.names() {
		for _, j := range s.held(name) {
			missing, isAhead := j.Health()
			if missing > 0 {
				lost++
			}
			if isAhead {
				ahead++
			}
		}
	}
	return lost + s.KeySets.Lost(), ahead
}

// WentBack returns of how many messengers and key sets the storage has lost facts that this node knows: it was emptied, or restored from an
// old backup. What this node knows stays active.
func (reg *Registry) WentBack() int {
	lost, _ := reg.Store.lost()
	return lost
}

// LostNames returns the names of stored messengers of which the storage has lost facts that this node knows, sorted.
func (reg *Registry) LostNames() (names []string) {
	for _, name := range reg.Store.names() {
		if j := reg.Store.inMemory(name, ledger.KindStored); j != nil && hasLostFacts(j) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// checkHealth logs when facts were lost or a clock is wrong, and applies store_max_age.
func (s *Store) checkHealth(was *healthSeen) {
	lost, ahead := s.lost()
	switch {
	case lost > 0 && was.lost == 0:
		s.log().Error("the store has lost facts that this node still knows, such as revocations; they stay active on this node, and are missing on nodes that start now; write them back with: caddy messenger repair",
			zap.Int("messengers", lost))
	case lost == 0 && was.lost > 0:
		s.log().Info("the store again has all facts that this node knows")
	}
	if ahead > 0 && was.ahead == 0 {
		s.log().Error("facts in the store have times that are more than an hour ahead of this node's clock; set the clocks of all nodes (NTP)", zap.Int("messengers", ahead))
	}
	was.lost, was.ahead = lost, ahead
	s.checkAge(was)
}

// A healthSeen is what checkHealth has logged.
type healthSeen struct {
	lost, ahead int
	started     time.Time
}

// A Repaired store has what this node knows, except for what has failed.
type Repaired struct {
	Messengers int       `json:"repaired"`           // of which something was written back
	KeySets    int       `json:"key_sets,omitempty"` // of which it was written back that they were distrusted
	Failed     []Failure `json:"failed,omitempty"`
}

// A Failure says why something could not be done for one messenger, or for the key set of a URL.
type Failure struct {
	Messenger string `json:"messenger,omitempty"`
	KeySet    string `json:"key_set,omitempty"`
	Error     string `json:"error"`
}

// Repair writes back what this node knows and the storage has lost, or cannot give back. A messenger or key set of which a value cannot
// be written keeps it from no other.
func (reg *Registry) Repair(ctx context.Context) (done Repaired, err error) {
	s := reg.Store
	if err := s.CheckWritable(); err != nil {
		return done, apierror.Storage(err)
	}
	if s.isAway() {
		return done, errAway
	}
	sets, err := s.KeySets.Repair(ctx)
	if err != nil {
		return done, apierror.Storage(err)
	}
	done.KeySets = sets.Sets
	for url, err := range sets.Failed {
		done.Failed = append(done.Failed, Failure{KeySet: url, Error: err.Error()})
	}
	for _, name := range s.names() {
		for _, j := range s.held(name) {
			written, err := s.repair(ctx, j)
			if written {
				done.Messengers++
			}
			switch {
			case isOfOneMessenger(err), errors.As(err, new(*rivalError)):
				done.Failed = append(done.Failed, Failure{Messenger: name, Error: err.Error()})
			case err != nil:
				return done, apierror.Storage(err)
			}
		}
	}
	return done, nil
}

// A rivalError is the error for a messenger that is not written back.
type rivalError struct{ created time.Time }

// Error implements error.
func (e *rivalError) Error() string {
	return "not written back, because the storage has another messenger of this name, created " + e.created.UTC().Format(time.RFC3339) +
		": delete that on another node and repair again, or restart this node to give up what it knows"
}

// repair writes back the batches of one journal that the storage has lost, or cannot give back.
func (s *Store) repair(ctx context.Context, j *ledger.Journal) (written bool, err error) {
	return s.writeBack(ctx, j, true)
}

// writeBack writes back the batches of one journal that the storage has lost, and with damaged those that it cannot give back, for which
// it reads all of them. If one of them cannot be written, the others are, except for what makes a token or changes settings: what ends that
// may be what could not be written. The error is that of one of them.
func (s *Store) writeBack(ctx context.Context, j *ledger.Journal, damaged bool) (written bool, err error) {
	defer s.lock(j.Name)()
	if err = s.readMore(ctx, j); err != nil && !(isOfOneMessenger(err) && j.IsCompared()) {
		return false, err
	}
	lost := j.Lost()
	var failed error
	if damaged {
		var spoiled map[vault.Key][]json.RawMessage
		spoiled, failed = s.damaged(ctx, j)
		maps.Copy(lost, spoiled)
	}
	rivals, folders := j.Rivals(), make(map[string]bool)
	for incarnation, created := range rivals {
		maps.DeleteFunc(lost, func(key vault.Key, _ []json.RawMessage) bool { return key.Folder == j.Folder(incarnation) })
		failed = cmp.Or[error](failed, &rivalError{created})
	}
	unwritten := false
	for _, key := range j.InRepairOrder(lost) {
		if s.isDropped(j) || s.isAway() {
			failed = errDropped
			break
		}
		whole := true
		var ends []json.RawMessage
		if unwritten {
			ends, whole = j.EndsOf(key, lost)
		}
		if !whole && len(ends) == 0 {
			continue
		}
		if !whole { // what ends other tokens is written again in a batch of its own; the same fact twice is one
			_, err = s.writer.Append(ctx, key.Folder, false, ends)
		} else if err = s.SaveBatch(ctx, key, lost[key]); err == nil {
			folders[key.Folder] = true
		}
		if err == nil {
			written = true
		} else if failed, unwritten = err, true; !vault.IsOfOneValue(err) {
			break
		}
	}
	for _, folder := range slices.Sorted(maps.Keys(folders)) {
		if err := s.writer.Announce(ctx, folder); err != nil { // other nodes read it again
			return true, err
		}
	}
	if err = nil; written {
		err = s.readMore(ctx, j)
	}
	if f := j.NameDeleted(Now()); f != nil && cmp.Or(failed, err) == nil { // an earlier repair has ended in between
		if _, err = s.Write(ctx, j, ledger.NameFolder, true, f); err == nil {
			err = s.readMore(ctx, j)
		}
	}
	return written, cmp.Or(failed, err)
}

// damaged returns the batches that the storage has, and cannot give back. It reads all of them; an error is about the storage.
func (s *Store) damaged(ctx context.Context, j *ledger.Journal) (map[vault.Key][]json.RawMessage, error) {
	stored := j.Stored()
	var mu sync.Mutex
	damaged := make(map[vault.Key][]json.RawMessage)
	err := vault.UntilError(ctx, slices.Collect(maps.Keys(stored)), func(_ int, key vault.Key) error {
		_, err := s.LoadBatch(ctx, key)
		switch {
		case vault.IsSpoiled(err):
			mu.Lock()
			defer mu.Unlock()
			damaged[key] = stored[key]
			return nil
		case vault.IsOfOneValue(err): // another node has sealed it again, with a key that this one does not have
			return nil
		}
		return err
	})
	return damaged, err
}
