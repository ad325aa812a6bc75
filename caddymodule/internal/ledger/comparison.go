package ledger

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/authn"
	"github.com/messengerauth/caddy-messenger-auth/caddymodule/internal/revocation"
)

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

// A comparison of a journal with a copy finds what the journal lacks.
type comparison struct {
	*Journal
	copy    *Copy
	into    *ledger         // that of the current messenger, or of the one that the copy makes
	isNew   bool            // the copy makes it
	former  []*ledger       // of messengers that were deleted, as long as their facts are there, if the copy makes a stored one
	at, now time.Time       // of the facts that are made
	copied  map[string]bool // the IDs of what the copy says, and of what it may have left behind when its import ended in between

	found Difference
}

// Lacking returns what the current messenger lacks of a copy, or a new one if there is none.
func (j *Journal) Lacking(c *Copy, now time.Time) (Difference, error) {
	at := j.stamp(now)
	j.mu.Lock()
	defer j.mu.Unlock()
	p := &comparison{Journal: j, copy: c, into: newLedger(), isNew: true, at: at, now: now, copied: make(map[string]bool)}
	if current := j.current(); current != "" && j.ledgers[current] != nil {
		p.into, p.isNew = j.together(current), false
	}
	if p.isNew && j.Kind == KindStored {
		if p.found.Incarnation = j.unfinished(c); p.found.Incarnation != "" {
			p.into = j.ledger(p.found.Incarnation)
		}
		if j.hasOrphans(p.found.Incarnation, now) {
			return p.found, errors.New("the storage has revocations of a messenger of this name without its settings; if it has lost these, write them back with repair, on a node that knows them; if another import has ended half-way, delete the messenger and import with --replace")
		}
		for _, former := range slices.Sorted(maps.Keys(j.ledgers)) {
			p.former = append(p.former, j.together(former))
		}
	}
	p.compareRevocations()
	if p.isNew && c.Created != nil {
		p.bringRevocationsBack()
	}
	if err := p.checkRoom(); err != nil {
		return p.found, err
	}
	p.compareTokens()
	if p.found.Added > authn.MaxRing {
		return p.found, fmt.Errorf("the messenger would have %d valid shared tokens, and no more than %d can be used; revoke some of them in the other store", p.found.Added, authn.MaxRing)
	}
	for _, f := range p.found.Facts { // what cannot be read must not be written
		if f.check() != nil {
			return Difference{}, errors.New("a shared token or a revocation is not one that a gateway can have made")
		}
	}
	return p.found, nil
}

// hasOrphans reports whether the storage has what restricts a messenger whose settings it has lost: nothing brings that to the one that
// the copy makes. begun is what an import of the copy has begun. The caller holds mu.
func (j *Journal) hasOrphans(begun string, now time.Time) bool {
	for incarnation, l := range j.ledgers {
		if incarnation == begun || len(l.versions) > 0 || j.isDeleted(incarnation) {
			continue
		}
		for _, f := range l.facts {
			if f.Kind == factRevoke && !f.Revocation.HasExpired(now.Add(-KeepUseless)) || f.Kind == factRevoked || f.Kind == factReset {
				return true
			}
		}
	}
	return false
}

// revoke adds a revocation, which has the ID of in another store or of a messenger that was deleted.
func (p *comparison) revoke(id, of string, v *revocation.Revocation) {
	p.found.Facts = append(p.found.Facts, &Fact{ID: id, Kind: factRevoke, At: p.at, Of: []string{of}, Revocation: v})
	p.found.Revocations++
}

// compareRevocations adds the revocations that are lacking.
func (p *comparison) compareRevocations() {
	revokes := p.into.revoking()
	for _, r := range p.copy.Revocations {
		id := p.copiedID("revocation", r.ID, r.Revocation)
		if p.copied[id] {
			continue
		}
		p.copied[id] = true
		f := &Fact{ID: id, Kind: factRevoke, Of: []string{r.ID}, Revocation: &r.Revocation}
		if p.into.hasFact(id) || p.into.isUndone(f) || r.HasExpired(p.now.Add(-KeepUseless)) || revokes(r.ID, &r.Revocation) || p.into.isCoveredByAny(f) {
			continue
		}
		p.revoke(id, r.ID, &r.Revocation)
	}
}

// bringRevocationsBack adds the revocations that a messenger had which was deleted, and which the copy brings back.
func (p *comparison) bringRevocationsBack() {
	for _, l := range p.former {
		if v := l.version(); v == nil || !v.Created.Equal(*p.copy.Created) {
			continue
		}
		for f := range l.allActive() {
			id := p.copiedID("revocation", f.ID, *f.Revocation)
			known := p.copied[id] || p.copied[f.ID] || p.into.hasFact(id)
			if p.copied[id] = true; !known {
				p.revoke(id, f.ID, f.Revocation)
			}
		}
	}
}

// maxExtra is for revocations of all tokens, which always fit.
const maxExtra = 100

// checkRoom returns an error if the messenger would have too many revocations.
func (p *comparison) checkRoom() error {
	p.into.setAside(p.now)
	n, size := len(p.into.revocations), p.into.size
	for _, f := range p.found.Facts {
		if !f.Revocation.HasExpired(p.now) {
			n, size = n+1, size+f.Revocation.Size()
		}
	}
	room := 1
	if p.isNew {
		room = 2 // as many as two incarnations of a messenger can have
	}
	if n > room*MaxRevocations+maxExtra || size > room*MaxRevocationText+maxExtra*revocation.Overhead {
		return fmt.Errorf("the messenger would have %d revocations, and there is no room for more than %d; undo some of them, or let tokens expire sooner (max_lifetime)", n, room*MaxRevocations)
	}
	return nil
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
		for f := range former.active() { // see bringRevocationsBack
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
