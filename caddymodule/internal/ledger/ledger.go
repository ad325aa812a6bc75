package ledger

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// A ledger has the facts of one incarnation of a messenger, and answers what follows from them. Every answer depends on the
// set of facts only, and not on the order in which they were added.
type ledger struct {
	facts map[string]*Fact // by ID

	versions             map[string]*Fact
	confirmed, withdrawn map[string]bool    // versions
	dropped              map[string][]*Fact // by hash
	settled, proven      bool               // see Contest; proven is what this node has found
	seen                 time.Time          // when this node has read the first version

	kept    map[string][]string  // by token: the resets that it outlives, in addition to those that it names
	expiry  map[string]time.Time // by token: the latest
	revoked map[string]bool      // tokens
	tokens  map[string]*Fact
	resets  map[string]*Fact
	secrets map[string][]*Fact // the tokens by their secrets

	// The same by fingerprint: a token may come back under another ID, by a file or from a node that still knows it.
	ends struct {
		expiry  map[string]time.Time
		revoked map[string]bool
	}

	undone      map[string]bool  // revocations
	revocations map[string]*Fact // the active ones that take room
	past        map[string]*Fact // the active ones that take none: their tokens have expired; see setAside
	covers      []*Fact          // revocations that replaced others, and were not replaced themselves
	logouts     map[string]int   // by contact: their own that take room
	size        int              // an upper bound for the size of those that take room, in bytes

	carried *Fact

	others []*ledger // other incarnations of the same messenger; see siblings.go

	closings uint64 // how often this node has seen tokens being revoked together with their connections
}

func newLedger() *ledger {
	l := &ledger{
		facts: make(map[string]*Fact), versions: make(map[string]*Fact),
		confirmed: make(map[string]bool), withdrawn: make(map[string]bool), dropped: make(map[string][]*Fact),
		kept: make(map[string][]string), expiry: make(map[string]time.Time), revoked: make(map[string]bool),
		tokens: make(map[string]*Fact), resets: make(map[string]*Fact), secrets: make(map[string][]*Fact),
		undone: make(map[string]bool), revocations: make(map[string]*Fact), past: make(map[string]*Fact), logouts: make(map[string]int),
	}
	l.ends.expiry, l.ends.revoked = make(map[string]time.Time), make(map[string]bool)
	return l
}

// clone returns a ledger with the same facts, and the same siblings.
func (l *ledger) clone() *ledger {
	c := newLedger()
	for _, f := range l.facts {
		c.add(f, new(Effect))
	}
	c.others = l.others
	return c
}

// An Effect is what facts have changed.
type Effect struct {
	Settings, Ring bool
	Fewer          bool    // revocations were undone
	added          []*Fact // revocations
}

// add adds a fact, and notes what it changes. A fact that is there already changes nothing.
func (l *ledger) add(f *Fact, e *Effect) {
	if l.facts[f.ID] != nil {
		return
	}
	l.facts[f.ID] = f
	switch f.Kind {
	case factSettings:
		if len(l.versions) == 0 {
			l.seen = time.Now()
		}
		l.versions[f.ID] = f
		e.Settings = true
	case factSettled:
		l.settled = true
		e.Settings = true
	case factConfirmed:
		addAll(l.confirmed, f.Of)
		e.Settings = true
	case factWithdrawn:
		addAll(l.withdrawn, f.Of)
		e.Settings = true
	case factDropped:
		l.dropped[f.Key] = append(l.dropped[f.Key], f)
		e.Settings = true
	case factToken, factImported:
		l.tokens[f.ID] = f
		id := secretID(f.secret())
		l.secrets[id] = append(l.secrets[id], f)
		e.Ring = true
	case factKept:
		for _, token := range f.Of {
			l.kept[token] = append(l.kept[token], f.Knows...)
		}
		e.Ring = true
	case factExpiry:
		for _, token := range f.Of {
			if f.End.After(l.expiry[token]) {
				l.expiry[token] = *f.End
			}
		}
		for _, fingerprint := range f.Fingerprints {
			if f.End.After(l.ends.expiry[fingerprint]) {
				l.ends.expiry[fingerprint] = *f.End
			}
		}
		e.Ring = true
	case factRevoked:
		addAll(l.revoked, f.Of)
		addAll(l.ends.revoked, f.Fingerprints)
		l.countClosing(f)
		e.Ring = true
	case factReset:
		l.resets[f.ID] = f
		l.countClosing(f)
		e.Ring = true
	case factRevoke:
		l.addRevocation(f, e)
	case factUndo:
		addAll(l.undone, f.Of)
		for _, id := range f.Of {
			l.deactivate(id)
		}
		e.Fewer = true
	case factCarried:
		l.carried = f
	}
}

func (l *ledger) countClosing(f *Fact) {
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
func (l *ledger) forget(facts []*Fact) {
	for _, f := range facts {
		delete(l.facts, f.ID)
		delete(l.versions, f.ID)
		l.forgetToken(f)
		delete(l.resets, f.ID)
		l.deactivate(f.ID)
		l.covers = slices.DeleteFunc(l.covers, func(c *Fact) bool { return c == f })
	}
}

// forgetToken removes a token, if f is one.
func (l *ledger) forgetToken(f *Fact) {
	if l.tokens[f.ID] == nil {
		return
	}
	delete(l.tokens, f.ID)
	id := secretID(f.secret())
	if l.secrets[id] = slices.DeleteFunc(l.secrets[id], func(other *Fact) bool { return other.ID == f.ID }); len(l.secrets[id]) == 0 {
		delete(l.secrets, id)
	}
}

// ring returns the shared tokens that are not revoked, the oldest first. Some may have expired. Several with one kid and one secret are one.
func (l *ledger) ring() []Token {
	var ring []Token
	ends := l.endings()
	for f := range l.allTokens() {
		if ends.isRevoked(f) {
			continue
		}
		ring = append(ring, Token{id: f.ID, KeyID: f.KeyID, Secret: f.secret(), Created: f.At.Truncate(time.Second), End: ends.end(f),
			Imported: f.Kind == factImported, Label: f.Label, By: f.By, at: f.At, anyKID: f.Any})
	}
	slices.SortFunc(ring, func(a, b Token) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.id, b.id)) })
	return firstOfEach(ring, func(t Token) [2]string { return [2]string{t.KeyID, secretID(t.Secret)} })
}

// firstOfEach returns list without those that have the key of an earlier one.
func firstOfEach[T any](list []T, key func(T) [2]string) []T {
	seen := make(map[[2]string]bool)
	return slices.DeleteFunc(list, func(t T) bool {
		before := seen[key(t)]
		seen[key(t)] = true
		return before
	})
}

// isRevoked reports whether a token of this ledger, l or a sibling, was revoked, by itself or by a reset.
func (l *ledger) isRevoked(token *Fact, of *ledger) bool {
	return l.isReset(token, of) || l.any(func(other *ledger) bool {
		return other.revoked[token.ID] || len(other.ends.revoked) > 0 && other.ends.revoked[fingerprintOf(token.Token)]
	})
}

// isReset reports whether a reset has revoked a token.
func (l *ledger) isReset(token *Fact, of *ledger) bool {
	for _, in := range l.all() {
		for _, reset := range in.resets {
			if !outlives(token, of, reset, in) && !in.isVoid(reset) && !in.hasOutliving(token, reset) {
				return true
			}
		}
	}
	return false
}

// endings say which secrets were revoked, and when the others expire. Two tokens with the same secret are one: nodes can import it at
// the same instant, and a file can bring back a token that the storage has lost and another node still knows.
type endings struct {
	revoked map[string]bool
	expiry  map[string]time.Time
}

func (l *ledger) endings() endings {
	e := endings{make(map[string]bool), make(map[string]time.Time)}
	for f, of := range l.allTokens() {
		secret := secretID(f.secret())
		if l.isRevoked(f, of) {
			e.revoked[secret] = true
		}
		if end, found := l.expiryOf(f); found && end.After(e.expiry[secret]) {
			e.expiry[secret] = end
		}
	}
	return e
}

func (e endings) isRevoked(token *Fact) bool { return e.revoked[secretID(token.secret())] }

// end returns when a token expires, or nil if never.
func (e endings) end(token *Fact) *time.Time {
	if end, found := e.expiry[secretID(token.secret())]; found {
		return &end
	}
	return nil
}

// hasTwin reports whether another token has the same secret, and nothing else has ended it: what has ended this one ends that.
func (l *ledger) hasTwin(token *Fact, now time.Time) bool {
	secret := secretID(token.secret())
	for f, of := range l.allTokens() {
		if f.ID == token.ID || secretID(f.secret()) != secret {
			continue
		}
		if end, ends := l.expiryOf(f); !(ends && now.Sub(end) > KeepUseless) && !l.isRevoked(f, of) {
			return true
		}
	}
	return false
}

// hasOutliving reports whether a token of l with the same secret outlives a reset of l: then every copy of it does.
func (l *ledger) hasOutliving(token, reset *Fact) bool {
	return slices.ContainsFunc(l.secrets[secretID(token.secret())], func(f *Fact) bool { return outlives(f, l, reset, l) })
}

// isVoid reports whether a reset was made with settings that its writer has withdrawn.
func (l *ledger) isVoid(reset *Fact) bool {
	return len(reset.Of) > 0 && l.withdrawn[reset.Of[0]] && !l.confirmed[reset.Of[0]]
}

// outlives reports whether a reset does not revoke a token. One that was made by a change of the validation method revokes the
// tokens from before it: its writer may have been stopped while others changed the method again, and made new tokens. Numbers of settings
// are those of one ledger. A sibling's reset from before the token was made does not revoke the token. Neither does one from long before,
// which a node that still knew it has written back, if the tokens that its writer knew are ended by their names as well: clocks differ.
func outlives(token *Fact, of *ledger, reset *Fact, in *ledger) bool {
	switch {
	case slices.Contains(token.Knows, reset.ID), slices.Contains(of.kept[token.ID], reset.ID):
		return true
	case in != of:
		return !reset.At.After(token.At)
	}
	return reset.Number > 0 && token.Number > reset.Number || reset.Named && token.At.After(reset.At.Add(maxAhead))
}

// resetIDs returns the resets that a token made now outlives.
func (l *ledger) resetIDs() (ids []string) {
	for _, of := range l.all() {
		ids = slices.AppendSeq(ids, maps.Keys(of.resets))
	}
	slices.Sort(ids)
	return ids
}
