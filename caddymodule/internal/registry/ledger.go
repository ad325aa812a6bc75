package registry

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// A ledger has the facts of one incarnation of a messenger, and answers what follows from them. Every answer depends on the
// set of facts only, and not on the order in which they were added.
type ledger struct {
	facts map[string]*fact // by ID

	versions             map[string]*fact
	confirmed, withdrawn map[string]bool    // versions
	dropped              map[string][]*fact // by hash

	kept    map[string][]string  // by token: the resets that it outlives, in addition to those that it names
	expiry  map[string]time.Time // by token: the latest
	revoked map[string]bool      // tokens
	tokens  map[string]*fact
	resets  map[string]*fact

	undone      map[string]bool  // revocations
	revocations map[string]*fact // the active ones that take room
	past        map[string]*fact // the active ones that take none: their tokens have expired; see setAside
	covers      []*fact          // revocations that replaced others, and were not replaced themselves
	logouts     map[string]int   // by contact: their own that take room
	size        int              // an upper bound for the size of those that take room, in bytes

	carried *fact

	closings uint64 // how often this node has seen tokens being revoked together with their connections
}

func newLedger() *ledger {
	return &ledger{
		facts: make(map[string]*fact), versions: make(map[string]*fact),
		confirmed: make(map[string]bool), withdrawn: make(map[string]bool), dropped: make(map[string][]*fact),
		kept: make(map[string][]string), expiry: make(map[string]time.Time), revoked: make(map[string]bool),
		tokens: make(map[string]*fact), resets: make(map[string]*fact),
		undone: make(map[string]bool), revocations: make(map[string]*fact), past: make(map[string]*fact), logouts: make(map[string]int),
	}
}

// An effect is what facts have changed.
type effect struct {
	settings, ring bool
	added          []*fact // revocations
	fewer          bool    // revocations were undone
	distrust       bool
}

func (e *effect) empty() bool {
	return !e.settings && !e.ring && !e.fewer && !e.distrust && len(e.added) == 0
}

// add adds a fact, and notes what it changes. A fact that is there already changes nothing.
func (l *ledger) add(f *fact, e *effect) {
	if l.facts[f.ID] != nil {
		return
	}
	l.facts[f.ID] = f
	switch f.Kind {
	case factSettings:
		l.versions[f.ID] = f
		e.settings = true
	case factConfirmed:
		addAll(l.confirmed, f.Of)
		e.settings = true
	case factWithdrawn:
		addAll(l.withdrawn, f.Of)
		e.settings = true
	case factDropped:
		l.dropped[f.Key] = append(l.dropped[f.Key], f)
		e.settings = true
	case factToken:
		l.tokens[f.ID] = f
		e.ring = true
	case factKept:
		for _, token := range f.Of {
			l.kept[token] = append(l.kept[token], f.Knows...)
		}
		e.ring = true
	case factExpiry:
		for _, token := range f.Of {
			if f.End.After(l.expiry[token]) {
				l.expiry[token] = *f.End
			}
		}
		e.ring = true
	case factRevoked:
		addAll(l.revoked, f.Of)
		l.countClosing(f)
		e.ring = true
	case factReset:
		l.resets[f.ID] = f
		l.countClosing(f)
		e.ring = true
	case factRevoke:
		l.addRevocation(f, e)
	case factUndo:
		addAll(l.undone, f.Of)
		for _, id := range f.Of {
			l.deactivate(id)
		}
		e.fewer = true
	case factCarried:
		l.carried = f
	case factDistrust:
		e.distrust = true
	}
}

func (l *ledger) countClosing(f *fact) {
	if f.Closing {
		l.closings++
	}
}

func addAll(set map[string]bool, ids []string) {
	for _, id := range ids {
		set[id] = true
	}
}

// forget removes facts that have outlived their use.
func (l *ledger) forget(facts []*fact) {
	for _, f := range facts {
		delete(l.facts, f.ID)
		delete(l.versions, f.ID)
		delete(l.tokens, f.ID)
		delete(l.resets, f.ID)
		l.deactivate(f.ID)
		l.covers = slices.DeleteFunc(l.covers, func(c *fact) bool { return c == f })
	}
}

// version returns the current version of the settings, or nil. It is the confirmed one with the longest history, followed by
// versions that are not confirmed: their writers may have died before they could. Of several the latest counts, and of those
// of one instant the one with the greatest ID, so that all nodes agree.
func (l *ledger) version() *fact {
	var current *fact
	var open []*fact
	for _, f := range l.versions {
		switch {
		case l.confirmed[f.ID]:
			if current == nil || compareVersions(f, current) > 0 {
				current = f
			}
		case !l.withdrawn[f.ID]:
			open = append(open, f)
		}
	}
	slices.SortFunc(open, compareVersions)
	for _, f := range open { // children come after their parents
		last := current == nil && f.Parent == "" || current != nil && f.Parent == current.ID
		sibling := current != nil && !l.confirmed[current.ID] && f.Parent == current.Parent
		if last || sibling {
			current = f
		}
	}
	return current
}

func compareVersions(a, b *fact) int {
	return cmp.Or(cmp.Compare(a.Number, b.Number), a.At.Compare(b.At), cmp.Compare(a.ID, b.ID))
}

// children returns the versions with this parent that are not withdrawn.
func (l *ledger) children(parent string) (ids []string) {
	for _, f := range l.versions {
		if f.Parent == parent && !l.withdrawn[f.ID] {
			ids = append(ids, f.ID)
		}
	}
	return ids
}

// ring returns the shared tokens that are not revoked, the oldest first. Some may have expired.
func (l *ledger) ring() []ringToken {
	var ring []ringToken
	for id, f := range l.tokens {
		if l.revoked[id] || l.isReset(f) {
			continue
		}
		t := ringToken{id: id, KeyID: f.KeyID, Token: f.Token, Created: f.At.Truncate(time.Second), at: f.At}
		if end, found := l.expiry[id]; found {
			t.End = &end
		}
		ring = append(ring, t)
	}
	slices.SortFunc(ring, func(a, b ringToken) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.id, b.id)) })
	return ring
}

// isReset reports whether a reset has revoked a token.
func (l *ledger) isReset(token *fact) bool {
	for id := range l.resets {
		if !l.outlives(token, id) {
			return true
		}
	}
	return false
}

// outlives reports whether a reset does not revoke a token. One that was made by a change of the validation method revokes the
// tokens from before it: its writer may have been stopped while others changed the method again, and made new tokens.
func (l *ledger) outlives(token *fact, reset string) bool {
	if r := l.resets[reset]; r != nil && r.Number > 0 && token.Number > r.Number {
		return true
	}
	return slices.Contains(token.Knows, reset) || slices.Contains(l.kept[token.ID], reset)
}

// number returns the number of the current settings, or 0 if there are none.
func (l *ledger) number() uint64 {
	if v := l.version(); v != nil {
		return v.Number
	}
	return 0
}

// resetIDs returns the resets that a token made now outlives.
func (l *ledger) resetIDs() []string { return slices.Sorted(maps.Keys(l.resets)) }
