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

// compareTokens adds what is lacking of what the copy says about shared tokens. The valid ones are added last, and are written all at a time.
func (p *comparison) compareTokens() {
	revoked := make(map[string]bool)
	for _, t := range p.copy.Tokens {
		revoked[t.Fingerprint] = revoked[t.Fingerprint] || t.Revoked
	}
	for i := range p.copy.Tokens { // what may be there of its tokens before those that are valid
		t := &p.copy.Tokens[i]
		t.Revoked = revoked[t.Fingerprint]
		id := p.copiedID("token", t.KeyID, t.Fingerprint)
		p.copied[p.copiedID("token_revoked", id, t.Fingerprint)] = true
		if t.End != nil {
			p.copied[p.copiedID("token_expiry", id, *t.End)] = true
		}
		p.copied[id] = p.copied[id] || t.Revoked
	}
	mayAdd, known := p.hasNeverHadTokens(), p.into.byFingerprint()
	var former []map[string]knownToken
	for _, l := range p.former {
		former = append(former, l.byFingerprint())
	}
	var valid []*Fact
	for _, t := range p.copy.Tokens {
		if k, found := known[t.Fingerprint]; found {
			p.end(k, t)
			continue
		}
		for _, tokens := range former {
			k := tokens[t.Fingerprint]
			t.Revoked = t.Revoked || k.revoked
			t.End = cmp.Or(t.End, k.end)
		}
		valid = append(valid, p.addToken(t, mayAdd)...)
	}
	p.found.Facts = append(p.found.Facts, valid...)
}

// hasNeverHadTokens reports whether there never was a token here.
func (p *comparison) hasNeverHadTokens() bool {
	for id, f := range p.into.facts {
		if !p.copied[id] && !(p.Kind == KindRing && (f.Kind == factRevoke || f.Kind == factUndo)) {
			return false
		}
	}
	return true
}

// end adds what the copy says about the end of a token that is here.
func (p *comparison) end(k knownToken, t CopiedToken) {
	switch {
	case k.revoked:
	case t.Revoked:
		p.addEnd(p.revocationOf(k.id, t))
	case t.End != nil && k.end == nil:
		p.addEnd(p.expiryOf(k.id, t))
	}
}

// revocationOf returns the fact that the token t of the copy, which has this ID here, is revoked.
func (p *comparison) revocationOf(id string, t CopiedToken) *Fact {
	return &Fact{ID: p.copiedID("token_revoked", id, t.Fingerprint), Kind: factRevoked, At: p.at, Of: []string{id}, Fingerprints: []string{t.Fingerprint}}
}

// expiryOf returns the fact that the token t of the copy, which has this ID here, expires.
func (p *comparison) expiryOf(id string, t CopiedToken) *Fact {
	return &Fact{ID: p.copiedID("token_expiry", id, *t.End), Kind: factExpiry, At: p.at, Of: []string{id}, End: t.End, Fingerprints: []string{t.Fingerprint}}
}

func (p *comparison) addEnd(f *Fact) {
	p.found.Facts, p.found.Ends = append(p.found.Facts, f), p.found.Ends+1
}

// addToken adds what the copy says about one shared token that is not here, and returns the facts of one that is valid.
func (p *comparison) addToken(t CopiedToken, mayAdd bool) (valid []*Fact) {
	token := &Fact{ID: p.copiedID("token", t.KeyID, t.Fingerprint), Kind: factToken, At: t.Created, KeyID: t.KeyID, Token: t.Token, Label: t.Label,
		Knows: p.into.resetIDs(), Keep: p.Kind == KindRing}
	if t.Imported {
		token.Kind, token.Any = factImported, t.Any
	}
	if p.Kind == KindStored {
		token.Number = 1 // of the settings with which the messenger is made
	}
	revoked := p.revocationOf(token.ID, t)
	revoked.Keep = token.Keep
	var expiry *Fact
	if t.End != nil {
		expiry = p.expiryOf(token.ID, t)
		expiry.Keep = token.Keep
	}
	// A token that is over is not here. An older file, or a node that still knows it, may bring it: it is written down that it is over, but
	// not for each file again in a stored messenger that is there. A secret that a site brought is written as well, so that it is not
	// accepted again; its revocation is first.
	remembered := t.Imported && t.Token != ""
	switch {
	case t.Revoked:
		if (p.Kind == KindRing || remembered || mayAdd) && !p.into.hasFact(revoked.ID) {
			p.addEnd(revoked)
		}
		if remembered {
			p.found.Facts = append(p.found.Facts, token)
		}
		return nil
	case expiry != nil && !p.now.Before(*t.End), t.Token == "":
		if expiry != nil && (p.Kind == KindRing || mayAdd) && !p.into.hasFact(expiry.ID) {
			p.addEnd(expiry)
		}
		return nil
	case p.into.any(func(of *ledger) bool { return of.revoked[token.ID] || of.ends.revoked[t.Fingerprint] }):
		return nil
	case !mayAdd:
		p.found.NotAdded = append(p.found.NotAdded, t.KeyID)
		return nil
	}
	p.found.Added++
	if expiry == nil {
		return []*Fact{token}
	}
	return []*Fact{token, expiry}
}
