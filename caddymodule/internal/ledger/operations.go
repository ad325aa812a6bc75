package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/vault"
)

// What operators and contacts do becomes facts here. Nothing is written: the registry writes the facts to the folder of the
// incarnation that these functions return.

var (
	// ErrNothing is the error for a journal without a messenger.
	ErrNothing = errors.New("there is no messenger of this name")

	// ErrNotRevoked is the error for undoing what was not revoked.
	ErrNotRevoked = errors.New("no such revocation exists")

	// errExpired is the error for revoking what cannot be valid any more.
	errExpired = invalid(`the tokens have expired already ("until" has passed), and there is nothing to revoke`)

	// errCovers is the error for undoing a revocation that replaced others.
	errCovers = errors.New("this revocation replaced others, such as the logouts of one contact, and cannot be undone: it is not known any more which tokens these were")
)

// An InvalidError says that a change can never be made as it was asked for, whatever the state is.
type InvalidError struct{ reason string }

func invalid(format string, values ...any) error {
	return InvalidError{fmt.Sprintf(format, values...)}
}

// Error implements error.
func (e InvalidError) Error() string { return e.reason }

// NextVersion returns the facts of a version of the settings that follows the current one, itself first, and the incarnation that it
// belongs to, which is a new one if there is no messenger.
//
// A version that uses shared tokens again, after a time in which none were used, revokes those from before with the same batch: no
// node ever follows it without that.
func (j *Journal) NextVersion(settings *config.Messenger, now time.Time) (facts []*Fact, incarnation string, err error) {
	v := NewFact(factSettings, j.stamp(now))
	if v.Settings, err = json.Marshal(settings); err != nil {
		return nil, "", err
	}
	facts = []*Fact{v}
	if !j.view(func(current string, l *ledger) {
		parent := l.version()
		incarnation = current
		v.Parent, v.Number, v.Created, v.Undoes = parent.ID, parent.Number+1, parent.Created, parent.Undoes
		for _, hash := range keyHashes(settings) {
			for _, of := range l.all() {
				for _, f := range of.dropped[hash] {
					v.Knows = append(v.Knows, f.ID)
				}
			}
		}
		if reset := l.ringReset(v, settings, now); reset != nil {
			facts = append(facts, reset)
		}
	}) {
		incarnation, v.Number, v.Created = newID(), 1, &v.At
	}
	return facts, incarnation, nil
}

// Undecided is how long a version that is neither confirmed nor withdrawn may still be: its writer may have been stopped. A write
// that took longer is not acknowledged.
const Undecided = 10 * time.Minute

// Of several nodes that change the same settings at once, each writes its version, looks (HasRival), and then confirms it or withdraws
// it. A node that withdraws looks once more (IsBuiltUpon): a third node may have seen the version and made another one from it. Of two
// nodes of which each writes and then looks, at least one sees the other: a version and one made from it, as well as two with the same
// parent, are never both decided without knowing of each other.

// HasRival reports whether another node has made a version with the same parent. The same holds for what v builds upon, as long as
// that is not decided: the version that v follows may be withdrawn, and its rival confirmed, by writers that were stopped.
func (j *Journal) HasRival(incarnation string, v *Fact) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	l := j.ledger(incarnation)
	rivals := func(v *Fact, after time.Time) bool {
		return slices.ContainsFunc(l.children(v.Parent, v.Number), func(f *Fact) bool { return f.ID != v.ID && f.At.After(after) && l.mayCount(f) })
	}
	if rivals(v, time.Time{}) {
		return true
	}
	for p := l.parent(v); p != nil && !l.confirmed[p.ID]; p = l.parent(p) {
		if l.withdrawn[p.ID] || rivals(p, v.At.Add(-Undecided-maxAhead)) {
			return true
		}
	}
	return false
}

// IsBuiltUpon reports whether a version that its writer has withdrawn may count nevertheless: another node has made a version from it,
// or, if it created the messenger, has written something else about that. own is what the writer has written.
func (j *Journal) IsBuiltUpon(incarnation string, v *Fact, own []*Fact) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	l := j.ledger(incarnation)
	if l.confirmed[v.ID] || slices.ContainsFunc(l.children(v.ID, v.Number+1), l.mayCount) {
		return true
	}
	others := maps.Clone(l.facts)
	for _, f := range own {
		delete(others, f.ID)
	}
	return v.Parent == "" && len(others) > 0
}

// Two nodes can create a messenger of the same name at the same instant. Each writes its settings, looks, confirms them, and looks
// again before it answers; it gives up if another one goes first (Contest). Suppose that both succeed. The one that was created
// later has not seen the other one at its second look, so that the other one was written afterwards. That one has then seen a
// confirmed creation at its first look, and has given up. At its second look, a node waits until an earlier creation is decided:
// its creator may have given up, and then this one has succeeded.
//
// The same holds for everything that operators and contacts do with a messenger, who look before they are answered: a creation that
// was confirmed may have lost nevertheless, against an earlier one that was not decided. If it was not confirmed, they confirm it
// (ConfirmCreation) as soon as they have looked, and have found that it is neither withdrawn nor lost. Its creator who withdraws it
// later sees what they have written, and does not know whether the messenger was created.
//
// A node that has found that a confirmed creation counts remembers it (SetSettled), and writes it down with the next change (Settlement).
// An earlier creation that appears later, because its write was held back, was not there at that look: its creator finds a confirmed
// one, and gives up.

// Contest compares an incarnation with others of the same name, except with those of the same messenger. lost reports that another one
// goes first: it is settled; or it is confirmed and this one is not, or it was created earlier. open reports that this one is confirmed,
// and an earlier one is not decided yet. That ends when its creator would not be acknowledged any more: by this node's own time since it
// has read that creation, or, for a journal that was just read, by the wall clocks.
func (j *Journal) Contest(incarnation string) (lost, open bool) {
	if j.Kind == KindRing {
		return false, false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	l := j.ledgers[incarnation]
	switch {
	case l == nil || l.candidate() == nil:
		return true, false
	case l.settled || l.proven:
		return false, false
	}
	created, confirmed := *l.candidate().Created, len(l.confirmed) > 0
	siblings := j.together(incarnation).others
	for other, rival := range j.ledgers {
		v := rival.candidate()
		isGone := j.isDeleted(other) || j.lost[other] && !j.lost[incarnation] // see current
		if other == incarnation || v == nil || isGone || confirmed && slices.Contains(siblings, rival) {
			continue
		}
		earlier := v.Created.Before(created) || v.Created.Equal(created) && other < incarnation
		switch decided := len(rival.confirmed) > 0; {
		case rival.settled:
			lost = true
		case earlier && confirmed && !decided:
			open = open || time.Since(rival.seen) <= Undecided && vault.Now().Sub(v.At) <= Undecided+maxAhead
		case earlier, decided && !confirmed:
			lost = true
		}
	}
	return lost, open
}

// ConfirmCreation returns the fact that confirms the creation of an incarnation, or nil if it is confirmed, withdrawn, or configured.
func (j *Journal) ConfirmCreation(incarnation string, now time.Time) *Fact {
	if j.Kind == KindRing {
		return nil
	}
	at := j.stamp(now)
	j.mu.Lock()
	defer j.mu.Unlock()
	if l := j.ledgers[incarnation]; l != nil && len(l.confirmed) == 0 {
		if v := l.version(); v != nil {
			return NewFact(factConfirmed, at, v.ID)
		}
	}
	return nil
}

// SetSettled notes that a confirmed creation counts.
func (j *Journal) SetSettled(incarnation string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if l := j.ledgers[incarnation]; l != nil && j.Kind == KindStored {
		l.proven = true
	}
}

// Settlement returns the fact that a confirmed creation counts, or nil if this node has not found that, or it is written down.
func (j *Journal) Settlement(incarnation string, now time.Time) *Fact {
	at := j.stamp(now)
	j.mu.Lock()
	defer j.mu.Unlock()
	if l := j.ledgers[incarnation]; l == nil || !l.proven || l.settled {
		return nil
	}
	return NewFact(factSettled, at)
}

// IsConfirmed reports whether the creation of an incarnation is confirmed. That of a configured one is.
func (j *Journal) IsConfirmed(incarnation string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	l := j.ledgers[incarnation]
	return j.Kind == KindRing || l != nil && len(l.confirmed) > 0
}

// Withdrawal returns the fact that undoes a version which was reported as not made. It has no effect if
// another node has confirmed the version.
func (j *Journal) Withdrawal(v *Fact, now time.Time) *Fact {
	return NewFact(factWithdrawn, j.stamp(now), v.ID)
}

// Confirmation returns the facts by which a version becomes the current one, whatever older versions arrive later. Keys that it
// does not name any more are dropped by facts of their own, so that no late version brings them back. before is the record that
// the version replaces, or nil.
func (j *Journal) Confirmation(v *Fact, before *Record, settings *config.Messenger, now time.Time) []*Fact {
	at := j.stamp(now)
	facts := []*Fact{NewFact(factConfirmed, at, v.ID)}
	if before == nil {
		return facts
	}
	kept := keyHashes(trustedAt(settings, now))
	for _, hash := range keyHashes(before.Settings) {
		if !slices.Contains(kept, hash) {
			f := NewFact(factDropped, at, v.ID)
			f.Key, f.Number = hash, v.Number
			facts = append(facts, f)
		}
	}
	if len(before.Tokens) > 0 && !settings.UsesRing(now) {
		reset, ended := NewFact(factReset, at), NewFact(factRevoked, at)
		reset.Number = v.Number
		j.view(func(_ string, l *ledger) {
			for _, t := range before.Tokens { // and not those that were made after v
				ended.endsToken(l, t)
			}
		})
		if facts = append(facts, reset); len(ended.Of) > 0 {
			facts = append(facts, ended)
		}
	}
	return facts
}
