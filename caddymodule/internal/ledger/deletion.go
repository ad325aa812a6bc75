package ledger

import (
	"maps"
	"path"
	"slices"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// A deletion names the incarnations that its writer knew, and when their messengers were created. Another node may know another incarnation
// of such a messenger, which the storage has lost: it was deleted with them, and is not served or written back. The same holds if it was being
// written back at that moment. What the storage has, with settings from after the deletion, was brought back on purpose.

// Deletion returns the fact by which all incarnations are deleted, or nil if there are none. It belongs to NameFolder.
func (j *Journal) Deletion(now time.Time) *Fact {
	gone := make(map[string]bool)
	var created []time.Time
	j.mu.Lock()
	forgotten := slices.ContainsFunc(slices.Collect(maps.Keys(j.missing)), func(key vault.Key) bool { return path.Base(key.Folder) == NameFolder })
	for incarnation, l := range j.ledgers {
		if j.isDeleted(incarnation) && !forgotten { // an earlier deletion that the storage has lost says nothing to others
			continue
		}
		gone[incarnation] = true
		if v := l.candidate(); v != nil {
			created = append(created, v.Created.UTC())
		}
	}
	for key := range j.bad {
		if incarnation := path.Base(key.Folder); incarnation != NameFolder && !j.isDeleted(incarnation) {
			gone[incarnation] = true
		}
	}
	j.mu.Unlock()
	if len(gone) == 0 {
		return nil
	}
	f := NewFact(factDeletion, j.stamp(now), slices.Sorted(maps.Keys(gone))...)
	slices.SortFunc(created, time.Time.Compare)
	f.Times = slices.CompactFunc(created, time.Time.Equal)
	return f
}

// NameDeleted returns the fact that names incarnations which were deleted by the time of their creation, and of which the storage has
// something: nodes that do not have their settings cannot know that they were. It is nil if there are none.
func (j *Journal) NameDeleted(now time.Time) *Fact {
	gone := make(map[string]bool)
	j.mu.Lock()
	for key := range j.batches {
		incarnation, _ := j.incarnationOf(key)
		l := j.ledgers[incarnation]
		if _, named := j.deleted[incarnation]; named || l == nil || j.missing[key] {
			continue
		}
		if v := l.candidate(); v != nil && slices.ContainsFunc(j.deletions[v.Created.UnixNano()], func(f *Fact) bool { return !undoes(v, f, 0) }) {
			gone[incarnation] = true
		}
	}
	j.mu.Unlock()
	if len(gone) == 0 {
		return nil
	}
	return NewFact(factDeletion, j.stamp(now), slices.Sorted(maps.Keys(gone))...)
}

// addDeletion notes a deletion. The caller holds mu.
func (j *Journal) addDeletion(f *Fact) {
	for _, created := range f.Times {
		j.deletions[created.UnixNano()] = append(j.deletions[created.UnixNano()], f)
	}
	for _, incarnation := range f.Of {
		if at, found := j.deleted[incarnation]; !found || f.At.Before(at) {
			j.deleted[incarnation] = f.At
		}
	}
}

// forgetDeletions forgets the deletions of batches that are not there any more. The caller holds mu.
func (j *Journal) forgetDeletions() {
	clear(j.deletions)
	clear(j.deleted)
	for key, b := range j.batches {
		if incarnation, _ := j.incarnationOf(key); incarnation == NameFolder {
			for _, f := range b.facts {
				j.addDeletion(f)
			}
		}
	}
}

// isDeleted reports whether an incarnation was deleted. The caller holds mu.
func (j *Journal) isDeleted(incarnation string) bool { return !j.deletedAt(incarnation).IsZero() }

// deletedAt returns when an incarnation was deleted, or the zero time. The caller holds mu.
func (j *Journal) deletedAt(incarnation string) time.Time {
	at, named := j.deleted[incarnation]
	if named || j.ledgers[incarnation] == nil {
		return at
	}
	v := j.ledgers[incarnation].candidate()
	if v == nil {
		return at
	}
	var ahead time.Duration
	if j.lost[incarnation] { // clocks differ
		ahead = maxAhead
	}
	for _, f := range j.deletions[v.Created.UnixNano()] {
		if !undoes(v, f, ahead) && (at.IsZero() || f.At.Before(at)) {
			at = f.At
		}
	}
	return at
}

// undoes reports whether someone who has made settings of a messenger has brought it back after a deletion, or has saved it since.
func undoes(v, deletion *Fact, ahead time.Duration) bool {
	return slices.Contains(v.Undoes, deletion.ID) || v.At.After(deletion.At.Add(ahead))
}

// SetCreated says that settings are those of a messenger that was created at that time, and may have been deleted since: it is brought back
// on purpose.
func (j *Journal) SetCreated(v *Fact, created time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	v.Created = &created
	for _, f := range j.deletions[created.UnixNano()] {
		v.Undoes = append(v.Undoes, f.ID)
	}
}

// noteLost notes of which incarnations the storage lacks the settings, if it lacks these batches. The caller holds mu.
func (j *Journal) noteLost(absent map[vault.Key]bool) {
	clear(j.lost)
	for key := range absent {
		incarnation, _ := j.incarnationOf(key)
		if _, known := j.lost[incarnation]; !known && incarnation != NameFolder {
			j.lost[incarnation] = !j.hasSettings(incarnation, absent)
		}
	}
}

// hasSettings reports whether the storage has confirmed settings of an incarnation, if it lacks these batches. The caller holds mu.
func (j *Journal) hasSettings(incarnation string, absent map[vault.Key]bool) bool {
	stored := newLedger()
	for key, b := range j.batches {
		if of, _ := j.incarnationOf(key); of == incarnation && !absent[key] {
			for _, f := range b.facts {
				stored.add(f, new(Effect))
			}
		}
	}
	return len(stored.confirmed) > 0 && stored.version() != nil
}

// DeletedAt returns when the last messenger of this name was deleted, or the zero time.
func (j *Journal) DeletedAt() (last time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, at := range j.deleted {
		if at.After(last) {
			last = at
		}
	}
	return last
}
