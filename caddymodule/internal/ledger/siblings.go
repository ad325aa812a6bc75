package ledger

import (
	"iter"
	"maps"
	"slices"
	"time"
)

// A storage was emptied, or restored from an old backup, and a file has brought a messenger back; then a node that still knows the messenger
// writes it back as well. There are two incarnations of one messenger then, with the same time of creation, and in both something was
// acknowledged. The settings are those of the one that counts. What restricts it holds, whichever of the two it was said to: revocations,
// ends of tokens, keys that were dropped. And the tokens of both are valid.

// view calls f with the current incarnation and its ledger, and returns false if no messenger is there.
func (j *Journal) view(f func(incarnation string, l *ledger)) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	incarnation := j.current()
	if incarnation == "" {
		return false
	}
	f(incarnation, j.together(incarnation))
	return true
}

// together returns the ledger of an incarnation, with those of the same messenger that were deleted if it was, and otherwise were not.
// The caller holds mu.
func (j *Journal) together(incarnation string) *ledger {
	l := j.ledger(incarnation)
	l.others = nil
	if j.Kind == KindRing || len(j.ledgers) < 2 || l.version() == nil {
		return l
	}
	created, gone := *l.version().Created, j.isDeleted(incarnation)
	for _, name := range slices.Sorted(maps.Keys(j.ledgers)) {
		other := j.ledgers[name]
		if name == incarnation || gone != j.isDeleted(name) || len(other.confirmed) == 0 {
			continue
		}
		if v := other.version(); v != nil && v.Created.Equal(created) {
			l.others = append(l.others, other)
		}
	}
	return l
}

// hasStored reports whether the storage has a messenger of this name that was not deleted. The caller holds mu.
func (j *Journal) hasStored() bool {
	for incarnation, l := range j.ledgers {
		if l.version() != nil && !j.lost[incarnation] && !j.isDeleted(incarnation) {
			return true
		}
	}
	return false
}

// all returns l and its siblings. What follows asks all of them alike: which one counts can change.
func (l *ledger) all() []*ledger { return append([]*ledger{l}, l.others...) }

// any reports whether is holds for l or a sibling.
func (l *ledger) any(is func(*ledger) bool) bool { return is(l) || slices.ContainsFunc(l.others, is) }

// fact returns the fact with this ID, of l or a sibling, or nil.
func (l *ledger) fact(id string) *Fact {
	for _, of := range l.all() {
		if f := of.facts[id]; f != nil {
			return f
		}
	}
	return nil
}

// hasFact reports whether a fact of this ID is there, in l or a sibling.
func (l *ledger) hasFact(id string) bool { return l.fact(id) != nil }

// isUndone reports whether a revocation was undone, also as the one that it was in another store.
func (l *ledger) isUndone(f *Fact) bool {
	return l.any(func(of *ledger) bool {
		return of.undone[f.ID] || slices.ContainsFunc(f.Of, func(id string) bool { return of.undone[id] })
	})
}

// isCoveredByAny reports whether a revocation of l or a sibling has replaced f.
func (l *ledger) isCoveredByAny(f *Fact) bool {
	return l.any(func(of *ledger) bool { return of.isCovered(f) })
}

// allTokens returns the tokens of l and its siblings, with their ledgers.
func (l *ledger) allTokens() iter.Seq2[*Fact, *ledger] {
	return func(yield func(*Fact, *ledger) bool) {
		for _, of := range l.all() {
			for _, f := range of.tokens {
				if !yield(f, of) {
					return
				}
			}
		}
	}
}

// hasFingerprint reports whether there is a token with this fingerprint, in l or a sibling.
func (l *ledger) hasFingerprint(fingerprint string) bool {
	for f := range l.allTokens() {
		if fingerprintOf(f.Token) == fingerprint {
			return true
		}
	}
	return false
}

// expiryOf returns when a token expires, the latest if there are several times.
func (l *ledger) expiryOf(token *Fact) (end time.Time, found bool) {
	note := func(e time.Time, ends bool) {
		if ends && (!found || e.After(end)) {
			end, found = e, true
		}
	}
	for _, of := range l.all() {
		e, ends := of.expiry[token.ID]
		note(e, ends)
		if len(of.ends.expiry) > 0 {
			e, ends = of.ends.expiry[fingerprintOf(token.Token)]
			note(e, ends)
		}
	}
	return end, found
}

// allActive returns the active revocations of l and its siblings. One that is in two is returned once.
func (l *ledger) allActive() iter.Seq[*Fact] {
	return func(yield func(*Fact) bool) {
		all := l.all()
		for i, of := range all {
			for f := range of.active() {
				before := slices.ContainsFunc(all[:i], func(first *ledger) bool { return first.facts[f.ID] != nil })
				if !before && !l.isUndone(f) && !yield(f) {
					return
				}
			}
		}
	}
}

// Rivals returns the incarnations that the storage has lost while it has another messenger of this name, with the time at which that was
// created. They are not written back: the earlier of the two would count, and what was done to the later one would be lost.
func (j *Journal) Rivals() map[string]time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	stored, lost := make(map[string]time.Time), make(map[string]time.Time)
	for incarnation, l := range j.ledgers {
		v := l.version()
		switch {
		case v == nil || len(l.confirmed) == 0 || j.isDeleted(incarnation):
		case !j.lost[incarnation]:
			stored[incarnation] = *v.Created
		default:
			lost[incarnation] = *v.Created
		}
	}
	rivals := make(map[string]time.Time)
	for incarnation, created := range lost {
		for _, other := range stored {
			if !other.Equal(created) {
				rivals[incarnation] = other
			}
		}
	}
	return rivals
}
