package ledger

import (
	"iter"
	"slices"
	"time"
)

// A storage was emptied, or restored from an old backup, and a file has brought a messenger back; then a node that still knows the messenger
// writes it back as well. There are two incarnations of one messenger then, with the same time of creation, and in both something was
// acknowledged. The settings are those of the one that counts. What restricts it holds, whichever of the two it was said to: revocations,
// ends of tokens, keys that were dropped. And the tokens of both are valid.

// view calls f with the current incarnation and its ledger, and returns false if there is no messenger.
func (j *Journal) view(f func(incarnation string, l *ledger)) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	incarnation := j.current()
	if incarnation == "" {
		return false
	}
	l := j.ledger(incarnation)
	l.others = j.siblings(incarnation)
	f(incarnation, l)
	return true
}

// siblings returns the other incarnations of the same messenger that were not deleted. The caller holds mu.
func (j *Journal) siblings(incarnation string) (others []*ledger) {
	if j.Kind == KindRing || len(j.ledgers) < 2 {
		return nil
	}
	own := j.ledgers[incarnation]
	if own == nil || own.version() == nil {
		return nil
	}
	created := own.version().Created
	for name, l := range j.ledgers {
		if _, gone := j.deleted[name]; gone || name == incarnation || len(l.confirmed) == 0 {
			continue
		}
		if v := l.version(); v != nil && v.Created.Equal(*created) {
			others = append(others, l)
		}
	}
	return others
}

// allTokens returns the tokens of l, and then those of its siblings, with their ledgers.
func (l *ledger) allTokens() iter.Seq2[*Fact, *ledger] {
	return func(yield func(*Fact, *ledger) bool) {
		for _, of := range append([]*ledger{l}, l.others...) {
			for _, f := range of.tokens {
				if !yield(f, of) {
					return
				}
			}
		}
	}
}

// hasFact reports whether a fact of this ID is there, in l or a sibling.
func (l *ledger) hasFact(id string) bool {
	return l.facts[id] != nil || slices.ContainsFunc(l.others, func(other *ledger) bool { return other.facts[id] != nil })
}

// hasToken reports whether a token of this ID is there, in l or a sibling.
func (l *ledger) hasToken(id string) bool {
	for f := range l.allTokens() {
		if f.ID == id {
			return true
		}
	}
	return false
}

// hasTokens reports whether there is any token, in l or a sibling.
func (l *ledger) hasTokens() bool {
	for range l.allTokens() {
		return true
	}
	return false
}

// ringKey identifies what a token verifies: the same token in two incarnations is listed once.
func ringKey(token *Fact) string { return token.KeyID + "\x00" + secretID(token.secret()) }

// hasEnded reports whether l has revoked a token of a sibling. Its resets from before the token was made do not count: they were of no
// concern to that one.
func (l *ledger) hasEnded(token *Fact) bool {
	if l.revoked[token.ID] {
		return true
	}
	for id, reset := range l.resets {
		knows := slices.Contains(token.Knows, id) || slices.Contains(l.kept[token.ID], id) // numbers of settings are those of one incarnation
		if reset.At.After(token.At) && !knows && !l.isVoid(reset) {
			return true
		}
	}
	return false
}

// allActive returns the active revocations of l and its siblings.
func (l *ledger) allActive() iter.Seq[*Fact] {
	return func(yield func(*Fact) bool) {
		for _, of := range append([]*ledger{l}, l.others...) {
			for f := range of.active() {
				if (of == l || !l.undone[f.ID] && l.facts[f.ID] == nil) && !yield(f) {
					return
				}
			}
		}
	}
}

// Rival returns when another messenger of this name was created, if the storage has that and has lost one that this node knows. It is not
// written back then: the earlier of the two would count, and what was done to the later one would be lost.
func (j *Journal) Rival() (created time.Time, found bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	stored, lost := make(map[string]bool), make(map[string]bool)
	for key := range j.batches {
		incarnation, _ := j.incarnationOf(key)
		if j.missing[key] {
			lost[incarnation] = true
		} else {
			stored[incarnation] = true
		}
	}
	for incarnation := range stored {
		other := j.ledgers[incarnation]
		if other == nil || lost[incarnation] || len(other.confirmed) == 0 || !j.deleted[incarnation].IsZero() {
			continue
		}
		for name := range lost {
			own := j.ledgers[name]
			if own == nil || stored[name] || !j.deleted[name].IsZero() {
				continue
			}
			if v, w := own.version(), other.version(); v != nil && w != nil && !v.Created.Equal(*w.Created) {
				return *w.Created, true
			}
		}
	}
	return created, false
}
