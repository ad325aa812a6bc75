package ledger

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/config"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
)

// A messenger is copied from one store into another by what its facts say, and not by the facts themselves: their IDs come from a
// file, and two facts with one ID would be read differently by different nodes. What is imported gets an ID that depends on its
// content only, so that importing it twice adds it once. Three rules follow from what a copy must never do:
//
//   - Nothing that is revoked here becomes valid: a copy adds revocations and ends of tokens, and undoes none.
//   - A token is added only to a messenger that this copy creates, and to one of the configuration that never had one. A
//     store forgets revoked tokens after a while, so that it cannot tell a token that is new to it from one that was revoked long ago.
//   - Nothing ends that was not meant: what was undone here since is not revoked again, and tokens are told apart by their text.

// A Copy is what a file says about one messenger.
type Copy struct {
	Created     *time.Time         // of a stored messenger
	Settings    *config.Messenger  // nil for a configured one
	Tokens      []CopiedToken      // the oldest first
	Revocations []CopiedRevocation // the oldest first
}

// A CopiedToken is a shared token in a copy.
type CopiedToken struct {
	KeyID       string     `json:"kid"`
	Fingerprint string     `json:"fingerprint"`
	Created     time.Time  `json:"created"`
	End         *time.Time `json:"end,omitempty"`
	Revoked     bool       `json:"revoked,omitempty"`
	Label       string     `json:"label,omitempty"`
	Token       string     `json:"-"` // "" if the secrets were not copied

	// A secret that the site brought may be one that can be guessed: nothing about it is in a file but what is sealed, not even its
	// fingerprint, which would say who has guessed it.
	Imported bool `json:"-"`
	Any      bool `json:"-"` // JWTs with any kid and without one are verified with it
}

// A CopiedRevocation is a revocation in a copy, with the ID that it had in its store.
type CopiedRevocation struct {
	ID string `json:"id"`
	revocation.Revocation
}

// Copy returns what the journal says, or nil if there is nothing. The copy has secrets.
func (j *Journal) Copy(now time.Time) (c *Copy) {
	j.view(func(_ string, l *ledger) {
		if len(l.facts) == 0 {
			return
		}
		c = new(Copy)
		if v := l.version(); v != nil {
			created := v.Created.UTC()
			c.Created = &created
			c.Settings, _ = l.settings(v)
		}
		ends := l.endings()
		for f := range l.allTokens() {
			t := CopiedToken{KeyID: f.KeyID, Token: f.Token, Created: f.At.UTC(), Revoked: ends.isRevoked(f), End: ends.end(f), Label: f.Label,
				Fingerprint: fingerprintOf(f.Token), Imported: f.Kind == factImported, Any: f.Any}
			c.Tokens = append(c.Tokens, t)
		}
		slices.SortFunc(c.Tokens, func(a, b CopiedToken) int {
			return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.KeyID, b.KeyID))
		})
		c.Tokens = firstOfEach(c.Tokens, func(t CopiedToken) [2]string { return [2]string{t.KeyID, t.Fingerprint} }) // a token of two incarnations is copied once
		for _, f := range l.revocationsToCopy(now) {
			c.Revocations = append(c.Revocations, CopiedRevocation{f.ID, *f.Revocation})
		}
		slices.SortFunc(c.Revocations, func(a, b CopiedRevocation) int {
			return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.Value(), b.Value()), strings.Compare(a.ID, b.ID)) // the same for every store
		})
	})
	return c
}

func fingerprintOf(token string) string { return (&Token{Secret: []byte(token)}).Fingerprint() }

// Check returns why a copy cannot have been made by a gateway.
func (c *Copy) Check() error {
	isTime := func(t time.Time) bool { return t.Unix() > 0 && t.UTC().Year() < 10_000 } // JSON has no others
	if c.Created != nil && !isTime(*c.Created) {
		return errors.New(`"created" is not a time at which a messenger can have been created`)
	}
	if len(c.Tokens) > 1000 || len(c.Revocations) > 2*MaxRevocations {
		return errors.New("it has more shared tokens or revocations than a messenger can have")
	}
	for i := range c.Tokens {
		t := &c.Tokens[i]
		if t.KeyID == "" || len(t.KeyID) > config.MaxKeyID || t.Fingerprint == "" || !isTime(t.Created) || t.Token != "" && fingerprintOf(t.Token) != t.Fingerprint {
			return fmt.Errorf("shared token number %d is incomplete, or does not have this fingerprint", i+1)
		}
		if err := CheckLabel(t.Label); err != nil {
			return fmt.Errorf("the label of shared token number %d %w", i+1, err)
		}
	}
	for i := range c.Revocations {
		v := &c.Revocations[i].Revocation
		if err := v.Check(); err != nil {
			return fmt.Errorf("revocation number %d: %w", i+1, err)
		}
		skew := time.Duration(v.Skew)
		if (v.Before == nil) != v.IsToken() || !isTime(v.Created) || skew < 0 || skew > config.MaxClockSkew || len(v.Contact) > authn.MaxIdentity || c.Revocations[i].ID == "" || len(c.Revocations[i].ID) > 4*idLength {
			return fmt.Errorf("revocation number %d is incomplete, or has a time or clock_skew that it cannot have", i+1)
		}
	}
	return nil
}

// IsAhead reports whether a copy has times that are far ahead. It cannot be imported before they have come: facts of this store would
// have to follow them.
func (c *Copy) IsAhead(now time.Time) bool {
	latest := now.Add(maxAhead)
	return c.Created != nil && c.Created.After(latest) ||
		slices.ContainsFunc(c.Tokens, func(t CopiedToken) bool { return t.Created.After(latest) }) ||
		slices.ContainsFunc(c.Revocations, func(v CopiedRevocation) bool { return v.Created.After(latest) })
}

// copiedID returns the ID of what is imported from a copy.
func (j *Journal) copiedID(what, id string, content any) string {
	text, _ := json.Marshal(content) // strings and times
	return hashOf(fmt.Sprintf("imported\x00%s\x00%s\x00%s\x00%s", j.Name, what, id, text), idLength)
}

// A Difference is what a copy has and a journal lacks.
type Difference struct {
	Facts       []*Fact
	Revocations int      // how many of the facts are
	Ends        int      // how many shared tokens are revoked by them, or get a time at which they expire
	Added       int      // how many shared tokens are added
	NotAdded    []string // the kids of those that are not, although the copy has their text

	// Incarnation is the one that an earlier import of this copy has begun, or "".
	Incarnation string
}

// Lacking returns what the current messenger lacks of a copy, or a new one if there is none.
func (j *Journal) Lacking(c *Copy, now time.Time) (d Difference, err error) {
	at := j.stamp(now)
	j.mu.Lock()
	defer j.mu.Unlock()
	l, isNew := newLedger(), true
	if current := j.current(); current != "" && j.ledgers[current] != nil {
		l, isNew = j.together(current), false
	}
	ledgers := []*ledger{l}
	if isNew && j.Kind == KindStored {
		if d.Incarnation = j.unfinished(c); d.Incarnation != "" {
			l = j.ledger(d.Incarnation)
			ledgers[0] = l
		}
		for _, former := range slices.Sorted(maps.Keys(j.ledgers)) { // of messengers that were deleted, as long as their facts are there
			ledgers = append(ledgers, j.together(former))
		}
	}
	copied := make(map[string]bool)
	revokes := l.revoking()
	for _, r := range c.Revocations {
		id := j.copiedID("revocation", r.ID, r.Revocation)
		if copied[id] {
			continue
		}
		copied[id] = true
		f := &Fact{ID: id, Kind: factRevoke, At: at, Of: []string{r.ID}, Revocation: &r.Revocation}
		if l.hasFact(id) || l.isUndone(f) || r.HasExpired(now.Add(-KeepUseless)) || revokes(r.ID, &r.Revocation) {
			continue
		}
		if !l.isCoveredByAny(f) {
			d.Facts, d.Revocations = append(d.Facts, f), d.Revocations+1
		}
	}
	if isNew && c.Created != nil { // what was revoked before this messenger was deleted
		d.addFormer(j, c, ledgers, copied, at)
	}
	l.setAside(now)
	n, size := len(l.revocations), l.size
	for _, f := range d.Facts {
		if !f.Revocation.HasExpired(now) {
			n, size = n+1, size+f.Revocation.Size()
		}
	}
	room := 1
	if isNew {
		room = 2 // as many as two incarnations of a messenger can have
	}
	if n > room*MaxRevocations+maxExtra || size > room*MaxRevocationText+maxExtra*revocation.Overhead {
		return d, fmt.Errorf("the messenger would have %d revocations, and there is no room for more than %d; undo some of them, or let tokens expire sooner (max_lifetime)", n, room*MaxRevocations)
	}
	d.addTokens(j, c, ledgers, copied, at, now)
	if d.Added > authn.MaxRing {
		return d, fmt.Errorf("the messenger would have %d valid shared tokens, and no more than %d can be used; revoke some of them in the other store", d.Added, authn.MaxRing)
	}
	for _, f := range d.Facts { // what cannot be read must not be written
		if f.check() != nil {
			return Difference{}, errors.New("a shared token or a revocation is not one that a gateway can have made")
		}
	}
	return d, nil
}

// unfinished returns the incarnation that an import of this copy has begun, and not ended, because the storage was too slow or went away: it
// has no settings, and nothing that the copy, or a messenger that was deleted, does not have. The caller holds mu.
func (j *Journal) unfinished(c *Copy) string {
	ids := make(map[string]bool)
	for _, r := range c.Revocations {
		ids[j.copiedID("revocation", r.ID, r.Revocation)] = true
	}
	for _, t := range c.Tokens {
		id := j.copiedID("token", t.KeyID, t.Fingerprint)
		ids[id], ids[j.copiedID("token_revoked", id, t.Fingerprint)] = true, true
		if t.End != nil {
			ids[j.copiedID("token_expiry", id, *t.End)] = true
		}
	}
	for incarnation, former := range j.ledgers {
		if !j.isDeleted(incarnation) {
			continue
		}
		for f := range former.active() { // see addFormer
			ids[j.copiedID("revocation", f.ID, *f.Revocation)] = true
		}
	}
	for _, incarnation := range slices.Sorted(maps.Keys(j.ledgers)) {
		l := j.ledgers[incarnation]
		begun := len(l.facts) > 0 && !j.isDeleted(incarnation)
		for id := range l.facts {
			begun = begun && ids[id]
		}
		if begun {
			return incarnation
		}
	}
	return ""
}

// maxExtra is for revocations of all tokens, which always fit.
const maxExtra = 100

// Batches divides facts into groups that can be written at a time, in their order. Valid tokens begin a group, because an import adds all
// of a messenger or none.
func Batches(facts []*Fact) [][]*Fact {
	before := WithoutValid(facts)
	return append(grouped(before, factOverhead), grouped(facts[len(before):], factOverhead)...)
}

// factOverhead is enough for what a fact has besides its settings, token or revocation, such as who made it, in bytes.
const factOverhead = 512

// WithoutValid returns the facts before the first valid token.
func WithoutValid(facts []*Fact) []*Fact {
	revoked := make(map[string]bool)
	for _, f := range facts {
		if f.Kind == factRevoked {
			addAll(revoked, f.Of)
		}
	}
	valid := slices.IndexFunc(facts, func(f *Fact) bool { return f.isToken() && !revoked[f.ID] })
	if valid < 0 {
		return facts
	}
	return facts[:valid]
}

// grouped divides facts into groups. each is how many bytes a fact has besides its settings, token or revocation. The groups of an old
// record must be the same on all nodes; see carry.go.
func grouped(facts []*Fact, each int) (groups [][]*Fact) {
	size := 0
	for _, f := range facts {
		more := len(f.Settings) + len(f.Token) + each
		if f.Revocation != nil {
			more += f.Revocation.Size()
		}
		if size += more; len(groups) == 0 || size > maxGroup || len(groups[len(groups)-1]) >= 256 {
			groups, size = append(groups, nil), more
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], f)
	}
	return groups
}

// maxGroup is how many bytes the facts of one group have.
const maxGroup = 256 << 10

// IsUnfinished reports whether the journal has nothing wrong except that a messenger has facts and no settings: an import ended in
// between.
func (j *Journal) IsUnfinished() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.recordErr == nil && len(j.bad) == 0 && j.current() == ""
}

// Current returns the incarnation that counts, or "".
func (j *Journal) Current() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.current()
}
