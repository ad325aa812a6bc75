package ledger

import (
	"maps"
	"path"
	"slices"
	"time"
)

// A deletion names the incarnations that its writer knew, and when their messengers were created. Another node may know another incarnation
// of such a messenger, which the storage has lost: it was deleted with them. A messenger that a file brought back after the deletion is the
// same one, too: its settings say that it knows the deletion.

// Deletion returns the fact by which all incarnations are deleted, or nil if there are none. It belongs to NameFolder.
func (j *Journal) Deletion(now time.Time) *Fact {
	gone := make(map[string]bool)
	var created []time.Time
	j.mu.Lock()
	for incarnation, l := range j.ledgers {
		if j.isDeleted(incarnation) {
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

// isDeleted reports whether an incarnation was deleted. The caller holds mu.
func (j *Journal) isDeleted(incarnation string) bool { return !j.deletedAt(incarnation).IsZero() }

// deletedAt returns when an incarnation was deleted, or the zero time. The caller holds mu.
func (j *Journal) deletedAt(incarnation string) time.Time {
	at, named := j.deleted[incarnation]
	if named || len(j.deletions) == 0 || j.ledgers[incarnation] == nil {
		return at
	}
	v := j.ledgers[incarnation].candidate()
	if v == nil {
		return at
	}
	for _, f := range j.deletions[v.Created.UnixNano()] {
		if f.deletes(v) && (at.IsZero() || f.At.Before(at)) {
			at = f.At
		}
	}
	return at
}

// deletes reports whether a deletion is about the messenger with these settings, which do not know it.
func (f *Fact) deletes(v *Fact) bool {
	return slices.ContainsFunc(f.Times, v.Created.Equal) && !slices.Contains(v.Knows, f.ID)
}

// SetCreated says that settings are those of a messenger that was created at that time, and may have been deleted since: it is brought back
// on purpose.
func (j *Journal) SetCreated(v *Fact, created time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	v.Created = &created
	for _, f := range j.deletions[created.UnixNano()] {
		v.Knows = append(v.Knows, f.ID)
	}
}

// restores returns the deletions that settings know. The caller holds mu.
func (j *Journal) restores(v *Fact) []string {
	return slices.DeleteFunc(slices.Clone(v.Knows), func(id string) bool {
		return !slices.ContainsFunc(j.deletions[v.Created.UnixNano()], func(f *Fact) bool { return f.ID == id })
	})
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
