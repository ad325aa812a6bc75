package registry

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

const (
	// keepUseless is how long facts are kept after they have outlived their use: clocks differ, and late writes arrive.
	keepUseless = 24 * time.Hour

	// keepDeletion is how long the deletion of a messenger is kept. A node that was away for longer drops what it knows.
	keepDeletion = 30 * 24 * time.Hour

	// keepEnds is how long it is remembered that a token was revoked or has expired, and that a revocation was undone, also
	// when the token or revocation was removed: a late write can bring it back, and a node that was away still has it. A node
	// that was away for longer drops what it knows.
	keepEnds = keepDeletion
)

// isUseless reports whether no fact of a batch has been of use for keepUseless. The caller holds mu.
func (j *journal) isUseless(key vault.Key, b *batch, now time.Time) bool {
	incarnation, _ := j.incarnationOf(key)
	if incarnation == nameFolder {
		return !slices.ContainsFunc(b.facts, func(f *fact) bool { return j.keepsDeletion(f, now) })
	}
	if gone, found := j.deleted[incarnation]; found {
		return now.Sub(gone) > keepUseless
	}
	l := j.ledger(incarnation)
	return !slices.ContainsFunc(b.facts, func(f *fact) bool { return l.isOfUse(f, now) })
}

// keepsDeletion reports whether the deletion of an incarnation is still of use.
func (j *journal) keepsDeletion(f *fact, now time.Time) bool {
	return now.Sub(f.At) <= keepDeletion || slices.ContainsFunc(f.Of, func(gone string) bool { return j.ledgers[gone] != nil })
}

// isOfUse reports whether a fact is of use, or was within keepUseless.
func (l *ledger) isOfUse(f *fact, now time.Time) bool {
	if now.Sub(f.At) <= keepUseless {
		return true
	}
	past := func(t time.Time) bool { return now.Sub(t) > keepUseless }
	recent := func(t time.Time) bool { return now.Sub(t) <= keepEnds }
	switch f.Kind {
	case factSettings:
		current := l.version()
		return current == nil || f.ID == current.ID || f.Number >= current.Number || !l.confirmed[current.ID] || !past(current.At)
	case factConfirmed, factWithdrawn:
		return slices.ContainsFunc(f.Of, func(id string) bool { return l.versions[id] != nil })
	case factToken:
		end, ends := l.expiry[f.ID]
		return !(l.revoked[f.ID] || l.isReset(f) || ends && past(end))
	case factKept, factExpiry, factRevoked:
		return recent(f.At) || f.End != nil && recent(*f.End) || slices.ContainsFunc(f.Of, func(id string) bool { return l.tokens[id] != nil })
	case factReset: // the last one is kept: a token that reappears names no later one
		if recent(f.At) { // if it reappeared, it would revoke tokens that were made after it was removed
			return true
		}
		for _, token := range l.tokens {
			if !l.outlives(token, f.ID) {
				return true
			}
		}
		for _, other := range l.resets {
			if other.At.After(f.At) {
				return false
			}
		}
		return true
	case factRevoke:
		v := f.Revocation
		return !(l.undone[f.ID] || v.Exact && v.Until != nil && past(*v.Until) || l.isCovered(f))
	case factUndo:
		return recent(f.At) || slices.ContainsFunc(f.Of, func(id string) bool { return l.facts[id] != nil })
	case factDistrust:
		for _, other := range l.facts {
			if other.Kind == factDistrust && other.At.After(f.At) {
				return false
			}
		}
		return true
	}
	return true
}

func compareKeys(a, b vault.Key) int {
	return cmp.Or(cmp.Compare(a.Folder, b.Folder), cmp.Compare(a.Writer, b.Writer), cmp.Compare(a.Number, b.Number))
}

// prune removes the batches that have outlived their use from the storage, one by one. The last batch of a folder stays, unless
// its messenger was deleted: on some storages a folder without values is removed from the listing of the folder above it, even
// if another node writes to it at that moment.
func (s *Store) prune(ctx context.Context, j *journal, now time.Time) error {
	j.mu.Lock()
	left := make(map[string]int)
	for key := range j.batches {
		left[key.Folder]++
	}
	var useless []vault.Key
	keys := slices.SortedFunc(maps.Keys(j.batches), compareKeys) // all nodes keep the same one
	for _, key := range keys {
		b := j.batches[key]
		incarnation, _ := j.incarnationOf(key)
		_, gone := j.deleted[incarnation]
		if j.missing[key] || !j.isUseless(key, b, now) || left[key.Folder] == 1 && !gone && incarnation != nameFolder {
			continue
		}
		left[key.Folder]--
		useless = append(useless, key)
	}
	j.mu.Unlock()
	for _, key := range useless {
		if err := s.Delete(ctx, key.String()); err != nil {
			return err
		}
		j.mu.Lock()
		if b := j.batches[key]; b != nil {
			j.forget(key, b)
		}
		j.mu.Unlock()
	}
	return nil
}
