package ledger

import (
	"cmp"
	"context"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

const (
	// KeepUseless is how long facts are kept after they have outlived their use: clocks differ, and late writes arrive.
	KeepUseless = 24 * time.Hour

	// KeepDeletion is how long the deletion of a messenger is kept. A node that was away for longer drops what it knows.
	KeepDeletion = 30 * 24 * time.Hour

	// keepEnds is how long it is remembered that a token was revoked or has expired, and that a revocation was undone, also
	// when the token or revocation was removed: a late write can bring it back, and a node that was away still has it. A node
	// that was away for longer drops what it knows.
	keepEnds = KeepDeletion
)

// isUseless reports whether no fact of a batch has been of use for KeepUseless. The caller holds mu.
func (j *Journal) isUseless(key vault.Key, b *batch, now time.Time) bool {
	incarnation, _ := j.incarnationOf(key)
	if incarnation == NameFolder {
		return !slices.ContainsFunc(b.facts, func(f *Fact) bool { return j.keepsDeletion(f, now) })
	}
	if gone := j.deletedAt(incarnation); !gone.IsZero() {
		return now.Sub(gone) > KeepUseless
	}
	l := j.together(incarnation)
	return !slices.ContainsFunc(b.facts, func(f *Fact) bool { return l.isOfUse(f, now) })
}

// keepsDeletion reports whether the deletion of incarnations is still of use.
func (j *Journal) keepsDeletion(f *Fact, now time.Time) bool {
	if now.Sub(f.At) <= KeepDeletion {
		return true
	}
	for incarnation, l := range j.ledgers {
		v := l.candidate()
		if slices.Contains(f.Of, incarnation) || v != nil && slices.ContainsFunc(f.Times, v.Created.Equal) && !undoes(v, f, 0) {
			return true
		}
	}
	return false
}

// isOfUse reports whether a fact is of use, or was within KeepUseless.
func (l *ledger) isOfUse(f *Fact, now time.Time) bool {
	if now.Sub(f.At) <= KeepUseless || f.Keep {
		return true
	}
	past := func(t time.Time) bool { return now.Sub(t) > KeepUseless }
	recent := func(t time.Time) bool { return now.Sub(t) <= keepEnds }
	switch f.Kind {
	case factSettings:
		current := l.version()
		if l.withdrawn[f.ID] && !l.confirmed[f.ID] {
			return l.isProof(f)
		}
		return current == nil || f.ID == current.ID || f.Number >= current.Number || !l.isReplaced(f, past) || l.isProof(f)
	case factConfirmed, factWithdrawn:
		return slices.ContainsFunc(f.Of, func(id string) bool { return l.versions[id] != nil })
	case factToken:
		end, ends := l.expiryOf(f)
		return !(l.isRevoked(f, l) || ends && past(end)) || l.hasTwin(f, now)
	case factImported: // it is remembered, so that its secret is not imported again after it was revoked
	case factKept, factExpiry, factRevoked:
		return recent(f.At) || f.End != nil && recent(*f.End) || slices.ContainsFunc(f.Of, l.hasFact) || slices.ContainsFunc(f.Fingerprints, l.hasFingerprint) || l.isLastEnd(f)
	case factReset: // the last one is kept: a token that reappears names no later one
		if recent(f.At) { // if it reappeared, it would revoke tokens that were made after it was removed
			return true
		}
		for token, of := range l.allTokens() {
			if !outlives(token, of, f, l) {
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
		return !(l.isUndone(f) || v.Exact && v.Until != nil && past(*v.Until) || l.isCovered(f))
	case factUndo:
		return recent(f.At) || slices.ContainsFunc(f.Of, l.hasFact)
	}
	return true
}

// isReplaced reports whether a later version than f was confirmed long ago.
func (l *ledger) isReplaced(f *Fact, past func(time.Time) bool) bool {
	for id := range l.confirmed {
		if later := l.versions[id]; later != nil && later.Number > f.Number && past(later.At) {
			return true
		}
	}
	return false
}

// isLastEnd reports whether no token was ended after f. The last end is kept: it says that there were tokens, so that an old file does not
// bring them back; see [Journal.Lacking].
func (l *ledger) isLastEnd(f *Fact) bool {
	for _, other := range l.facts {
		if (other.Kind == factExpiry || other.Kind == factRevoked) && cmp.Or(other.At.Compare(f.At), cmp.Compare(other.ID, f.ID)) > 0 {
			return false
		}
	}
	return f.Kind != factKept
}

// Prune removes the batches that have outlived their use from the storage, one by one.
func (j *Journal) Prune(ctx context.Context, v *vault.Vault, now time.Time) error {
	return j.remove(ctx, v, j.removable(now, func(*batch) time.Duration { return 0 }))
}

// PruneForReseal is Prune before the batches that stay are written again. Another node may remove one of them in between, and what is
// written then reappears. That is harmless as long as the facts are there that have ended its use, which is for a day at least. Old
// settings and resets could outlive these, and are removed a little earlier.
func (j *Journal) PruneForReseal(ctx context.Context, v *vault.Vault, now time.Time) (removed []vault.Key, err error) {
	removed = j.removable(now, reappearing)
	return removed, j.remove(ctx, v, removed)
}

// reappearing returns how much earlier than others a batch is removed that would mean something if it reappeared.
func reappearing(b *batch) time.Duration {
	if slices.ContainsFunc(b.facts, func(f *Fact) bool { return f.Kind == factSettings || f.Kind == factReset }) {
		return time.Hour
	}
	return 0
}

// removable returns the batches that have outlived their use, or will have after ahead. The last batch of a folder stays, unless its
// messenger was deleted: on some storages a folder without values is removed from the listing of the folder above it, even
// if another node writes to it at that moment. The last deletion of a name stays as long as there is a messenger of the name,
// whose own deletion would be written next to it.
func (j *Journal) removable(now time.Time, ahead func(*batch) time.Duration) (useless []vault.Key) {
	j.mu.Lock()
	defer j.mu.Unlock()
	left := make(map[string]int)
	for key := range j.batches {
		left[key.Folder]++
	}
	exists := j.current() != ""
	keys := slices.SortedFunc(maps.Keys(j.batches), vault.Key.Compare) // all nodes keep the same one
	for _, key := range keys {
		b := j.batches[key]
		incarnation, _ := j.incarnationOf(key)
		gone := j.isDeleted(incarnation)
		if j.missing[key] || !j.isUseless(key, b, now.Add(ahead(b))) || left[key.Folder] == 1 && !gone && (incarnation != NameFolder || exists) {
			continue
		}
		left[key.Folder]--
		useless = append(useless, key)
	}
	return useless
}

// remove removes batches from the storage and from the journal.
func (j *Journal) remove(ctx context.Context, v *vault.Vault, useless []vault.Key) error {
	for _, key := range useless {
		if err := v.Delete(ctx, key.String()); err != nil {
			return err
		}
		j.mu.Lock()
		if b := j.batches[key]; b != nil {
			j.forget(key, b)
		}
		j.mu.Unlock()
	}
	if !j.hasEmptied(useless) {
		return nil
	}
	// Another node may have created or deleted a messenger of this name while a folder was being removed from its listing.
	for _, folder := range []string{path.Join(j.root(), NameFolder, "facts"), path.Join(j.root(), NameFolder), j.root()} {
		if err := v.KeepListed(ctx, folder); err != nil {
			return err
		}
	}
	return nil
}

// hasEmptied reports whether a folder of the batches that were removed has none any more.
func (j *Journal) hasEmptied(removed []vault.Key) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	left := make(map[string]bool)
	for key := range j.batches {
		left[key.Folder] = true
	}
	return slices.ContainsFunc(removed, func(key vault.Key) bool { return !left[key.Folder] })
}
