package ledger

import "time"

// addToken adds what a copy says about one shared token, and returns the facts of one that is valid, which are written after all others.
// ledgers are the current one, and those of deleted messengers.
func (d *Difference) addToken(j *Journal, t CopiedToken, ledgers []*ledger, mayAdd bool, at, now time.Time) (valid []*Fact) {
	expired := t.End != nil && !now.Before(*t.End)
	for i, l := range ledgers {
		for id, f := range l.tokens {
			if fingerprintOf(f.Token) != t.Fingerprint {
				continue
			}
			end, ends := l.expiry[id]
			gone := l.revoked[id] || l.isReset(f)
			if i > 0 { // of a deleted messenger
				t.Revoked = t.Revoked || gone
				if ends && t.End == nil {
					t.End, expired = &end, !now.Before(end)
				}
				continue
			}
			switch {
			case gone:
			case t.Revoked:
				d.Facts, d.Ends = append(d.Facts, &Fact{ID: j.copiedID("token_revoked", id, t.Fingerprint), Kind: factRevoked, At: at, Of: []string{id}}), d.Ends+1
			case t.End != nil && !ends:
				d.Facts, d.Ends = append(d.Facts, &Fact{ID: j.copiedID("token_expiry", id, *t.End), Kind: factExpiry, At: at, Of: []string{id}, End: t.End}), d.Ends+1
			}
			return
		}
	}
	token := &Fact{ID: j.copiedID("token", t.KeyID, t.Fingerprint), Kind: factToken, At: t.Created, KeyID: t.KeyID, Token: t.Token, Label: t.Label,
		Knows: ledgers[0].resetIDs(), Keep: j.Kind == KindRing}
	if t.Imported {
		token.Kind, token.Any = factImported, t.Any
	}
	if j.Kind == KindStored {
		token.Number = 1 // of the settings with which the messenger is made
	}
	switch {
	case t.Revoked:
		d.addRevoked(j, t, token, ledgers[0], at)
		return nil
	case expired, t.Token == "", ledgers[0].revoked[token.ID]:
		return nil
	case !mayAdd:
		d.NotAdded = append(d.NotAdded, t.KeyID)
		return nil
	}
	d.Added++
	valid = append(valid, token)
	if t.End != nil {
		valid = append(valid, &Fact{ID: j.copiedID("token_expiry", token.ID, *t.End), Kind: factExpiry, At: at, Of: []string{token.ID}, End: t.End, Keep: token.Keep})
	}
	return valid
}

// addRevoked adds that a token is revoked which is not here. An older file may bring it; a stored messenger takes none from that, because
// it has settings by then. A secret that a site brought is added as well, so that it is not accepted again. Its revocation is first.
func (d *Difference) addRevoked(j *Journal, t CopiedToken, token *Fact, l *ledger, at time.Time) {
	remembered := t.Imported && t.Token != ""
	if j.Kind == KindStored && !remembered {
		return
	}
	revoked := &Fact{ID: j.copiedID("token_revoked", token.ID, t.Fingerprint), Kind: factRevoked, At: at, Of: []string{token.ID}, Keep: token.Keep}
	if l.facts[revoked.ID] == nil {
		d.Facts, d.Ends = append(d.Facts, revoked), d.Ends+1
	}
	if remembered {
		d.Facts = append(d.Facts, token)
	}
}
