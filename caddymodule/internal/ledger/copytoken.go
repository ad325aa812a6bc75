package ledger

import (
	"cmp"
	"time"
)

// A knownToken is what a ledger says of a shared token, whatever its ID is.
type knownToken struct {
	id      string // the smallest
	revoked bool
	end     *time.Time
}

// byFingerprint returns the shared tokens of l and its siblings.
func (l *ledger) byFingerprint() map[string]knownToken {
	known, ends := make(map[string]knownToken), l.endings()
	for f := range l.allTokens() {
		fingerprint := fingerprintOf(f.Token)
		if before, found := known[fingerprint]; !found || f.ID < before.id {
			known[fingerprint] = knownToken{f.ID, ends.isRevoked(f), ends.end(f)}
		}
	}
	return known
}

// addTokens adds what a copy says about shared tokens. ledgers are the one that they are added to, and those of deleted messengers; copied
// are the IDs of what else the copy has.
func (d *Difference) addTokens(j *Journal, c *Copy, ledgers []*ledger, copied map[string]bool, at, now time.Time) {
	revoked := make(map[string]bool)
	for _, t := range c.Tokens {
		revoked[t.Fingerprint] = revoked[t.Fingerprint] || t.Revoked
	}
	for i := range c.Tokens { // what may be there of its tokens before those that are valid
		t := &c.Tokens[i]
		t.Revoked = revoked[t.Fingerprint]
		id := j.copiedID("token", t.KeyID, t.Fingerprint)
		copied[j.copiedID("token_revoked", id, t.Fingerprint)] = true
		if t.End != nil {
			copied[j.copiedID("token_expiry", id, *t.End)] = true
		}
		copied[id] = copied[id] || t.Revoked
	}
	mayAdd := true // whether there never was a token here: the valid tokens of a copy are written last, and all at a time
	for id, f := range ledgers[0].facts {
		mayAdd = mayAdd && (copied[id] || j.Kind == KindRing && (f.Kind == factRevoke || f.Kind == factUndo))
	}
	var known []map[string]knownToken
	for _, of := range ledgers {
		known = append(known, of.byFingerprint())
	}
	var valid []*Fact
	for _, t := range c.Tokens {
		valid = append(valid, d.addToken(j, t, ledgers[0], known, mayAdd, at, now)...)
	}
	d.Facts = append(d.Facts, valid...)
}

// addToken adds what a copy says about one shared token, and returns the facts of one that is valid, which are written after all others.
// known are the tokens of l, to which it is added, and then those of deleted messengers.
func (d *Difference) addToken(j *Journal, t CopiedToken, l *ledger, known []map[string]knownToken, mayAdd bool, at, now time.Time) (valid []*Fact) {
	if k, found := known[0][t.Fingerprint]; found {
		switch {
		case k.revoked:
		case t.Revoked:
			d.end(&Fact{ID: j.copiedID("token_revoked", k.id, t.Fingerprint), Kind: factRevoked, At: at, Of: []string{k.id}, Fingerprints: []string{t.Fingerprint}})
		case t.End != nil && k.end == nil:
			d.end(&Fact{ID: j.copiedID("token_expiry", k.id, *t.End), Kind: factExpiry, At: at, Of: []string{k.id}, End: t.End, Fingerprints: []string{t.Fingerprint}})
		}
		return nil
	}
	for _, former := range known[1:] {
		k := former[t.Fingerprint]
		t.Revoked = t.Revoked || k.revoked
		t.End = cmp.Or(t.End, k.end)
	}
	expired := t.End != nil && !now.Before(*t.End)
	token := &Fact{ID: j.copiedID("token", t.KeyID, t.Fingerprint), Kind: factToken, At: t.Created, KeyID: t.KeyID, Token: t.Token, Label: t.Label,
		Knows: l.resetIDs(), Keep: j.Kind == KindRing}
	if t.Imported {
		token.Kind, token.Any = factImported, t.Any
	}
	if j.Kind == KindStored {
		token.Number = 1 // of the settings with which the messenger is made
	}
	revoked := &Fact{ID: j.copiedID("token_revoked", token.ID, t.Fingerprint), Kind: factRevoked, At: at, Of: []string{token.ID}, Fingerprints: []string{t.Fingerprint}, Keep: token.Keep}
	var expiry *Fact
	if t.End != nil {
		expiry = &Fact{ID: j.copiedID("token_expiry", token.ID, *t.End), Kind: factExpiry, At: at, Of: []string{token.ID}, End: t.End, Fingerprints: []string{t.Fingerprint}, Keep: token.Keep}
	}
	// A token that is over is not here. An older file, or a node that still knows it, may bring it: it is written down that it is over, but
	// not for each file again in a stored messenger that is there. A secret that a site brought is written as well, so that it is not
	// accepted again; its revocation is first.
	remembered := t.Imported && t.Token != ""
	switch {
	case t.Revoked:
		if (j.Kind == KindRing || remembered || mayAdd) && !l.hasFact(revoked.ID) {
			d.end(revoked)
		}
		if remembered {
			d.Facts = append(d.Facts, token)
		}
		return nil
	case expired, t.Token == "":
		if expiry != nil && (j.Kind == KindRing || mayAdd) && !l.hasFact(expiry.ID) {
			d.end(expiry)
		}
		return nil
	case l.any(func(of *ledger) bool { return of.revoked[token.ID] || of.ends.revoked[t.Fingerprint] }):
		return nil
	case !mayAdd:
		d.NotAdded = append(d.NotAdded, t.KeyID)
		return nil
	}
	d.Added++
	if expiry == nil {
		return []*Fact{token}
	}
	return []*Fact{token, expiry}
}

// end adds the end of a shared token.
func (d *Difference) end(f *Fact) { d.Facts, d.Ends = append(d.Facts, f), d.Ends+1 }
